"""Processes that write to one lake at the same time: none corrupts, fails or stops another."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from filelock import FileLock, Timeout

from g2is_assets.cli.jobs import prepare_instance
from g2is_assets.contracts.contract import Column, Contract
from g2is_assets.settings.project import load_project
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import MANIFEST
from g2is_assets.store.version import Recipe
from support.processes import Child, Commands, assert_all_that_is_current_is_whole
from support.projects import Undisturbed, payload
from support.rows import arithmetic_row, write_jsonl
from support.vectors import small_refresh

ROOT = Path(__file__).parents[2]
NUMBERS = Contract((), "noun", "Some numbers", {"n": Column(pl.Int64, "A number")})


def add_domain(settings: Path, name: str) -> None:
    rows = [arithmetic_row(n, "words") for n in range(400, 412)]
    write_jsonl(settings.parent / "domains" / name / "validation.jsonl", rows[:5])
    write_jsonl(settings.parent / "domains" / name / "test.jsonl", rows[5:])


BACKFILL = "job backfill -j refresh_domain --partitions more,sums,words --noprompt"


@pytest.mark.campaign
def test_a_domain_that_fails_in_a_backfill_stops_no_other(
    built: Path, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    """With Dagster's own command, daemon and run processes."""
    add_domain(built, "more")
    write_jsonl(built.parent / "domains" / "sums" / "validation.jsonl", [{"prompt": "a", "response": "b"}])
    home = prepare_instance(load_project(built))
    environment = os.environ | {"DAGSTER_HOME": str(home), "G2IS_CONFIG": str(built)}
    workspace = ("-w", str(ROOT / "workspace.yaml"))
    dagster = (sys.executable, "-m", "dagster")
    subprocess.run([*dagster, *BACKFILL.split(), *workspace], env=environment, check=True, capture_output=True)
    with (tmp_path / "daemon.log").open("w") as log:
        command = [Path(sys.executable).with_name("dagster-daemon"), "run", *workspace]
        daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            states = states_when_finished(home)
        finally:
            os.killpg(daemon.pid, signal.SIGTERM)
            daemon.wait(timeout=60)
    assert states == {"more": "SUCCESS", "sums": "FAILURE", "words": "SUCCESS"}
    lake = payload(built.parent / "lake")
    assert undisturbed.both.items() < lake.items()
    assert any(name.startswith("finetune/evaluation/more/") for name in lake)


def states_when_finished(home: Path) -> dict[str, str]:
    """State of the run of each domain, when all three have one and none is in progress any more."""
    until = time.monotonic() + 300
    with dg.DagsterInstance.from_config(str(home)) as instance:
        while time.monotonic() < until:
            runs = instance.get_runs()
            if len(runs) == 3 and all(run.is_finished for run in runs):
                return {run.tags["dagster/partition"]: run.status.value for run in runs}
            time.sleep(0.5)
    raise AssertionError("the backfill did not end within 300 s")


def publish_together(root: Path, meeting: Path, n_writers: int) -> None:
    """Make a version; before it gets its place, wait until all writers have come so far."""

    def wait_for_all(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and "/.writing-" in str(arguments[0]):
            (meeting / str(os.getpid())).touch()
            while len(list(meeting.iterdir())) < n_writers:
                time.sleep(0.001)

    sys.addaudithook(wait_for_all)
    table = pl.DataFrame({"n": [1, 2, 3]})
    _, written = Lake(root).make(Recipe("stage/noun", None, "1", {}), "run", lambda d: d.write(NUMBERS, table))
    assert written


def ended(children: list[Child]) -> None:
    for child in children:
        assert child.wait() == 0, child.shown


@pytest.mark.parametrize("damaged", [False, True], ids=["new", "in place of a damaged one"])
def test_writers_that_publish_equal_versions_in_the_same_moment_all_succeed(
    tmp_path: Path, commands: Commands, damaged: bool
) -> None:
    meeting, lake = tmp_path / "meeting", Lake(tmp_path / "lake")
    meeting.mkdir()
    before = None
    if damaged:
        publish_together(lake.root, meeting, 0)
        before = lake.current("stage/noun").folder
        (before / "noun.parquet").unlink()
        next(meeting.iterdir()).unlink()
    ended([commands.start(publish_together, lake.root, meeting, 4) for _ in range(4)])
    assert lake.current("stage/noun").read(NUMBERS)["n"].to_list() == [1, 2, 3]
    assert_all_that_is_current_is_whole(lake.root)
    folders = [path for path in lake.place("stage/noun").iterdir() if path.is_dir()]
    assert not [folder for folder in folders if folder.name.startswith(".")]
    if before is None:
        assert len(folders) == 1
    else:
        assert {path.name for path in before.iterdir()} == {MANIFEST, "pruned.json"}


def test_processes_that_fill_one_store_and_make_the_views_at_the_same_time_all_succeed(
    tmp_path: Path, commands: Commands
) -> None:
    small_refresh(tmp_path / "alone")
    ended([commands.start(small_refresh, tmp_path / "together") for _ in range(5)])
    assert payload(tmp_path / "together") == payload(tmp_path / "alone")
    assert_all_that_is_current_is_whole(tmp_path / "together")
    assert {path.name for path in (tmp_path / "together").rglob(".*")} <= {".layout", ".swap.lock"}


def stop_in_a_run(running: Child, folder: Path) -> None:
    """Stop a process that works on a run, but not within its turn, for which all others wait."""
    assert running.process.pid is not None
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if list(folder.glob("processes/*.lock")):
            os.kill(running.process.pid, signal.SIGSTOP)
            with suppress(Timeout), FileLock(folder / "turn.lock", blocking=False):
                return
            os.kill(running.process.pid, signal.SIGCONT)
        time.sleep(0.002)
    pytest.fail(f"no run began within 60 s: {running.shown}")


def test_gc_is_refused_while_a_run_is_in_progress_and_does_its_work_after_a_killed_one(
    built: Path, commands: Commands, undisturbed: Undisturbed
) -> None:
    running = commands.demo(built)
    stop_in_a_run(running, built.parent / ".dagster")
    said = commands.refused(built, "gc", "--min-age-hours", "0")
    assert "is in progress" in said
    assert "try again when it has ended, or stop it" in said
    running.kill()
    collected = commands.g2is("gc", "--min-age-hours", "0", "--config", built)
    assert collected.wait() == 0, collected.shown
    commands.refresh(built)
    assert payload(built.parent / "lake") == undisturbed.both
