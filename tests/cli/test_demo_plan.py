"""What the demo says before it begins: how much is missing, and how long that takes by which measure."""

import re
from pathlib import Path

import pytest

from g2is_assets.cli.refresh import HALVED, _seconds, _speed, plan_lines
from g2is_assets.settings.project import load_project
from g2is_assets.training import model
from support.rows import arithmetic_row, write_jsonl
from support.runs import refresh

SAMPLE = Path(__file__).parents[2] / "data" / "g2is.toml"


def plan(settings: Path, *domains: str) -> list[str]:
    return plan_lines(load_project(settings), domains)


def test_the_sample_data_take_the_minutes_that_were_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """README: six minutes on two quiet cores for the first domain."""
    monkeypatch.setenv("G2IS_HOME", str(tmp_path))
    said, time = plan(SAMPLE, "schedule_reasoning")
    assert said == "Pool of about 582 rows and domain schedule_reasoning: at most 14 of 14 assets are to be made."
    assert 4 <= int(time.split()[1]) <= 9
    assert "two quiet CPU cores" in time
    assert "3 domains: at most 32 of 32" in plan(SAMPLE, "schedule_reasoning", "shop_arithmetic", "support_triage")[0]


def test_nothing_missing_is_said_and_so_is_what_a_change_makes_missing(copy: Path) -> None:
    assert plan(copy, "sums") == ["Nothing has changed since the last run: the versions that are there serve again."]
    assert "at most 9 of 14" in plan(copy, "words")[0]
    (copy.parent / "lake" / "graph" / "neighbors" / "current.json").unlink()
    assert plan(copy)[0] == "Pool of about 40 rows: at most 1 of 5 assets are to be made."
    write_jsonl(copy.parent / "pool" / "more.jsonl", [arithmetic_row(n) for n in range(400, 410)])
    said, time = plan(copy, "sums")
    assert said.startswith("Pool of about 50 rows and domain sums: at most ")
    assert "14 of 14" not in said  # sample, checkpoint and the domain's own gradients serve on
    assert re.search(r"About a minute at the [\d,]+ tokens/s of the gradients made last", time)


def test_a_limit_counts_and_hours_are_hours(make_project: object, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_project()  # type: ignore[operator]
    rows = [arithmetic_row(n) for n in range(100)] * 200
    write_jsonl(settings.parent / "pool" / "many.jsonl", rows)
    monkeypatch.setattr("g2is_assets.cli.refresh._parameters", lambda project: 1.345e9)
    said, time = plan(settings, "sums")
    assert "about 20,0" in said
    assert time.split()[2] == "hours"
    settings.write_text(settings.read_text().replace("max_length", "limit = 30\nmax_length"))
    assert plan(settings, "sums")[0].startswith("Pool of about 30 rows")


def test_gradients_in_bfloat16_are_quicker_and_tell_no_more_of_a_trainings_speed(copy: Path) -> None:
    before, (manifest,) = load_project(copy), (copy.parent / "lake" / "gradients" / "pool").glob("*/manifest.json")
    text = manifest.read_text()
    speed = _speed(before, 1.0)[0]
    manifest.write_text(text.replace('"settings": {', '"settings": {"compute": "bfloat16",', 1))
    assert _speed(before, 1.0)[0] == pytest.approx(speed / HALVED)
    made = {("gradients/pool", None), ("warmup/checkpoint", None)}
    padded = _seconds(before, {("warmup/checkpoint", None)}, [], 1000, 1e5)
    copy.write_text(copy.read_text().replace('compute = "float32"', 'compute = "bfloat16"'))
    times = [_seconds(project, made, [], 1000, 1e5) - padded for project in (before, load_project(copy))]
    assert times[0] == pytest.approx(times[1] * HALVED)


def test_what_cannot_be_known_is_not_guessed(make_project: object, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_project()  # type: ignore[operator]
    text = settings.read_text()
    settings.write_text(text.replace(text.splitlines()[1], 'model = "someone/model"'))
    assert plan(settings, "sums")[1] == "The model is fetched first; how long it will take is known once it is here."
    settings.write_text(text.replace('device = "cpu"', 'device = "auto"'))
    monkeypatch.setattr(model, "_has_cuda", lambda: True)
    assert "on a GPU it was not measured" in plan(settings, "sums")[1]


def test_the_plan_changes_nothing(copy: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in copy.parent.rglob("*")}
    plan(copy, "sums", "words")
    assert {file: file.stat().st_mtime_ns for file in copy.parent.rglob("*")} == before
    refresh(copy, "words")
    assert plan(copy, "words")[0].startswith("Nothing has changed")
