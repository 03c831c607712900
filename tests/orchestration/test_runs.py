"""Which runs are alive, whose turn with the model it is, and what a run does once."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from g2is_assets.cli.jobs import held_interrupts
from g2is_assets.errors import StoreError
from g2is_assets.orchestration import runs
from g2is_assets.orchestration.assets import STOPPED
from g2is_assets.orchestration.runs import GONE, alive, end_dead_runs, model_turn
from support.runs import run

SHIPPED = Path(__file__).parents[2] / "g2is_assets" / "orchestration" / "dagster.yaml"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster.yaml").write_text(SHIPPED.read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as persistent:
        yield persistent


def started(instance: dg.DagsterInstance, domain: str) -> dg.DagsterRun:
    """A run that has begun, as the database sees it."""

    @dg.job(name="refresh_domain")
    def job() -> None:
        pass

    run = instance.create_run_for_job(job, tags={"dagster/partition": domain})
    instance.report_dagster_event(
        dg.DagsterEvent("PIPELINE_START", job.name, message="begun"), run_id=run.run_id, log_level=20
    )
    return run


def test_a_run_is_ended_when_its_process_is_gone_and_never_before(instance: dg.DagsterInstance) -> None:
    begun = started(instance, "sums")
    with alive(instance, begun.run_id):
        assert end_dead_runs(instance) == []
    killed = Path(instance.root_directory) / "processes" / f"{begun.run_id}.lock"
    killed.touch()  # what a killed process leaves: its file, which nobody locks
    assert end_dead_runs(instance) == [begun.run_id]
    stored = instance.get_run_by_id(begun.run_id)
    assert stored
    assert stored.status == dg.DagsterRunStatus.FAILURE
    assert [entry.message for entry in instance.all_logs(begun.run_id)][-1] == GONE
    assert end_dead_runs(instance) == []


def test_nothing_is_concluded_about_a_run_without_a_file(instance: dg.DagsterInstance) -> None:
    begun = started(instance, "sums")
    assert end_dead_runs(instance) == []
    stored = instance.get_run_by_id(begun.run_id)
    assert stored
    assert stored.status == dg.DagsterRunStatus.STARTED


def hold(folder: Path, taken: Path) -> None:
    with model_turn(folder, "run ab12cd34 (refresh_domain of sums) in finetune/adapter"):
        taken.touch()
        time.sleep(600)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[multiprocessing.Process]:
    """Another process, which has the turn."""
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path, tmp_path / "taken"))
    process.start()
    until = time.monotonic() + 120
    while not (tmp_path / "taken").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    yield process
    process.kill()
    process.join()


def test_whoever_waits_for_the_model_says_for_whom_and_goes_on_when_that_one_is_killed(
    tmp_path: Path, holder: multiprocessing.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def hear(message: str) -> None:
        said.append(message)
        os.kill(holder.pid or 0, signal.SIGKILL)

    monkeypatch.setattr(runs, "say", hear)
    with model_turn(tmp_path, "run other in gradients/pool") as waited:
        assert waited
    assert said == [
        "gradients/pool waits for the model, held by run ab12cd34 (refresh_domain of sums) in finetune/adapter"
    ]
    with model_turn(tmp_path, "run other in gradients/pool") as waited:
        assert not waited


@pytest.fixture
def heard_interrupts() -> Iterator[None]:
    """Python's own handler of Ctrl-C, also where a shell started the tests in the background, deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_whoever_waits_hears_ctrl_c(
    tmp_path: Path, holder: multiprocessing.Process, monkeypatch: pytest.MonkeyPatch, heard_interrupts: None
) -> None:
    monkeypatch.setattr(runs, "say", lambda _: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), model_turn(tmp_path, "run other in gradients/pool"):
        raise AssertionError("the turn was taken")
    assert holder.is_alive()


def test_runs_with_different_gpus_do_not_wait_for_each_other(
    tmp_path: Path, holder: multiprocessing.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with model_turn(tmp_path, "run other in gradients/pool") as waited:
        assert not waited
    assert holder.is_alive()


def test_a_place_that_cannot_be_written_is_the_one_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file")
    with (
        pytest.raises(StoreError, match=r"lake cannot be written: .*set G2IS_HOME"),
        model_turn(tmp_path / "lake", "run"),
    ):
        raise AssertionError("the turn was taken")


def test_ctrl_c_between_two_steps_is_held_until_the_job_is_over_and_then_counts(
    make_project: Callable[..., Path],
) -> None:
    settings = make_project()

    def interrupted() -> None:
        with dg.DagsterInstance.ephemeral() as ephemeral, held_interrupts():
            signal.raise_signal(signal.SIGINT)
            with pytest.raises((KeyboardInterrupt, dg.DagsterExecutionInterruptedError)):
                run(settings, ephemeral, "refresh_pool")
            assert not (settings.parent / "lake" / "instructions").exists()
            assert [one.status for one in ephemeral.get_runs()] == [dg.DagsterRunStatus.CANCELED]

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not STOPPED.is_set()


def test_views_are_rebuilt_once_in_a_run_also_in_one_that_fails(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rebuilt: list[None] = []
    whole = runs.rebuild_views
    monkeypatch.setattr(runs, "rebuild_views", lambda lake: rebuilt.append(whole(lake)))
    with dg.DagsterInstance.ephemeral() as ephemeral:
        assert run(copy, ephemeral, "refresh_pool").success
        assert len(rebuilt) == 1
        (copy.parent / "domains" / "sums" / "test.jsonl").write_text("{")
        assert not run(copy, ephemeral, "refresh_domain", "sums", raise_on_error=False).success
        assert len(rebuilt) == 2
