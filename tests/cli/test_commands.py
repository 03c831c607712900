"""The command line as people use it: what it prints, a persistent instance, exit codes, no traceback."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from g2is_assets.store.version import Draft, Recipe
from support.commands import answer, g2is
from support.processes import Child, Commands
from support.projects import lake_of

MakeProject = Callable[..., Path]
PROGRAM = (sys.executable, "-c", "from g2is_assets.cli import main; main()")


def said_by(child: Child, code: int = 0) -> str:
    """What a command printed on its way to this exit code."""
    assert child.wait() == code, child.shown
    assert "Traceback" not in child.shown
    return child.shown


def test_demo_prints_what_came_out_and_the_second_time_computes_nothing(
    make_project: MakeProject, commands: Commands
) -> None:
    settings = make_project()
    commands.environment["G2IS_CONFIG"] = str(settings)
    first = said_by(commands.g2is("demo", "--domain", "words"))
    for part in ("NLL on test rows", "base", "random", "g2is", "by source:", "g2is ui"):
        assert part in first
    assert "Pool of about 40 rows and domain words: at most 14 of 14 assets are to be made." in first
    assert "About a minute on two quiet CPU cores" in first
    assert "Loading weights" not in first
    assert "Warning" not in first
    adapter = next(line for line in first.splitlines() if line.startswith("Adapter: ")).removeprefix("Adapter: ")
    assert (Path(adapter) / "adapter_model.safetensors").exists()
    report = next(line for line in first.splitlines() if line.startswith("Report, to open in a browser"))
    assert "report.html" in Path(report.partition("): ")[2]).read_text()
    second = said_by(commands.demo(settings, "words"))
    assert "Nothing has changed since the last run" in second
    lines = [line for line in second.splitlines() if line.startswith("  ") and "/" in line.split(":")[0]]
    assert len(lines) == 14
    assert all(line.endswith(": unchanged") for line in lines)
    with dg.DagsterInstance.from_config(str(settings.parent / ".dagster")) as instance:
        assert sorted(run.job_name for run in instance.get_runs()) == ["refresh_domain"] * 2 + ["refresh_pool"] * 2


def test_demo_says_which_rows_were_set_aside_and_where_they_are_listed(copy: Path, commands: Commands) -> None:
    for file in (copy.parent / "pool" / "words.jsonl", copy.parent / "domains" / "sums" / "test.jsonl"):
        file.write_text(file.read_text() + '{"id": "bad:1", "instruction": "x", "output": ""}\n' * 2)
    shown = said_by(commands.demo(copy, "sums"))
    for asset, place in (("pool", "pool/words.jsonl, line 21"), ("target", "domains/sums/test.jsonl, line 8")):
        said = f"instructions/{asset}: 2 rows set aside, the first: {place}: empty response; "
        assert f"{said}see `g2is sql 'FROM instructions_{asset}_rejected' --config {copy}`" in shown
    listed = answer(copy, "sql", "FROM instructions_pool_rejected")
    assert [row["id"] for row in listed] == ["bad:1"] * 2


def test_demo_draws_bars_with_the_time_left_in_a_terminal(make_project: MakeProject, commands: Commands) -> None:
    """Dagster captures a step's streams, so this is not a matter of course."""
    settings = make_project()
    shutil.rmtree(settings.parent / ".dagster")  # else nothing is captured
    shown = commands.shown_in_terminal(["demo", "--config", str(settings)], TERM="xterm", COLUMNS="120")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    for step in ("warmup", "gradients", "graph", "adapter", "baseline", "evaluation"):
        assert re.search(rf"  {step} .*/\d+ (tokens|rows) .*left", text), step


def test_a_failing_domain_does_not_stop_the_others(built: Path, commands: Commands) -> None:
    (built.parent / "domains" / "sums" / "validation.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    shown = said_by(commands.g2is("demo", "--all", "--config", built), code=1)
    assert "domain 'sums' failed" in shown
    assert "at least 2 distinct ones are needed" in shown
    assert "words: NLL on test rows" in shown


def test_the_program_ends_with_an_exit_code_and_one_line(make_project: MakeProject) -> None:
    settings = make_project()
    command = [*PROGRAM, "demo", "--domain", "poetry"]
    environment = os.environ | {"G2IS_CONFIG": str(settings)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "there is no domain 'poetry'" in done.stderr
    assert "Traceback" not in done.stderr
    assert "is not in the range" in g2is(settings, "gc", "--min-age-hours", "-1").stderr
    assert not (settings.parent / "lake").exists()


def test_gc_says_what_it_would_drop_then_drops_it_then_finds_nothing(make_project: MakeProject) -> None:
    settings = make_project()
    settings.write_text("keep_versions = 2\n" + settings.read_text())
    lake = lake_of(settings)
    for code in "123":
        current, _ = lake.make(Recipe("stage/noun", None, code, {}), "run", write_5000_bytes)
    young = g2is(settings, "gc")
    assert re.search(r"old versions +│ +0 │ +0 bytes", young.stdout), young.stderr
    arguments = ("gc", "--min-age-hours", "0")
    foretold = g2is(settings, *arguments, "--dry-run")
    assert "Would leave the lake" in foretold.stdout
    assert len(list(lake.root.rglob("a.bin"))) == 3
    done = g2is(settings, *arguments)
    assert done.exit_code == 0, done.stderr
    for shown in (foretold, done):
        assert re.search(r"old versions +│ +1 │ +5\.0 kB", shown.stdout)
    assert len(list(lake.root.rglob("a.bin"))) == 2
    assert (current.folder / "a.bin").exists()
    again = answer(settings, *arguments)
    assert (again["paths"], again["n_bytes"], again["left_alone"]) == ([], 0, [])
    (current.folder / "manifest.json").write_text("{")
    assert f"Left alone: {current.folder}/manifest.json is missing or damaged" in g2is(settings, *arguments).stdout


def write_5000_bytes(draft: Draft) -> None:
    (draft.folder / "a.bin").write_bytes(b"a" * 5000)
