"""`g2is domain` as people use it: what it refuses, what it writes, what it says afterwards."""

import gzip
import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from g2is_assets.cli import main
from g2is_assets.contracts.instructions import Instruction
from g2is_assets.settings.project import load_project
from g2is_assets.stages.frame import recipe_of
from g2is_assets.stages.stage import Place
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.sources import read_rows
from support.rows import arithmetic_row, write_jsonl

MakeProject = Callable[..., Path]
ROWS = [arithmetic_row(n, "sums") for n in range(400, 412)]


@pytest.fixture
def settings(make_project: MakeProject) -> Path:
    return make_project()


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    validation = write_jsonl(tmp_path / "rows" / "mine.jsonl", ROWS[:5])
    return str(validation), str(write_jsonl(tmp_path / "rows" / "others.jsonl", ROWS[5:]))


def g2is(settings: Path, *arguments: str) -> Result:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(main, ["domain", *arguments, "--config", str(settings)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def names(settings: Path) -> set[str]:
    """Everything in the domains' folder, hidden or not."""
    return {entry.name for entry in (settings.parent / "domains").iterdir()}


def test_a_domain_is_added_with_its_rows_and_settings(settings: Path, files: tuple[str, str]) -> None:
    title = 'Prices "net"\\ and\t naïve 😀 \x7f ]\n[selection]'
    done = g2is(
        settings, "add", "prices", "--validation", files[0], "--test", files[1], "--title", title, "--budget", "0.1",
        "--refresh", "0 5 * * 1", "--timezone", "Europe/Berlin", "--owner", "team:prices",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "validation: 5 usable rows, 0 repeated, 0 rejected" in done.output
    assert f"then `g2is refresh --domain prices --config {settings}`" in done.output
    domain = load_project(settings).domain("prices")
    assert (domain.title, domain.selection.budget, domain.owner) == (title, 0.1, "team:prices")
    assert (domain.refresh, domain.timezone) == ("0 5 * * 1", "Europe/Berlin")
    assert [file.read_bytes() for file in (*domain.validation, *domain.test)] == [
        Path(file).read_bytes() for file in files
    ]
    assert names(settings) == {"sums", "words", "prices"}


def test_without_options_the_domain_follows_the_project(settings: Path, files: tuple[str, str]) -> None:
    assert g2is(settings, "add", "prices", "--validation", files[0]).exit_code == 0
    assert tomllib.loads((settings.parent / "domains" / "prices" / "domain.toml").read_text()) == {}
    domain = load_project(settings).domain("prices")
    assert (domain.owner, domain.refresh, domain.timezone, domain.test) == ("team:project", None, "UTC", ())


@pytest.mark.parametrize(
    "name", ["Prices", "1st", "a-b", "../evil", "a/b", "..", ".", "/tmp/evil", "a\n", "ä", "", "a" * 64, "_store"]
)
def test_a_name_that_is_no_plain_word_is_refused(settings: Path, files: tuple[str, str], name: str) -> None:
    done = g2is(settings, "add", name, "--validation", files[0])
    assert done.exit_code == 1
    assert "a domain's name must match" in done.output
    assert names(settings) == {"sums", "words"}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--owner", "somebody", "an owner is an email address"),
        ("--owner", "a@localhost", "an owner is an email address"),
        ("--owner", "team:", "an owner is an email address"),
        ("--refresh", "every day", "no cron schedule"),
        ("--refresh", "0 0 31 4 *", "never comes"),
        ("--timezone", "Mars/Olympus", "not a time zone"),
        ("--timezone", "America", "not a time zone"),
        ("--timezone", "../../etc/passwd", "not a time zone"),
        ("--budget", "0", "budget"),
        ("--budget", "2.5", "must be whole"),
        ("--budget", "nan", "budget"),
        ("--title", os.fsdecode(b"\xff"), "cannot be made"),
    ],
)
def test_a_value_that_the_project_would_refuse_adds_nothing(
    settings: Path, files: tuple[str, str], option: str, value: str, message: str
) -> None:
    done = g2is(settings, "add", "prices", "--validation", files[0], option, value)
    assert done.exit_code == 1
    assert message in done.output
    assert ".adding" not in done.output
    assert names(settings) == {"sums", "words"}


def test_columns_of_other_names_are_named_once_and_read_by_every_command(settings: Path, tmp_path: Path) -> None:
    file = tmp_path / "faq.csv"
    file.write_text("Question,Answer\nOpening hours?,9 to 5\nWhere?,In the yard\n", encoding="utf-8")
    unknown = g2is(settings, "add", "faq", "--validation", str(file))
    assert unknown.exit_code == 1
    assert "is `Question` the known `question`?" in unknown.output
    wrong = g2is(settings, "add", "faq", "--validation", str(file), "--column", "propmt", "Question")
    assert "did you mean 'prompt'?" in wrong.output
    named = ("--column", "prompt", "Question", "--column", "response", "Answer")
    done = g2is(settings, "add", "faq", "--validation", str(file), *named)
    assert done.exit_code == 0, done.output
    project = load_project(settings)
    (own,) = project.domain("faq").validation
    rows = list(read_rows(str(own), project.rows_of(own), tmp_path))
    assert [row.response for row in rows if isinstance(row, Instruction)] == ["9 to 5", "In the yard"]
    doctor = CliRunner().invoke(main, ["doctor", "--config", str(settings)])
    assert "faq has no test rows" in doctor.output
    recipe = recipe_of(Workspace(load_project(settings)), "instructions/target", Place(domain="faq"))
    assert recipe.settings["columns"] == {
        "file:domains/faq/validation.csv": {"prompt": "Question", "response": "Answer"}
    }


def test_a_domain_that_exists_is_left_as_it_is(settings: Path, files: tuple[str, str]) -> None:
    before = (settings.parent / "domains" / "sums" / "validation.jsonl").read_bytes()
    done = g2is(settings, "add", "sums", "--validation", files[0])
    assert done.exit_code == 1
    assert "exists; edit its files, or remove it" in done.output
    assert (settings.parent / "domains" / "sums" / "validation.jsonl").read_bytes() == before


@pytest.mark.parametrize(("name", "kept"), [("a.csv", ".csv"), ("a.JSON.GZ", ".json.gz"), ("a.txt", ".jsonl")])
def test_a_file_keeps_its_format_in_the_domains_folder(settings: Path, tmp_path: Path, name: str, kept: str) -> None:
    rows = [{"prompt": f"{n}?", "response": "yes"} for n in range(3)]
    text = {
        ".csv": "prompt,response\n0?,yes\n1?,yes\n",
        ".json.gz": json.dumps(rows),
        ".jsonl": "".join(json.dumps(row) + "\n" for row in rows),
    }[kept]
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if kept.endswith(".gz") else text.encode())
    done = g2is(settings, "add", "prices", "--validation", str(tmp_path / name))
    assert done.exit_code == 0, done.output
    (file,) = load_project(settings).domain("prices").validation
    assert file.name == f"validation{kept}"
    assert file.read_bytes() == (tmp_path / name).read_bytes()


