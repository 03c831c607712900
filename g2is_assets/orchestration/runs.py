"""Runs: which are alive, whose turn with the model it is, what is done once in a run, and which faults pass.

The process of a run keeps a file below `<home>/.dagster/processes/` locked for as long as the run works. The system
gives the lock back when the process ends, however it ends, so a file that stands and can be locked belongs to a run
whose process is gone. No process ids, hence none that were given out again; and nothing is concluded about a run
without such a file, which another executor or another version may have started.
"""

import errno
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final

import dagster as dg
from filelock import FileLock, Timeout

from g2is_assets.errors import G2isError, StoreError
from g2is_assets.progress import say
from g2is_assets.settings.project import Project
from g2is_assets.stages.staleness import write_staleness
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.files import writing
from g2is_assets.store.views import rebuild_views

log = logging.getLogger(__name__)

PROCESSES: Final = "processes"
INTERRUPTS: Final = (KeyboardInterrupt, dg.DagsterExecutionInterruptedError)
"""What Ctrl-C and SIGTERM raise where a run works."""
HALTED: Final = "Stopped by Ctrl-C or SIGTERM; what was finished is kept."
GONE: Final = "The process of this run ended without reporting back: it was killed, or the machine went down."

UNATTENDED: Final = frozenset({"dagster/schedule_name", "dagster/sensor_name"})
"""Tags of runs that Dagster starts by itself."""

MAX_RETRIES: Final = 3
FIRST_DELAY_S: Final = 5.0
"""Before the first retry, in seconds; it doubles with each."""
PASSING: Final = frozenset({errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET})
"""Faults of network file systems and connections."""
POLL_S: Final = 1.0
"""Between two looks at whether the model is free, in seconds."""
REMIND_S: Final = 60.0
"""Between two lines about the same wait, in seconds."""


def turn(instance: dg.DagsterInstance) -> AbstractContextManager[object]:
    """Let one process at a time look at which runs are alive, and change it."""
    return FileLock(Path(instance.root_directory) / "turn.lock") if instance.is_persistent else nullcontext()


