"""Shared by the tests of faults: projects for commands in processes of their own."""

from pathlib import Path

import pytest

from support.projects import Undisturbed, write_instance, write_project
from support.shared import copied


@pytest.fixture
def fresh(tiny_model: Path, tmp_path: Path) -> Path:
    """The settings file of a project in which nothing has run."""
    return write_project(tmp_path / "fresh", tiny_model)


@pytest.fixture
def built(undisturbed: Undisturbed, tmp_path: Path) -> Path:
    """The settings file of a copy of the project that ran undisturbed, without Dagster's history."""
    settings = copied(undisturbed.settings, tmp_path / "built", history=False)
    write_instance(settings.parent)
    return settings
