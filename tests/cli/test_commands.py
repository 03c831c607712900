"""The command line as people use it: real processes, a persistent instance, exit codes, no traceback."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Draft, Recipe

MakeProject = Callable[..., Path]


def g2is(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from g2is_assets.cli import main; main()", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | environment, timeout=300
    )


def test_demo_prints_what_came_out_and_the_second_time_computes_nothing(make_project: MakeProject) -> None:
    settings = make_project()
    first = g2is("demo", "--domain", "words", COLUMNS="140", G2IS_CONFIG=str(settings))
    assert first.returncode == 0, first.stderr
    for part in ("NLL on test rows", "base", "random", "g2is", "by source:", "g2is ui"):
        assert part in first.stdout
    assert "Pool of about 40 rows and domain words: at most 14 of 14 assets are to be made." in first.stdout
    assert "About a minute on two quiet CPU cores" in first.stdout
    assert "Loading weights" not in first.stderr
    assert "Warning" not in first.stderr
    adapter = next(line for line in first.stdout.splitlines() if line.startswith("Adapter: ")).removeprefix("Adapter: ")
    assert (Path(adapter) / "adapter_model.safetensors").exists()
    report = next(line for line in first.stdout.splitlines() if line.startswith("Report, to open in a browser"))
    assert "report.html" in Path(report.partition("): ")[2]).read_text()
    second = g2is("demo", "--domain", "words", "--config", str(settings))
    assert "Nothing has changed since the last run" in second.stdout
    lines = [line for line in second.stderr.splitlines() if line.startswith("  ") and "/" in line.split(":")[0]]
    assert len(lines) == 14
    assert all(line.endswith(": unchanged") for line in lines)
    with dg.DagsterInstance.from_config(str(settings.parent / ".dagster")) as instance:
        assert sorted(run.job_name for run in instance.get_runs()) == ["refresh_domain"] * 2 + ["refresh_pool"] * 2


def test_demo_says_which_rows_were_set_aside_and_where_they_are_listed(make_project: MakeProject) -> None:
    settings = make_project()
    for file in (settings.parent / "pool" / "words.jsonl", settings.parent / "domains" / "sums" / "test.jsonl"):
        file.write_text(file.read_text() + '{"id": "bad:1", "instruction": "x", "output": ""}\n' * 2)
    done = g2is("demo", "--domain", "sums", "--config", str(settings))
    assert done.returncode == 0, done.stderr
    for asset, place in (("pool", "pool/words.jsonl, line 21"), ("target", "domains/sums/test.jsonl, line 8")):
        said = f"instructions/{asset}: 2 rows set aside, the first: {place}: empty response; "
        assert f"{said}see g2is sql 'FROM instructions_{asset}_rejected'" in done.stderr
    listed = g2is("sql", "FROM instructions_pool_rejected", "--json", "--config", str(settings))
    assert [row["id"] for row in json.loads(listed.stdout)] == ["bad:1"] * 2


def test_demo_draws_bars_with_the_time_left_in_a_terminal(make_project: MakeProject) -> None:
    """Dagster captures a step's streams, so this is not a matter of course."""
    settings = make_project()
    master, terminal = pty.openpty()
    command = [sys.executable, "-c", "from g2is_assets.cli import main; main()", "demo", "--config", str(settings)]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal ends with the process
        while part := os.read(master, 65536):
            shown += part
    os.close(master)
    assert process.wait(timeout=120) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    for step in ("warmup", "gradients", "graph", "adapter", "baseline", "evaluation"):
        assert re.search(rf"  {step} .*/\d+ (tokens|rows) .*left", text), step


