"""What is made once, however many processes the tests run in, and taken a copy of by whoever changes it."""

import gc
import os
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import pytest
from alembic.script import ScriptDirectory
from filelock import FileLock
from matplotlib.backends.backend_agg import FigureCanvasAgg

RENDER = FigureCanvasAgg.draw


def render_nothing(canvas: FigureCanvasAgg) -> None:
    """Leave a picture blank: rendering takes a third of a refresh."""
    canvas.get_renderer()


def open_histories_quickly(patch: pytest.MonkeyPatch) -> None:
    """Let Dagster keep what it makes anew for every event it stores, and what it parses anew for every database.

    That is an engine of SQLAlchemy with its compiled statements, and the list of its migrations: a third of a refresh.
    Engines hold no connection, so databases are opened and closed as ever.
    """
    patch.setattr(ScriptDirectory, "from_config", cache(ScriptDirectory.from_config))
    with TemporaryDirectory() as folder, dg.DagsterInstance.local_temp(folder) as instance:
        storages = (instance.event_log_storage, instance.run_storage, instance.schedule_storage)
        for module in (sys.modules[type(storage).__module__] for storage in storages):
            patch.setattr(module, "create_engine", _kept(vars(module)["create_engine"]))


def _kept(create: Callable[..., Any]) -> Callable[..., Any]:
    made: dict[str, Any] = {}

    def engine(address: str, **options: Any) -> Any:
        if address not in made:
            if len(made) > 20:
                made.clear()
            made[address] = create(address, **options)
        return made[address]

    return engine


def forget_what_stays() -> None:
    """Let the garbage collector look only at what comes from here on.

    Every training collects garbage several times, and each time looks at all that torch, transformers and Dagster
    made when they were imported: half of a refresh.
    """
    gc.collect()
    gc.freeze()


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first who asks for it fills; the others wait."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    done = folder.with_name(f"{name}.done")
    with FileLock(folder.with_name(f"{name}.lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def copied(settings: Path, folder: Path, *, history: bool = True) -> Path:
    """The settings file of a copy of a project, with or without Dagster's history: a lake moves with its project."""
    shutil.copytree(settings.parent, folder, ignore=None if history else shutil.ignore_patterns(".dagster"))
    return folder / settings.name
