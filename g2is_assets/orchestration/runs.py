"""Which runs are alive, and what to do about those that are not.

The process of a run keeps a file below `<home>/.dagster/processes/` locked for as long as the run works. The system
gives the lock back when the process ends, however it ends, so a file that stands and can be locked belongs to a run
whose process is gone. No process ids, hence none that were given out again; and nothing is concluded about a run
without such a file, which another executor or another version may have started.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import dagster as dg
from filelock import FileLock, Timeout

from g2is_assets.errors import StoreError
from g2is_assets.progress import say
from g2is_assets.store.files import writing

PROCESSES: Final = "processes"
GONE: Final = "The process of this run ended without reporting back: it was killed, or the machine went down."


@contextmanager
def turn(instance: dg.DagsterInstance) -> Iterator[None]:
    """Let one process at a time look at runs and slots of pools and change them.

    Dagster's SQLite storage reads and then writes a slot in two steps, so two processes might both take it.
    """
    if not instance.is_persistent:
        yield
        return
    with FileLock(Path(instance.root_directory) / "turn.lock"):
        yield


@contextmanager
def alive(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Mark a run as worked on by this process; when it is done, also after an error, its slots are free."""
    if not instance.is_persistent:
        yield
        return
    file = _file(instance, run_id)
    file.parent.mkdir(exist_ok=True)
    mark = FileLock(file)
    with turn(instance):
        mark.acquire()
    try:
        yield
    finally:
        with turn(instance):
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
            file.unlink(missing_ok=True)
            mark.release()


@contextmanager
def no_runs(folder: Path) -> Iterator[None]:
    """Keep runs of an instance from starting for as long as this lasts.

    Args:
        folder: The instance's folder, `<home>/.dagster`.

    Raises:
        StoreError: A run is in progress.
    """
    if not folder.is_dir():
        yield
        return
    with writing(folder), FileLock(folder / "turn.lock"):
        for file in sorted((folder / PROCESSES).glob("*.lock")):
            mark = FileLock(file)
            try:
                mark.acquire(blocking=False)
            except Timeout:
                message = f"run {file.stem[:8]} is in progress here ({folder}); try again when it has ended, or stop it"
                raise StoreError(message) from None
            mark.release()
        yield


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Report runs whose process is gone as failed, and free the slots of pools that nobody works in any more.

    Returns:
        The runs that were reported.
    """
    storage, reported = instance.event_log_storage, []
    with turn(instance):
        for file in sorted(_file(instance, "").parent.glob("*.lock")):
            mark = FileLock(file)
            try:
                mark.acquire(blocking=False)
            except Timeout:
                continue
            run = instance.get_run_by_id(file.stem)
            if run and not run.is_finished:
                instance.report_run_failed(run, GONE)
                say(f"run {label(run)} is reported as failed: its process is gone")
                reported.append(run.run_id)
            storage.free_concurrency_slots_for_run(file.stem)
            file.unlink(missing_ok=True)
            mark.release()
        for run_id in storage.get_concurrency_run_ids():
            run = instance.get_run_by_id(run_id)
            if not _file(instance, run_id).exists() and (run is None or run.is_finished):
                storage.free_concurrency_slots_for_run(run_id)
    return reported


def label(run: dg.DagsterRun) -> str:
    """A run as people look for it: the start of its id, its job and its domain."""
    domain = run.tags.get("dagster/partition")
    return f"{run.run_id[:8]} ({run.job_name}{f' of {domain}' if domain else ''})"


def _file(instance: dg.DagsterInstance, run_id: str) -> Path:
    return Path(instance.root_directory) / PROCESSES / f"{run_id}.lock"