def test_a_failing_domain_does_not_stop_the_others(make_project: MakeProject) -> None:
    settings = make_project()
    (settings.parent / "domains" / "sums" / "validation.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    done = g2is("demo", "--all", "--config", str(settings), COLUMNS="140")
    assert done.returncode == 1
    assert "domain 'sums' failed" in done.stderr
    assert "at least 2 distinct ones are needed" in done.stderr
    assert "Traceback" not in done.stderr
    assert "words: NLL on test rows" in done.stdout


def test_mistakes_are_one_line_without_a_traceback(make_project: MakeProject, tmp_path: Path) -> None:
    settings = make_project()
    for arguments, message in (
        (("demo", "--config", str(tmp_path / "none.toml")), "does not exist"),
        (("demo", "--config", str(settings), "--domain", "poetry"), "there is no domain 'poetry'"),
        (("demo", "--nonsense"), "No such option"),
        (("gc", "--config", str(tmp_path / "none.toml")), "does not exist"),
        (("gc", "--min-age-hours", "-1"), "is not in the range"),
    ):
        done = g2is(*arguments)
        assert done.returncode != 0
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not (settings.parent / "lake").exists()


LAUNCH = """
mutation { launchRun(executionParams: {
  selector: {
    repositoryLocationName: "g2is_assets.orchestration.definitions",
    repositoryName: "__repository__", jobName: "refresh_pool"
  },
  mode: "default", runConfigData: {loggers: {console: {config: {log_level: "ERROR"}}}}
}) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""


def test_ui_shows_the_assets_runs_a_job_and_ends_its_processes(make_project: MakeProject) -> None:
    settings = make_project()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from g2is_assets.cli import main; main()", "ui", "--port", str(port)]
    with (settings.parent / "ui.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--config", str(settings)], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            nodes = ask(port, process, "{ assetNodes { assetKey { path } } }", lambda data: data["assetNodes"])
            keys = {"/".join(node["assetKey"]["path"]) for node in nodes}
            assert "selection/subset" in keys
            assert len(keys) == 14
            run = ask(port, process, LAUNCH, lambda data: data["launchRun"])
            assert run["__typename"] == "LaunchRunSuccess", run
            status = f'{{ runOrError(runId: "{run["run"]["runId"]}") {{ ... on Run {{ status }} }} }}'
            finished = {"SUCCESS", "FAILURE", "CANCELED"}
            end = ask(port, process, status, lambda data: {data["runOrError"]["status"]} & finished)
            assert end == {"SUCCESS"}
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
    assert (settings.parent / "lake" / "graph" / "neighbors" / "current.json").exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_gc_says_what_it_would_drop_then_drops_it_then_finds_nothing(make_project: MakeProject) -> None:
    settings = make_project()
    settings.write_text("keep_versions = 2\n" + settings.read_text())
    lake = Lake(settings.parent / "lake")
    for code in "123":
        current, _ = lake.make(Recipe("stage/noun", None, code, {}), "run", write_5000_bytes)
    young = g2is("gc", "--config", str(settings))
    assert re.search(r"old versions +│ +0 │ +0 bytes", young.stdout), young.stderr
    arguments = ("gc", "--min-age-hours", "0", "--config", str(settings))
    foretold = g2is(*arguments, "--dry-run")
    assert "Would leave the lake" in foretold.stdout
    assert len(list(lake.root.rglob("a.bin"))) == 3
    done = g2is(*arguments)
    assert done.returncode == 0, done.stderr
    for shown in (foretold, done):
        assert re.search(r"old versions +│ +1 │ +5\.0 kB", shown.stdout)
    assert len(list(lake.root.rglob("a.bin"))) == 2
    assert (current.folder / "a.bin").exists()
    again = json.loads(g2is(*arguments, "--json").stdout)
    assert (again["paths"], again["n_bytes"], again["left_alone"]) == ([], 0, [])
    (current.folder / "manifest.json").write_text("{")
    assert f"Left alone: {current.folder}/manifest.json is missing or damaged" in g2is(*arguments).stdout


def write_5000_bytes(draft: Draft) -> None:
    (draft.folder / "a.bin").write_bytes(b"a" * 5000)


def ask(port: int, process: subprocess.Popen[bytes], query: str, pick: Callable[[Any], Any]) -> Any:
    """What `pick` takes from the web server's answer, asked again until there is something."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        data=json.dumps({"query": query}).encode(),
        headers={"Content-Type": "application/json"},
    )
    deadline = time.monotonic() + 420
    while time.monotonic() < deadline:
        assert process.poll() is None, "g2is ui ended by itself"
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                answer = json.load(response)
        except OSError:
            time.sleep(1)
            continue
        if found := pick(answer["data"]):
            return found
        time.sleep(1)
    raise AssertionError(f"no answer within 420 s to {query}")
