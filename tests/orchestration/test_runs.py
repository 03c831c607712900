"""Runs that died and slots that wait, on a persistent instance with made-up runs in this process."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._utils.interrupts import capture_interrupts

from g2is_assets.orchestration.executor import POLL_S, Slots
from g2is_assets.orchestration.runs import GONE, alive, end_dead_runs

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


def status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    stored = instance.get_run_by_id(run.run_id)
    assert stored is not None
    return stored.status


def killed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Leave what a killed process leaves: its file, which nobody locks."""
    file = Path(instance.root_directory) / "processes" / f"{run.run_id}.lock"
    file.parent.mkdir(exist_ok=True)
    file.touch()


def holders(instance: dg.DagsterInstance) -> list[str]:
    return [slot.run_id for slot in instance.event_log_storage.get_concurrency_info("model").claimed_slots]


def test_a_run_is_ended_when_its_process_is_gone_and_never_before(instance: dg.DagsterInstance) -> None:
    run = started(instance, "sums")
    with alive(instance, run.run_id), Slots(instance, run) as slots:
        assert slots.claim("model", "a")
        assert end_dead_runs(instance) == []
        assert holders(instance) == [run.run_id]
    assert holders(instance) == []
    assert Slots(instance, run).claim("model", "a")
    killed(instance, run)
    assert end_dead_runs(instance) == [run.run_id]
    assert status(instance, run) == dg.DagsterRunStatus.FAILURE
    assert [entry.message for entry in instance.all_logs(run.run_id)][-1] == GONE
    assert holders(instance) == []
    assert end_dead_runs(instance) == []


def test_nothing_is_concluded_about_a_run_without_a_file_until_it_has_ended(instance: dg.DagsterInstance) -> None:
    run = started(instance, "sums")
    assert Slots(instance, run).claim("model", "a")
    assert end_dead_runs(instance) == []
    assert holders(instance) == [run.run_id]
    instance.report_run_failed(run)
    assert end_dead_runs(instance) == []
    assert holders(instance) == []


def test_a_waiting_step_says_for_whom_sleeps_and_goes_on_when_the_holder_was_killed(
    instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = started(instance, "sums"), started(instance, "words")
    assert Slots(instance, first).claim("model", "gradients__target")
    with caplog.at_level("INFO", "g2is_assets"), Slots(instance, second) as waiting:
        assert not waiting.claim("model", "finetune__adapter")
        assert 0 < waiting.interval_to_next_pending_claim_check() <= POLL_S
        assert not waiting.claim("model", "finetune__adapter")
        line = (
            f"finetune/adapter waits for the pool 'model', "
            f"held by run {first.run_id[:8]} (refresh_domain of sums) in gradients/target"
        )
        assert [entry.message for entry in instance.all_logs(second.run_id)].count(line) == 1
        assert caplog.messages == [line]
        killed(instance, first)
        time.sleep(waiting.interval_to_next_pending_claim_check())
        waiting.claim("model", "finetune__adapter")  # sees that the holder is gone
        time.sleep(waiting.interval_to_next_pending_claim_check())
        assert waiting.claim("model", "finetune__adapter")
    assert holders(instance) == [second.run_id]


def test_a_waiting_step_hears_ctrl_c_and_leaves_the_queue(instance: dg.DagsterInstance) -> None:
    first, second = started(instance, "sums"), started(instance, "words")
    assert Slots(instance, first).claim("model", "a")
    with capture_interrupts(), Slots(instance, second) as waiting:
        assert not waiting.claim("model", "b")
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(dg.DagsterExecutionInterruptedError):
            waiting.claim("model", "b")
    assert instance.event_log_storage.get_concurrency_run_ids() == {first.run_id}
