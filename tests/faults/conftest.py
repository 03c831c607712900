"""Shared by the tests of faults: commands in processes of their own, and a project that ran undisturbed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.processes import Commands
from support.projects import Undisturbed, payload, write_project


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Starts children; what still runs after the test is killed."""
    started = Commands(tmp_path)
    yield started
    started.end()


@pytest.fixture(scope="session")
def undisturbed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Made once; tests that change something take a copy."""
    root = tmp_path_factory.mktemp("undisturbed")
    settings, started = write_project(root / "project", tiny_model), Commands(root)
    ended = []
    for domain in ("sums", "words"):
        started.refresh(settings, domain)
        ended.append(payload(settings.parent / "lake"))
    return Undisturbed(settings, *ended)


@pytest.fixture
def fresh(tiny_model: Path, tmp_path: Path) -> Path:
    """The settings file of a project in which nothing has run."""
    return write_project(tmp_path / "fresh", tiny_model)


@pytest.fixture
def built(undisturbed: Undisturbed, tmp_path: Path) -> Path:
    """The settings file of a copy of the project that ran undisturbed, without Dagster's history."""
    source = undisturbed.settings.parent
    shutil.copytree(source, tmp_path / "built", ignore=shutil.ignore_patterns(".dagster"))
    return tmp_path / "built" / undisturbed.settings.name