@contextmanager
def alive(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Mark a run as worked on by this process."""
    if not instance.is_persistent:
        yield
        return
    file = Path(instance.root_directory) / PROCESSES / f"{run_id}.lock"
    file.parent.mkdir(exist_ok=True)
    mark = FileLock(file)
    with turn(instance):
        mark.acquire()
    try:
        yield
    finally:
        with turn(instance):
            file.unlink(missing_ok=True)
            mark.release()


def run_resource(project: Project) -> dg.ResourceDefinition:
    """The resource `workspace` of a run: while it lasts the run is alive; when it goes, views are rebuilt."""

    @dg.resource(description="The project with its lake, model and engine.")
    def workspace(context: dg.InitResourceContext) -> Iterator[Workspace]:
        found = Workspace(project)
        run = context.run
        if run is None or context.instance is None:
            yield found
            return
        with alive(context.instance, run.run_id), canceled_if_stopped(context.instance, run):
            try:
                yield found
            finally:  # also after a failure: what was made before it is there
                refresh_lens(found)

    return workspace


@contextmanager
def canceled_if_stopped(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[None]:
    """Have Dagster take a run for canceled that a person or the system stops: by itself it takes it for failed."""
    try:
        yield
    finally:
        # Dagster closes a resource while its own exception is on the way; it throws none into it.
        if isinstance(sys.exc_info()[1], INTERRUPTS):
            with deaf():
                now = instance.get_run_by_id(run.run_id)
                if now and now.status == dg.DagsterRunStatus.STARTED:  # else the UI has asked for it
                    instance.report_run_canceling(now, HALTED)


@contextmanager
def deaf() -> Iterator[None]:
    """Hear neither Ctrl-C nor SIGTERM, for as long as a line is written; only the main thread ever does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def refresh_lens(workspace: Workspace) -> None:
    """Bring the staleness table and the views up to date; what goes wrong with them fails no run."""
    for part, refresh in (
        ("audit_staleness", write_staleness),
        ("the views", lambda own: rebuild_views(own.lake)),
        ("hashes", lambda own: own.lake.keep_hashes()),
    ):
        try:
            refresh(workspace)
        except Exception as error:  # another domain's files or settings are no reason to fail here
            log.warning("%s: not up to date: %s", part, error)


@contextmanager
def model_turn(folder: Path, who: str, what: str = "model") -> Iterator[bool]:
    """Take this machine's turn with the model, or wait for it and say who has it; yields whether there was a wait.

    The system gives the turn back when its holder's process ends, however it ends. Runs that see different GPUs by
    CUDA_VISIBLE_DEVICES do not wait for each other. The lock lies in the lake's folder, which all that share the model
    share; `who` tells those that wait the run and what it makes. What domains share and needs no model is made in turns
    of its own, with `what` they are of.

    Raises:
        StoreError: The folder cannot be written.
    """
    seen = re.sub(r"\W+", "-", os.environ.get("CUDA_VISIBLE_DEVICES", "")) if what == "model" else ""
    lock, holder = FileLock(folder / f".{what}{seen}.lock"), folder / f".{what}{seen}.holder"
    said, waited = -REMIND_S, False
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            try:
                lock.acquire(timeout=POLL_S if waited else 0)
            except Timeout:
                waited = True
                if time.monotonic() - said >= REMIND_S:
                    said = time.monotonic()
                    by = "another process"
                    with suppress(OSError):
                        by = holder.read_text(encoding="utf-8")
                    say(f"{who.split(' in ')[-1]} waits for the {what}, held by {by}")
    try:
        with suppress(OSError):  # a full disk: the work itself will say so
            holder.write_text(who, encoding="utf-8")
        yield waited
    finally:
        lock.release()


@contextmanager
def no_runs(folder: Path) -> Iterator[None]:
    """Keep runs of the instance in `<home>/.dagster` from starting for as long as this lasts.

    Raises:
        StoreError: A run is in progress.
    """
    if not folder.is_dir():
        yield
        return
    with writing(folder), FileLock(folder / "turn.lock"):
        for file, is_alive in _marks(folder):
            if is_alive:
                raise StoreError(
                    f"run {file.stem[:8]} is in progress here ({folder}); try again when it has ended, or stop it"
                )
        yield


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Report runs whose process is gone as failed; returns those that were reported."""
    reported = []
    with turn(instance):
        for file, is_alive in _marks(Path(instance.root_directory)):
            if is_alive:
                continue
            run = instance.get_run_by_id(file.stem)
            if run and not run.is_finished:
                instance.report_run_failed(run, GONE)
                say(f"run {label(run)} is reported as failed: its process is gone")
                reported.append(run.run_id)
            file.unlink(missing_ok=True)
    return reported


def _marks(folder: Path) -> Iterator[tuple[Path, bool]]:
    """The files that mark runs of an instance, and whether their processes are alive; a dead one's is locked here."""
    for file in sorted((folder / PROCESSES).glob("*.lock")):
        with ExitStack() as held:
            try:
                held.enter_context(FileLock(file, blocking=False))
                is_alive = False
            except Timeout:
                is_alive = True
            yield file, is_alive


def label(run: dg.DagsterRun) -> str:
    """A run as people look for it: the start of its id, its job and its domain."""
    domain = run.tags.get("dagster/partition")
    return f"{run.run_id[:8]} ({run.job_name}{f' of {domain}' if domain else ''})"


def is_transient(error: BaseException) -> bool:
    """Whether the same step may succeed if it is just tried again."""
    if isinstance(error, G2isError):
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError):
        return error.errno in PASSING
    if (ray := sys.modules.get("ray")) is None:
        return False
    lost = ray.exceptions
    if isinstance(error, lost.RayActorError):
        return not error.actor_init_failed  # a worker that cannot even start will not start later either
    return isinstance(error, lost.WorkerCrashedError | lost.NodeDiedError | lost.ObjectLostError)


@contextmanager
def retried(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Have Dagster try the step again, a few times, if what runs inside meets a fault that passes by itself.

    Everything else is permanent: a wrong setting, a damaged file or a bug is the same in the next attempt. While the
    step waits, a little longer each time, it holds no slot of a pool.
    """
    try:
        yield
    except Exception as error:
        if not is_transient(error) or context.retry_number >= MAX_RETRIES:
            raise
        delay = FIRST_DELAY_S * 2**context.retry_number
        say(f"{context.asset_key.to_user_string()}: {error!r}; tried again in {delay:.0f} s")
        raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=delay) from error
