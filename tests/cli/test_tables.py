"""The tables of all commands, in terminals of 80 and of 60 columns, whole, as JSON and as CSV."""

import csv
import io
import json
import os
import pty
from pathlib import Path

import pytest

from g2is_assets.cli.tables import print_csv
from g2is_assets.reports.terminal import cleaned_streams
from g2is_assets.store.views import rebuild_views
from support.commands import g2is
from support.projects import lake_of, study_of
from support.shared import copied
from support.tables import fits

QUERY = (
    "SELECT row_id, sources, n_prompt_tokens, 123456.789 AS number, -0.00012345 AS small, prompt "
    "FROM instructions_pool ORDER BY row_id"
)
LISTS = {
    "domains": ["domain", "list"],
    "studies": ["study", "list"],
    "answers": ["sql", QUERY],
    "garbage": ["gc", "--dry-run"],
}


@pytest.fixture(scope="module")
def settings(refreshed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose names, titles and reasons are long."""
    copy = copied(refreshed, tmp_path_factory.mktemp("tables") / "copy", history=False)
    domains, studies = copy.parent / "domains", copy.parent / "studies"
    (domains / "words").rename(domains / "words_of_the_counters_at_the_harbour")
    (domains / "sums" / "domain.toml").write_text(
        'title = "Sums as people write them who are in a hurry"\nrefresh = "0 3 * * 1-5"\ntimezone = "Europe/Berlin"\n'
    )
    studies.mkdir()
    (studies / "of_many_variants.toml").write_text(study_of("budgets = [0.15, 4]", "base", "random", "less", "full"))
    rebuild_views(lake_of(copy))
    return copy


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("arguments", LISTS.values(), ids=LISTS)
def test_a_list_fits_without_broken_words_or_cut_numbers(settings: Path, arguments: list[str], width: int) -> None:
    fits(settings, *arguments, width=width)


@pytest.mark.parametrize("arguments", LISTS.values(), ids=LISTS)
def test_a_list_is_json_and_csv_for_programs_and_one_form_at_a_time(settings: Path, arguments: list[str]) -> None:
    found = json.loads(g2is(settings, *arguments, "--json").stdout)
    rows = list(csv.DictReader(io.StringIO(g2is(settings, *arguments, "--csv").stdout)))
    if arguments[0] != "gc":  # which tells sums as JSON, and every path as CSV
        assert [list(row) for row in rows] == [list(record) for record in found]
        assert rows
    assert "--json and --csv exclude each other" in g2is(settings, *arguments, "--json", "--csv").stderr


def test_numbers_keep_every_digit_and_what_has_no_room_is_named(settings: Path) -> None:
    shown = fits(settings, "sql", QUERY, width=80)
    assert " 123457 │" in shown
    assert " -0.00012345 │" in shown
    said = " ".join(fits(settings, "sql", QUERY, width=60).split())
    assert "│ prompt" in said.replace("┃", "│")
    assert "Too narrow for row_id, sources: --wide shows all, --json and --csv print all." in said
    whole = g2is(settings, "sql", "SELECT prompt FROM instructions_pool ORDER BY length(prompt) DESC", "--wide").stdout
    assert "…" not in whole


def test_a_domain_shows_its_state_first_and_its_schedule_when_asked(settings: Path) -> None:
    few = g2is(settings, "domain", "list", COLUMNS="80").stdout
    assert "schedule" not in few
    assert "0 3 * * 1-5 Europe/Berlin" in g2is(settings, "domain", "list", "--wide").stdout
    assert " missing " in few


def test_exposures_are_csv_for_auditors(settings: Path) -> None:
    asked = ("audit", "impact", "--source", "sums")
    rows = list(csv.DictReader(io.StringIO(g2is(settings, *asked, "--csv").stdout)))
    assert len(rows) == len(json.loads(g2is(settings, *asked, "--json").stdout)["exposures"]) > 0
    assert {"kind", "row_id", "version"} <= rows[0].keys()


@pytest.mark.parametrize("width", [80, 60])
def test_views_are_listed_with_whole_names(settings: Path, width: int) -> None:
    shown = g2is(settings, "sql", COLUMNS=str(width)).stdout
    *table, _hint = shown.splitlines()
    names = [line.split("│")[1].strip() for line in table if line.startswith("│")]
    assert names == [view["name"] for view in json.loads(g2is(settings, "sql", "--json").stdout)]
    assert max(map(len, table)) <= width


def test_csv_commands_no_terminal_and_loses_nothing_in_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    print_csv(["a\x1b[31m"], [["b\x1b]0;title\x07"]])
    assert capfd.readouterr().out == "a\x1b[31m\nb\x1b]0;title\x07\n"
    parent, child = pty.openpty()
    with os.fdopen(child, "w") as terminal, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        with cleaned_streams():
            print_csv(["a\x1b[31m"], [["b\x1b]0;title\x07"]])
    seen = os.read(parent, 1000).decode()
    os.close(parent)
    assert "\x1b" not in seen
    assert "\x07" not in seen
