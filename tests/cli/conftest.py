"""A project that was refreshed for real, once for all files that only look at one or take a copy."""

import shutil
from pathlib import Path

import pytest

from g2is_assets.cli.jobs import open_instance
from g2is_assets.orchestration.definitions import build_defs
from g2is_assets.settings.project import load_project
from support.projects import write_project

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def refresh(settings: Path, *domains: str) -> None:
    """Refresh the pool and these domains on the project's own instance, as the command line does."""
    definitions = build_defs(settings)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DAGSTER_HOME", "")
        environment.setenv("G2IS_CONFIG", "")
        with open_instance(load_project(settings)) as instance:
            for domain in (None, *domains):
                job = definitions.resolve_job_def("refresh_domain" if domain else "refresh_pool")
                job.execute_in_process(instance=instance, run_config=QUIET, partition_key=domain)


@pytest.fixture(scope="session")
def refreshed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings file of a project whose domain `sums` was refreshed; not to be changed."""
    root = tmp_path_factory.mktemp("refreshed") / "project"
    shutil.copytree(tiny_model, root / "model")
    settings = write_project(root, Path("model"))
    refresh(settings, "sums")
    return settings


@pytest.fixture
def refreshed_copy(refreshed: Path, tmp_path: Path) -> Path:
    """The same to do with as a test likes."""
    shutil.copytree(refreshed.parent, tmp_path / "project")
    return tmp_path / "project" / refreshed.name
