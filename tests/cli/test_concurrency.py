"""The pool `model`: runs in separate processes take turns, and none keeps its slot after its end, however it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest
from conftest import write_project

from g2is_assets.cli.jobs import interrupts_that_count
from g2is_assets.orchestration.definitions import DOMAIN_ASSETS, POOL_ASSETS, build_defs
from g2is_assets.orchestration.runs import GONE
from g2is_assets.store.lake import Lake

MODEL_STEPS = {asset.node_def.name for asset in [*POOL_ASSETS, *DOMAIN_ASSETS] if asset.op.pool == "model"}
# Without `audit/lineage`, which is made of manifests: run ids and times are its content.
KEYS = [asset.key.to_user_string() for asset in [*POOL_ASSETS, *DOMAIN_ASSETS] if asset.key.path[0] != "audit"]


@pytest.fixture(scope="module")
def undisturbed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Data versions of the domain `sums`, made in one go."""
    settings = write_project(tmp_path_factory.mktemp("undisturbed"), tiny_model)
    definitions = build_defs(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        definitions.resolve_job_def("refresh_pool").execute_in_process(instance=instance)
        definitions.resolve_job_def("refresh_domain").execute_in_process(instance=instance, partition_key="sums")
    return data_versions(settings.parent)


@pytest.fixture
def project(tiny_model: Path, tmp_path: Path) -> Path:
    return write_project(tmp_path / "project", tiny_model).parent


def data_versions(project: Path) -> dict[str, str]:
    lake = Lake(project / "lake")
    domain_keys = {asset.key.to_user_string() for asset in DOMAIN_ASSETS}
    return {key: lake.current(key, "sums" if key in domain_keys else None).manifest.data_version for key in KEYS}


def demo(project: Path, domain: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from g2is_assets.cli import main; main()", "demo", "--domain", domain]
    return subprocess.Popen(
        [*command, "--config", str(project / "g2is.toml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "120"},
    )


def ended(process: subprocess.Popen[str]) -> str:
    """What a process that must succeed wrote on its standard error."""
    _, shown = process.communicate(timeout=600)
    assert process.returncode == 0, shown
    return shown


@contextmanager
def instance_of(project: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(project / ".dagster")) as instance:
        yield instance


def holder(project: Path, process: subprocess.Popen[str]) -> str:
    """The run that holds the slot of `model`, as soon as one does."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert process.poll() is None, "ended before it held the slot"
        # The file is there as soon as a run of this project works; only then does its database certainly exist.
        if any((project / ".dagster" / "processes").glob("*.lock")):
            with instance_of(project) as instance:
                claimed = instance.event_log_storage.get_concurrency_info("model").claimed_slots
            if claimed:
                return claimed[0].run_id
        time.sleep(0.1)
    raise AssertionError("no run held the slot within 300 s")


def nothing_is_held(instance: dg.DagsterInstance) -> bool:
    storage = instance.event_log_storage
    return not storage.get_concurrency_info("model").claimed_slots and not storage.get_concurrency_run_ids()


def test_two_domains_at_once_take_turns_with_the_model_and_both_succeed(project: Path) -> None:
    both = [demo(project, "sums"), demo(project, "words")]
    shown = [ended(process) for process in both]
    assert any("waits for the pool 'model', held by run " in text for text in shown)
    with instance_of(project) as instance:
        runs = instance.get_runs()
        assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS] * 4
        spans = sorted(
            (step.start_time, step.end_time)
            for run in runs
            for step in instance.get_run_step_stats(run.run_id)
            if step.step_key in MODEL_STEPS
        )
        messages = [entry.message for run in runs for entry in instance.all_logs(run.run_id)]
        assert nothing_is_held(instance)
    assert len(spans) == 2 * len(MODEL_STEPS)
    assert [later for (_, end), later in pairwise(spans) if later[0] < end] == []
    assert any("waits for the pool 'model', held by run " in message for message in messages)


def test_a_killed_run_leaves_its_slot_to_the_next_one(project: Path, undisturbed: dict[str, str]) -> None:
    process = demo(project, "sums")
    run_id = holder(project, process)
    process.kill()
    process.communicate()
    with instance_of(project) as instance:
        assert [slot.run_id for slot in instance.event_log_storage.get_concurrency_info("model").claimed_slots] == [
            run_id
        ]
    shown = ended(demo(project, "sums"))
    assert f"run {run_id[:8]} (refresh_pool) is reported as failed: its process is gone" in shown
    assert "waits for the pool" not in shown
    with instance_of(project) as instance:
        killed = instance.get_run_by_id(run_id)
        assert killed is not None
        assert killed.status == dg.DagsterRunStatus.FAILURE
        assert any(entry.message == GONE for entry in instance.all_logs(run_id))
        assert nothing_is_held(instance)
    assert data_versions(project) == undisturbed


def test_ctrl_c_ends_in_one_line_and_frees_the_slot(project: Path) -> None:
    process = demo(project, "sums")
    run_id = holder(project, process)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=300)
    assert process.returncode == 130, shown
    assert shown.splitlines()[-1] == "Stopped. Finished work is kept: the same command goes on from there."
    assert "Traceback" not in shown
    with instance_of(project) as instance:
        stopped = instance.get_run_by_id(run_id)
        assert stopped is not None
        assert stopped.is_finished
        assert nothing_is_held(instance)


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
