"""The pool `model`: runs in separate processes take turns, and none keeps its slot after its end, however it ends."""

import io
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from g2is_assets.cli.jobs import HEARD, heard_at_once, interrupts_that_count
from g2is_assets.orchestration.runs import GONE, HALTED, model_turn
from g2is_assets.progress import shown_on
from g2is_assets.store.versions import SCRATCH_NAME
from support.commands import answer
from support.processes import Child, Commands, assert_all_that_is_current_is_whole
from support.projects import Undisturbed, payload

MakeProject = Callable[..., Path]


def holder(settings: Path, child: Child) -> str:
    """The beginning of the id of the run whose turn with the model it is, as soon as it is one's."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert child.process.exitcode is None, f"ended before it had the model: {child.shown}"
        said = settings.parent / "lake" / ".model.holder"
        if said.exists() and (words := said.read_text().split()):
            return words[1]
        time.sleep(0.05)
    raise AssertionError("no run had the model within 300 s")


def free(settings: Path) -> bool:
    with model_turn(settings.parent / "lake", "run other in finetune/adapter") as waited:
        return not waited


def run_of(settings: Path, beginning: str) -> tuple[dg.DagsterRun, list[str]]:
    """A run, and what was said in it."""
    with dg.DagsterInstance.from_config(str(settings.parent / ".dagster")) as instance:
        [run] = [run for run in instance.get_runs() if run.run_id.startswith(beginning)]
        return run, [entry.message for entry in instance.all_logs(run.run_id)]


def test_two_domains_at_once_take_turns_with_the_model_and_both_succeed(
    make_project: MakeProject, commands: Commands, undisturbed: Undisturbed
) -> None:
    settings = make_project()
    both = [commands.demo(settings, domain) for domain in ("sums", "words")]
    for child in both:
        assert child.wait() == 0, child.shown
    assert any(" waits for the model, held by run " in child.shown for child in both)
    with dg.DagsterInstance.from_config(str(settings.parent / ".dagster")) as instance:
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.SUCCESS] * 4
    assert free(settings)
    lake = settings.parent / "lake"
    assert payload(lake) == undisturbed.both
    assert_all_that_is_current_is_whole(lake)
    assert not [path for path in lake.rglob(".*") if SCRATCH_NAME.fullmatch(path.name)]


def test_a_killed_run_leaves_its_turn_to_the_next_one(
    make_project: MakeProject, commands: Commands, undisturbed: Undisturbed
) -> None:
    settings = make_project()
    child = commands.demo(settings)
    beginning = holder(settings, child)
    child.kill()
    shown = commands.refresh(settings)
    assert f"run {beginning} (refresh_pool) is reported as failed: its process is gone" in shown
    assert "waits for the model" not in shown
    killed, said = run_of(settings, beginning)
    assert killed.status == dg.DagsterRunStatus.FAILURE
    assert GONE in said
    assert payload(settings.parent / "lake") == undisturbed.sums


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_a_refresh_gets_one_line_and_a_canceled_run_and_the_turn_is_left(
    make_project: MakeProject, commands: Commands, number: signal.Signals
) -> None:
    settings = make_project()
    child = commands.demo(settings)
    beginning = holder(settings, child)
    assert all(domain["running_since"] for domain in answer(settings, "domain", "list"))
    os.kill(child.process.pid or 0, number)
    assert child.wait() == 130, child.shown
    assert f"  {HEARD}" in child.shown.splitlines()
    assert child.shown.splitlines()[-1] == "Stopped. Finished work is kept: the same command goes on from there."
    assert "Traceback" not in child.shown
    run, said = run_of(settings, beginning)
    assert run.status == dg.DagsterRunStatus.CANCELED
    assert HALTED in said
    assert free(settings)
    assert not any(domain["running_since"] for domain in answer(settings, "domain", "list"))


def test_that_ctrl_c_was_heard_is_said_though_no_handler_of_python_runs_and_of_no_other_signal() -> None:
    """As while torch computes; here the handlers do nothing."""
    said = io.StringIO()
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGCHLD)}
    try:
        with shown_on(Console(file=said, width=200)):
            for number in before:
                with heard_at_once():
                    signal.raise_signal(number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert said.getvalue().strip() == HEARD
    assert signal.set_wakeup_fd(-1) == -1


def test_ctrl_c_counts_where_python_would_drop_it() -> None:
    class Falls:
        def __del__(self) -> None:
            raise KeyboardInterrupt

    def go_on() -> None:
        Falls()
        time.sleep(20)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), interrupts_that_count():
            go_on()
    finally:
        signal.signal(signal.SIGINT, before)
