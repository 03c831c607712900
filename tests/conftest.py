"""Shared fixtures: a tiny random model with a real tokenizer, and projects with two domains, new and refreshed."""

import gc
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models gain nothing from threads, and tests run side by side
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may ask a hub for anything

from support.models import write_tiny_model
from support.processes import Commands
from support.projects import Undisturbed, payload, write_project
from support.runs import computed, own_instance, refresh, run
from support.shared import RENDER, copied, forget_what_stays, made_once, open_histories_quickly, render_nothing


@pytest.fixture(scope="session", autouse=True)
def _pictures_are_blank_and_histories_quick() -> Iterator[None]:
    """Pictures unless a test asks for `rendered`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasAgg, "draw", render_nothing)
        open_histories_quickly(patch)
        yield
    gc.unfreeze()


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are what people see."""
    monkeypatch.setattr(FigureCanvasAgg, "draw", RENDER)


@pytest.fixture(scope="module", autouse=True)
def _what_was_imported_is_no_garbage() -> None:
    forget_what_stays()


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own project must not steer a test."""
    for name in ("G2IS_HOME", "G2IS_CONFIG", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a two-layer Llama of random weights and a byte-level BPE tokenizer with a ChatML template."""
    return made_once(tmp_path_factory, "model", write_tiny_model)


@pytest.fixture
def make_project(tiny_model: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a fresh project under a name and returns its settings file."""
    return lambda name="project": write_project(tmp_path / name, tiny_model)


@pytest.fixture(scope="session")
def undisturbed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A project in which one domain was refreshed after the other, pictures and all; not to be changed."""

    def make(folder: Path) -> None:
        shutil.copytree(tiny_model, folder / "sums" / tiny_model.name)
        before = write_project(folder / "sums", Path(tiny_model.name))
        (before.parent / "domains" / "sums" / "domain.toml").write_text('title = "Sums"\n')
        forget_what_stays()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FigureCanvasAgg, "draw", RENDER)
            done = computed(*refresh(before, "sums"))
            settings = copied(before, folder / "both")
            with own_instance(settings) as instance:
                done |= computed(run(settings, instance, "refresh_domain", "words"))
        (folder / "computed.json").write_text(json.dumps(done))

    folder = made_once(tmp_path_factory, "undisturbed", make)
    settings, before = (folder / name / "g2is.toml" for name in ("both", "sums"))
    digests = (payload(file.parent / "lake") for file in (before, settings))
    return Undisturbed(settings, before, *digests, json.loads((folder / "computed.json").read_text()))


@pytest.fixture(scope="session")
def refreshed(undisturbed: Undisturbed) -> Path:
    """Settings file of a project whose domain `sums` was refreshed; not to be changed."""
    return undisturbed.settings_before


@pytest.fixture
def copy(refreshed: Path, tmp_path: Path) -> Path:
    """The same to do with as a test likes."""
    return copied(refreshed, tmp_path / "copy")


@pytest.fixture
def built(undisturbed: Undisturbed, tmp_path: Path) -> Path:
    """Settings file of a copy of a project with both domains refreshed."""
    return copied(undisturbed.settings, tmp_path / "built")


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Starts children; what still runs after the test is killed."""
    started = Commands(tmp_path)
    yield started
    started.end()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An ephemeral Dagster instance, disposed afterwards."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral
