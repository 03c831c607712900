"""Jobs run in this process, with progress in the terminal, in the project's persistent Dagster instance."""

import os
import signal
import socket
import sqlite3
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import dagster as dg
from filelock import FileLock

from g2is_assets.errors import StoreError
from g2is_assets.orchestration.assets import STOPPED
from g2is_assets.orchestration.definitions import build_defs
from g2is_assets.orchestration.runs import INTERRUPTS, end_dead_runs
from g2is_assets.progress import say, show_on
from g2is_assets.reports.terminal import Terminal
from g2is_assets.settings.project import Project
from g2is_assets.store.files import write_atomically, writing

HEARD: Final = "Stopping after the batch at hand, in up to half a minute; what is finished is kept."
QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
COPIED: Final = frozenset({"index.db", "runs.db", "schedules.db"})
"""Databases of an instance that tell of all runs; beside them, every run has one of its own."""
SHIPPED: Final = Path(__file__).parents[1] / "orchestration" / "dagster.yaml"

_loaded: dict[str, dg.Definitions] = {}
"""Definitions of the run under way, by settings file: Dagster asks for its job several times."""


def prepare_instance(project: Project) -> Path:
    """Make `<home>/.dagster` with the shipped `dagster.yaml` and point this process and its children to it."""
    folder = project.home / ".dagster"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / SHIPPED.name).exists():
            write_atomically(folder / SHIPPED.name, SHIPPED.read_text(encoding="utf-8"))
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ["G2IS_CONFIG"] = str(project.path)
    return folder


@contextmanager
def open_instance(project: Project) -> Iterator[dg.DagsterInstance]:
    """The project's instance, made if there is none yet, after runs of killed processes were ended in it."""
    folder = prepare_instance(project)
    with writing(folder), ExitStack() as stack:
        # Dagster creates its tables on first use, and two processes must not do so at once.
        with FileLock(folder / "opening.lock"):
            instance = stack.enter_context(dg.DagsterInstance.get())
            end_dead_runs(instance)
        yield instance


@contextmanager
def history(project: Project) -> Iterator[dg.DagsterInstance | None]:
    """The project's instance for who only looks, None if there is none; a copy of it, where it may not be written."""
    folder = project.home / ".dagster"
    with ExitStack() as stack:
        if not folder.is_dir():
            yield None
            return
        try:
            found = stack.enter_context(open_instance(project))
        except StoreError:  # Dagster opens no database that it may only read
            scratch = Path(stack.enter_context(TemporaryDirectory()))
            try:
                copy_history(folder, scratch)
            except (OSError, sqlite3.Error):
                yield None
                return
            found = stack.enter_context(dg.DagsterInstance.from_config(str(scratch)))
        yield found


def copy_history(folder: Path, to: Path) -> None:
    """Copy what an instance's databases say of runs and assets, but no run's own log."""
    for file in sorted(folder.glob("**/*.db")):
        if file.name not in COPIED:
            continue
        copy = to / file.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        # With the journal of a writer beside it, a database is read with it; without one nothing can change it.
        way = "mode=ro" if file.with_name(f"{file.name}-wal").exists() else "immutable=1"
        source = sqlite3.connect(f"{file.resolve().as_uri()}?{way}", uri=True)
        with closing(source), closing(sqlite3.connect(copy)) as target:
            source.backup(target)


def watch_steps() -> None:
    """Show the progress of steps on the terminal, without the libraries' notes about their own future."""
    # A copy of the stream, since Dagster captures the original while a step runs.
    show_on(Terminal(os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors="backslashreplace")))
    for category in (FutureWarning, dg.BetaWarning, dg.PreviewWarning, dg.SupersessionWarning):
        warnings.filterwarnings("ignore", category=category)
    warnings.filterwarnings("ignore", category=UserWarning, module="peft")


def job_of(config: str, name: str) -> dg.JobDefinition:
    """A job of a project, by name: how Dagster finds it."""
    return (_loaded.get(config) or build_defs(config)).resolve_job_def(name)


def run_job(
    instance: dg.DagsterInstance, project: Project, job: str, tags: dict[str, str], config: Mapping[str, Any] = {}
) -> None:
    """Run a job in this process, with the executor of the definitions, and raise what its steps raise.

    The config is what the launchpad of the UI takes, such as `ops`.
    """
    where = {"config": str(project.path), "name": job}
    found = dg.build_reconstructable_job("g2is_assets.cli.jobs", "job_of", reconstructable_kwargs=where)
    try:
        _loaded[where["config"]] = build_defs(project.path)
        with heard_at_once(), held_interrupts(), interrupts_that_count():
            dg.execute_job(found, instance=instance, run_config={**QUIET, **config}, tags=tags, raise_on_error=True)
    except dg.DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None
    finally:
        _loaded.clear()


@contextmanager
def heard_at_once() -> Iterator[None]:
    """Say of a Ctrl-C or SIGTERM at once that it was heard.

    Python's own handlers wait until torch is done with what it computes, half a minute with long rows. The system's
    handler writes the signal's number to a socket meanwhile, and a thread reads it.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)

    def listen() -> None:
        while heard := ours.recv(1):
            if heard[0] in (signal.SIGINT, signal.SIGTERM):
                return say(HEARD)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        theirs.close()
        listener.join()
        ours.close()


@contextmanager
def held_interrupts() -> Iterator[None]:
    """Hear Ctrl-C and SIGTERM where a step works or waits, not in the middle of writing to Dagster's database.

    While a step works Dagster has its own handler; between two, this one notes it, and no further step begins.
    """
    both = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: STOPPED.set()) for number in both}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stopped = STOPPED.is_set()
        STOPPED.clear()
    if stopped:
        raise KeyboardInterrupt


@contextmanager
def interrupts_that_count() -> Iterator[None]:
    """Send a Ctrl-C again that fell into a finaliser, where Python prints what is raised and goes on."""
    usual = sys.unraisablehook

    def look(lost: Any) -> None:
        if isinstance(lost.exc_value, INTERRUPTS):
            # Not from here: this too is called in the finaliser.
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            usual(lost)

    sys.unraisablehook = look
    try:
        yield
    finally:
        sys.unraisablehook = usual
