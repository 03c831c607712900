"""Jobs of a project's definitions, run in this process."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from g2is_assets.cli.jobs import open_instance
from g2is_assets.orchestration.definitions import build_defs
from g2is_assets.settings.project import load_project
from g2is_assets.stages.catalog import refreshed

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run(
    settings: Path,
    instance: dg.DagsterInstance,
    job: str,
    key: Any = None,
    *,
    ops: dict[str, Any] | None = None,
    **options: Any,
) -> dg.ExecuteInProcessResult:
    """Run a job of the definitions as they are now, for a partition if one is given."""
    config = QUIET | ({"ops": ops} if ops else {})
    found = build_defs(settings).resolve_job_def(job)
    gc.freeze()  # every training collects garbage: what is here by now is none, or is little
    return found.execute_in_process(instance=instance, run_config=config, partition_key=key, **options)


def run_all(settings: Path, instance: dg.DagsterInstance, *domains: str) -> list[dg.ExecuteInProcessResult]:
    """Refresh the pool, then these domains."""
    jobs = [("refresh_pool", None), *(("refresh_domain", domain) for domain in domains)]
    return [run(settings, instance, job, domain) for job, domain in jobs]


def select(settings: Path, instance: dg.DagsterInstance, domain: str) -> dg.ExecuteInProcessResult:
    """Refresh a domain up to its subset, without training on it."""
    keys = [dg.AssetKey(stage.key.split("/")) for stage in refreshed("domain")]
    before = keys[: keys.index(dg.AssetKey(["selection", "subset"])) + 1]
    return run(settings, instance, "refresh_domain", domain, asset_selection=before)


def computed(*results: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """Of every asset and partition that these runs materialised, whether it did work."""
    events = [event for result in results for event in result.get_asset_materialization_events()]
    made = [event.step_materialization_data.materialization for event in events]
    names = [m.asset_key.to_user_string() + (f"[{m.partition}]" if m.partition else "") for m in made]
    return {name: bool(m.metadata["g2is/computed"].value) for name, m in zip(names, made, strict=True)}


@contextmanager
def own_instance(settings: Path) -> Iterator[dg.DagsterInstance]:
    """The project's own instance, opened as the command line opens it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DAGSTER_HOME", "")
        environment.setenv("G2IS_CONFIG", "")
        with open_instance(load_project(settings)) as instance:
            yield instance


def refresh(settings: Path, *domains: str) -> list[dg.ExecuteInProcessResult]:
    """Refresh the pool and these domains on the project's own instance."""
    with own_instance(settings) as instance:
        return run_all(settings, instance, *domains)


def refresh_subset(settings: Path, domain: str) -> None:
    """Refresh the pool and a domain up to its subset on the project's own instance."""
    with own_instance(settings) as instance:
        run_all(settings, instance)
        select(settings, instance, domain)
