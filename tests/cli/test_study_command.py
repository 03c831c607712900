"""`g2is study` as people use it: a plan, a run that can be stopped and goes on, a table."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from g2is_assets.cli import main
from support.projects import study_of
from support.tables import fits

STUDY = study_of('domains = ["words"]\nbudgets = [4]', "base", "random", "less")


@pytest.fixture
def settings(make_project: Callable[..., Path]) -> Path:
    found = make_project()
    (found.parent / "studies").mkdir()
    (found.parent / "studies" / "small.toml").write_text(STUDY)
    return found


def g2is(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from g2is_assets.cli import main; main()", *arguments]
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)


def test_a_study_runs_after_its_plan_stops_in_time_goes_on_and_is_shown(settings: Path) -> None:
    planned = g2is("study", "run", "small", "--plan", "--config", str(settings))
    assert planned.returncode == 0, planned.stderr
    said = "First what it reads: Pool of about 40 rows and domain words: at most 7 of 7 assets are to be made."
    assert said in planned.stdout
    assert not (settings.parent / "lake").exists()
    stopped = g2is("study", "run", "small", "--hours", "0", "--config", str(settings))
    assert stopped.returncode == 0, stopped.stderr
    # Three variants: two rates each but for the base model; no subset was selected yet.
    assert "4 trainings and 3 scorings are missing" in stopped.stdout
    assert "assumed: none has been made yet" in stopped.stdout
    assert "2 subsets are not selected yet" in stopped.stdout
    assert "the time given is over" in stopped.stdout
    assert set(planned.stdout.splitlines()[1:]) <= set(stopped.stdout.splitlines())  # the plan was right
    assert list((settings.parent / "cells").rglob("*.parquet")) == []
    done = g2is("study", "run", "small", "--config", str(settings))
    assert done.returncode == 0, done.stderr
    assert "study/leaderboard: done" in done.stderr
    again = g2is("study", "run", "small", "--config", str(settings))
    assert "0 trainings and 0 scorings are missing" in again.stdout
    assert "as those of this study so far took" in again.stdout
    assert "study/adapter[words.small.less]: unchanged" in again.stderr
    shown = g2is("study", "show", "small", "--config", str(settings))
    assert shown.returncode == 0, shown.stderr
    for part in ("words, budget 4: NLL on 4 development rows", "all, budget 4", "minus random", "base", "less"):
        assert part in shown.stdout
    for width in (80, 60):
        few = fits(settings, "study", "show", "small", width=width)
        assert "selection" not in few
        assert "minus random" in few.replace("\n", " ")
    rows = json.loads(g2is("study", "show", "small", "--domain", "all", "--json", "--config", str(settings)).stdout)
    assert {row["variant"] for row in rows} == {"base", "random", "less"}
    assert [row["rank"] for row in rows] == [1, 2, 3]


def test_one_variant_alone_may_be_asked_for(settings: Path) -> None:
    done = g2is("study", "run", "small", "--variant", "base", "--config", str(settings))
    assert done.returncode == 0, done.stderr
    assert "0 trainings and 1 scoring are missing" in done.stdout
    assert len(pl.read_parquet(settings.parent / "cells" / "small.parquet")) == 1
    looked = g2is("audit", "verify", "--config", str(settings))
    assert looked.returncode == 0, looked.stdout  # whole and witnessed, also where no domain has an adapter
    assert looked.stdout.startswith("everything else: whole\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "nothing"), "there is no study 'nothing'"),
        (("run", "small", "--domain", "sums"), "has no domain 'sums'; it has words"),
        (("run", "small", "--variant", "lesss"), "has no variant 'lesss'; it has base, random, less"),
        (("show", "small", "--part", "final"), "the final rows of study 'small' are not opened"),
        (("show", "small"), "study/leaderboard has not been materialised"),
    ],
)
def test_mistakes_are_told_in_one_line(settings: Path, arguments: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(main, ["study", *arguments, "--config", str(settings)])
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_studies_are_listed(settings: Path) -> None:
    result = CliRunner().invoke(main, ["study", "list", "--wide", "--config", str(settings)])
    assert result.exit_code == 0
    line = next(line for line in result.output.splitlines() if " small " in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]] == [
        "small", "Small", "words", "base, random, less", "4", "0"
    ]  # fmt: skip
    (settings.parent / "studies" / "small.toml").unlink()
    assert "no study in" in CliRunner().invoke(main, ["study", "list", "--config", str(settings)]).output


@pytest.mark.parametrize("command", ["run", "show", "list"])
def test_every_command_has_an_example(command: str) -> None:
    result = CliRunner().invoke(main, ["study", command, "--help"])
    assert result.exit_code == 0
    assert "Example: g2is study" in result.output


def test_the_list_of_studies_is_json_for_programs() -> None:
    settings = Path(__file__).parents[2] / "data" / "g2is.toml"
    result = CliRunner().invoke(main, ["study", "list", "--json", "--config", str(settings)])
    (sample,) = json.loads(result.output)
    assert sample["study"] == "sample"
    assert "random" in sample["variants"]
    assert {"title", "budgets", "seeds", "final", "domains"} <= sample.keys()
