"""The pool `model`: runs in separate processes take turns, and none keeps its slot after its end, however it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from g2is_assets.cli.jobs import interrupts_that_count
from g2is_assets.orchestration.definitions import build_defs
from g2is_assets.orchestration.runs import GONE, model_turn
from g2is_assets.stages.catalog import STAGES, STUDY
from g2is_assets.store.lake import Lake
from support.projects import write_project

# Without `audit/lineage`, which is made of manifests: run ids and times are its content.
KEYS = {stage.key: stage.partition for stage in STAGES if stage.group not in ("audit", STUDY)}


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
    return {
        key: lake.current(key, "sums" if partition == "domain" else None).manifest.data_version
        for key, partition in KEYS.items()
    }


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
    """The beginning of the id of the run whose turn with the model it is, as soon as it is one's."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert process.poll() is None, "ended before it had the model"
        said = project / "lake" / ".model.holder"
        if said.exists() and (words := said.read_text().split()):
            return words[1]
        time.sleep(0.1)
    raise AssertionError("no run had the model within 300 s")


def free(project: Path) -> bool:
    with model_turn(project / "lake", "run other in finetune/adapter") as waited:
        return not waited


def run_of(instance: dg.DagsterInstance, beginning: str) -> dg.DagsterRun:
    [run] = [run for run in instance.get_runs() if run.run_id.startswith(beginning)]
    return run


def test_two_domains_at_once_take_turns_with_the_model_and_both_succeed(
    project: Path, undisturbed: dict[str, str]
) -> None:
    both = [demo(project, "sums"), demo(project, "words")]
    shown = [ended(process) for process in both]
    assert any(" waits for the model, held by run " in text for text in shown)
    with instance_of(project) as instance:
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.SUCCESS] * 4
    assert free(project)
    assert data_versions(project) == undisturbed


def test_a_killed_run_leaves_its_turn_to_the_next_one(project: Path, undisturbed: dict[str, str]) -> None:
    process = demo(project, "sums")
    beginning = holder(project, process)
    process.kill()
    process.communicate()
    shown = ended(demo(project, "sums"))
    assert f"run {beginning} (refresh_pool) is reported as failed: its process is gone" in shown
    assert "waits for the model" not in shown
    with instance_of(project) as instance:
        killed = run_of(instance, beginning)
        assert killed.status == dg.DagsterRunStatus.FAILURE
        assert any(entry.message == GONE for entry in instance.all_logs(killed.run_id))
    assert data_versions(project) == undisturbed


def test_ctrl_c_ends_in_one_line_and_leaves_the_turn(project: Path) -> None:
    process = demo(project, "sums")
    beginning = holder(project, process)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=300)
    assert process.returncode == 130, shown
    assert shown.splitlines()[-1] == "Stopped. Finished work is kept: the same command goes on from there."
    assert "Traceback" not in shown
    with instance_of(project) as instance:
        assert run_of(instance, beginning).is_finished
    assert free(project)


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
