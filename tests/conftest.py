"""Shared fixtures: a tiny random model with a real tokenizer, and a project with two domains, one of them broken."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.models import write_tiny_model
from support.projects import write_project

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models gain nothing from threads, and tests run side by side
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may ask a hub for anything


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a two-layer Llama of random weights and a byte-level BPE tokenizer with a ChatML template."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own project must not steer a test."""
    for name in ("G2IS_HOME", "G2IS_CONFIG", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make_project(tiny_model: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a fresh project under a name and returns its settings file."""
    return lambda name="project": write_project(tmp_path / name, tiny_model)


@pytest.fixture
def instance() -> Iterator[object]:
    """An ephemeral Dagster instance, disposed afterwards."""
    import dagster as dg

    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral
