"""Running a job of the definitions in this process, with progress in the terminal."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from g2is_assets.progress import show_on
from g2is_assets.settings.project import Project

if TYPE_CHECKING:
    import dagster as dg

QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def watch_steps() -> None:
    """Show the progress of steps on the terminal, without the libraries' notes about their own future."""
    import dagster as dg

    # A copy of the stream, since Dagster captures the original while a step runs.
    show_on(Console(file=os.fdopen(os.dup(2), "w", encoding="utf-8")))
    for category in (FutureWarning, dg.BetaWarning, dg.PreviewWarning, dg.SupersessionWarning):
        warnings.filterwarnings("ignore", category=category)
    warnings.filterwarnings("ignore", category=UserWarning, module="peft")


_loaded: "dict[str, dg.Definitions]" = {}
"""Definitions of the run under way, by settings file: Dagster asks for its job several times."""


def job_of(config: str, name: str) -> "dg.JobDefinition":
    """A job of a project, by name: how Dagster finds it."""
    from g2is_assets.orchestration.definitions import build_defs

    return (_loaded.get(config) or build_defs(config)).resolve_job_def(name)


def run_job(instance: "dg.DagsterInstance", project: Project, job: str, tags: dict[str, str]) -> None:
    """Run a job in this process, with the executor of the definitions, and raise what its steps raise."""
    import dagster as dg

    from g2is_assets.orchestration.definitions import build_defs

    where = {"config": str(project.path), "name": job}
    found = dg.build_reconstructable_job("g2is_assets.cli.jobs", "job_of", reconstructable_kwargs=where)
    try:
        _loaded[where["config"]] = build_defs(project.path)
        with held_interrupts(), interrupts_that_count():
            dg.execute_job(found, instance=instance, run_config=QUIET, tags=tags, raise_on_error=True)
    except dg.DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None
    finally:
        _loaded.clear()


@contextmanager
def held_interrupts() -> Iterator[None]:
    """Hear Ctrl-C where a step works or waits, not in the middle of writing to Dagster's database.

    While a step works Dagster has its own handler; between two, this one notes it, and no further step begins.
    """
    from g2is_assets.orchestration.assets import STOPPED

    before = signal.signal(signal.SIGINT, lambda *_: STOPPED.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        stopped = STOPPED.is_set()
        STOPPED.clear()
    if stopped:
        raise KeyboardInterrupt


@contextmanager
def interrupts_that_count() -> Iterator[None]:
    """Send a Ctrl-C again that fell into a finaliser, where Python prints what is raised and goes on."""
    import dagster as dg

    usual = sys.unraisablehook

    def look(lost: Any) -> None:
        if isinstance(lost.exc_value, KeyboardInterrupt | dg.DagsterExecutionInterruptedError):
            # Not from here: this too is called in the finaliser.
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            usual(lost)

    sys.unraisablehook = look
    try:
        yield
    finally:
        sys.unraisablehook = usual