def test_rejected_rows_are_named_and_too_few_usable_ones_refused(settings: Path, tmp_path: Path) -> None:
    bad = [{"instruction": "a", "output": ""}, {"instruction": "", "output": "b"}]
    some = write_jsonl(tmp_path / "some.jsonl", [ROWS[0], bad[0], ROWS[1], ROWS[1], bad[1]])
    done = g2is(settings, "add", "prices", "--validation", str(some))
    assert done.exit_code == 0
    assert "validation: 2 usable rows, 1 repeated, 2 rejected" in done.output
    assert "  line 2: empty response" in done.output
    assert "  line 5: empty user text" in done.output
    few = write_jsonl(tmp_path / "few.jsonl", [ROWS[0], ROWS[0], bad[0]])
    done = g2is(settings, "add", "other", "--validation", str(few))
    assert done.exit_code == 1
    assert "1 usable validation row, at least 2 distinct ones are needed" in done.output
    (tmp_path / "broken.jsonl").write_text("{")
    done = g2is(settings, "add", "other", "--validation", str(tmp_path / "broken.jsonl"))
    assert "broken.jsonl, line 1: not valid JSON" in done.output
    (tmp_path / "rows.md").write_text("a,b")
    done = g2is(settings, "add", "other", "--validation", str(tmp_path / "rows.md"))
    assert "neither name nor content say what it holds" in done.output
    assert "other" not in names(settings)


def test_a_row_in_both_files_is_named(settings: Path, files: tuple[str, str], tmp_path: Path) -> None:
    test = write_jsonl(tmp_path / "test.jsonl", [*ROWS[6:9], {**ROWS[2], "id": "another"}])
    done = g2is(settings, "add", "prices", "--validation", files[0], "--test", str(test))
    assert done.exit_code == 1
    assert f"1 row is both validation and test, such as {test}, line 4: " in done.output
    assert str(ROWS[2]["instruction"]) in done.output
    assert names(settings) == {"sums", "words"}


def test_what_stops_half_way_leaves_nothing(
    settings: Path, files: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    done = g2is(settings, "add", "prices", "--validation", files[0])
    assert done.exit_code == 1
    assert "No space left" in done.output
    assert names(settings) == {"sums", "words"}


def test_the_list_says_what_is_stale_and_why(settings: Path, copy: Path) -> None:
    (settings.parent / "domains" / "sums" / "domain.toml").write_text('refresh = "0 5 * * *"\nbudget = 6\n')
    before = {record["domain"]: record for record in json.loads(g2is(settings, "list", "--json").output)}
    assert before["sums"]["state"] == "missing"
    assert before["sums"]["because"][0] == "instructions/target: it has not been made yet"
    assert (before["words"]["refresh"], before["words"]["last_refresh"]) == (None, None)
    assert not (settings.parent / "lake").exists()
    settings = copy
    (settings.parent / "domains" / "sums" / "domain.toml").write_text('refresh = "0 5 * * *"\nbudget = 7\n')
    after = {record["domain"]: record for record in json.loads(g2is(settings, "list", "--json").output)}
    assert (after["sums"]["state"], after["sums"]["stale"], after["sums"]["budget"]) == ("stale", True, 7)
    assert after["sums"]["because"][0] == "selection/subset: setting selection.budget 0.15 -> 7.0"
    assert after["sums"]["last_refresh"].endswith(" UTC, success")
    shown = g2is(settings, "list", "--wide").output
    assert "0 5 * * * UTC" in shown
    assert "setting selection.budget 0.15 -> 7.0 (and 5 more)" in shown
    (settings.parent / "pool" / "more.jsonl").write_text('{"prompt": "1 + 1?", "response": "2"}\n')
    grown = {record["domain"]: record["because"] for record in json.loads(g2is(settings, "list", "--json").output)}
    assert grown["sums"][0] == "instructions/pool: input file:pool/more.jsonl is new"
    assert grown["sums"][1].startswith("selection/subset: setting selection.budget 0.15 -> 7.0; upstream ")


@pytest.mark.parametrize("command", [["domain", "list"], ["gc", "--dry-run"]])
def test_json_is_pure_json_also_where_colours_are_forced(settings: Path, command: list[str]) -> None:
    colours = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    result = CliRunner(env=colours).invoke(main, [*command, "--json", "--config", str(settings)])
    assert result.exit_code == 0, result.output
    json.loads(result.output)
