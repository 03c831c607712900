"""What other people wrote commands no terminal: every command, on a project that is full of escape sequences."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from g2is_assets.cli import main
from g2is_assets.cli.ui import show
from g2is_assets.reports.terminal import cleaned_streams
from g2is_assets.reports.words import COMMANDS
from support.commands import every_command, g2is
from support.processes import Commands
from support.projects import STUDY, write_project
from support.rows import arithmetic_row, write_jsonl

ODD = "a\x1b]0;owned\x07b\x1b[8mc\x9b2Jd\x08\x7fe\u202ef\u2066g\x1b[2J"
"""Names the window, hides text, clears the screen, deletes, and shows text in another order."""
OWN_STYLE = re.compile(r"\x1b\[(?:\d+(?:;\d+)*)?m")
CONCEALED = "\x1b[8m"
MARKUP = "[bold]<script>[/red] "


@pytest.fixture(scope="module")
def hostile(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A refreshed project whose rows, ids, sources, licences, columns, file names and titles hold `ODD`."""
    settings = write_project(tmp_path_factory.mktemp("hostile") / "project", tiny_model)
    pool = settings.parent / "pool"
    for file in pool.iterdir():
        file.unlink()
    odd, column = MARKUP + ODD, f"q{ODD}"
    told = {"source": odd, "license": odd, "input": odd}
    write_jsonl(pool / f"{ODD}.jsonl", [arithmetic_row(n) | told | {"id": f"{n}{ODD}"} for n in range(20)])
    named = [{column: row.pop("instruction"), **row} for row in map(arithmetic_row, range(20, 40))]
    write_jsonl(pool / "named.json", [*named, {column: odd, "output": [odd], ODD: odd}])
    text = settings.read_text().replace(
        '["pool/*.jsonl"]', '["pool/*.jsonl", {path = "pool/named.json", columns = COLUMNS}]'
    )
    columns = f'{{prompt = {json.dumps(column)}, response = "output"}}'.replace("\x7f", "\\u007f")
    settings.write_text(text.replace("COLUMNS", columns))
    title = json.dumps(f"{MARKUP}{ODD}").replace("\x7f", "\\u007f")
    (settings.parent / "domains" / "sums" / "domain.toml").write_text(f"title = {title}\n")
    (settings.parent / "studies").mkdir()
    (settings.parent / "studies" / "odd.toml").write_text(STUDY.replace('"Small"', title))
    commands = Commands(settings.parent.parent)
    done = commands.demo(settings)
    assert done.wait() == 0, done.shown
    done.log.rename(settings.parent / "said")
    return settings


def commanding(text: str) -> list[str]:
    return [*COMMANDS.findall(text), *re.findall("\r(?!\n)", text)]


QUERY = "SELECT row_id, sources, licenses, prompt, 1 AS \"{0}\" FROM instructions_pool WHERE prompt <> '{0}'"


def calls(settings: Path) -> dict[tuple[str, ...], list[list[str]]]:
    """What every command is called with, once or several times; refusals quote what they refuse."""
    rows = json.loads(g2is(settings, "sql", "FROM selection_subset", "--json").stdout)
    row, out = rows[0]["row_id"], settings.parent / "out"
    question = QUERY.format(ODD)
    odd_rows = write_jsonl(settings.parent / f"mine{ODD}.jsonl", [{ODD: ODD}, arithmetic_row(1), arithmetic_row(2)])
    return {
        ("init",): [[str(settings.parent / f"made{ODD}")], [str(settings.parent / "said" / ODD)]],
        ("model", "fetch"): [[], [ODD]],
        ("demo",): [["--domain", ODD]],
        ("refresh",): [["--domain", ODD], []],
        ("service",): [[], ["--host", ODD]],
        ("doctor",): [[], ["--json"]],
        ("domain", "add"): [["new", "--validation", str(odd_rows), "--title", ODD], ["a", "--validation", ODD]],
        ("domain", "list"): [[], ["--wide"], ["--json"]],
        ("domain", "rename"): [["sums", ODD], ["sums", "other", "--dry-run"], [ODD, "other"]],
        ("domain", "remove"): [["sums", "--dry-run"], [ODD]],
        ("export", "adapter"): [["sums", str(out / ODD)]],
        ("export", "subset"): [["sums", "--format", "alpaca", "--out", str(out / f"{ODD}.jsonl")]],
        ("audit", "verify"): [[], ["--json"], [ODD]],
        ("audit", "show"): [["sums"], ["sums", "--json"], [ODD]],
        ("audit", "impact"): [["--row", row], ["--source", f"{MARKUP}{ODD}"], ["--license", ODD], ["--row", ODD]],
        ("audit", "diff"): [["sums", ODD, ODD]],
        ("audit", "versions"): [["sums"], ["sums", "--json"], [ODD]],
        ("audit", "witness"): [[str(settings.parent / f"witness{ODD}")], [str(settings / ODD)]],
        ("sql",): [[], [question], [question, "--json"], [f"SELECT {ODD}"], ["FROM instructions_pool_rejected"]],
        ("study", "list"): [[], ["--wide"], ["--json"]],
        ("study", "run"): [["odd", "--variant", ODD]],
        ("study", "show"): [["odd"], [ODD]],
        ("why",): [["sums", f"3{ODD}"], ["sums", row], ["sums", f"3{ODD}", "--json"], ["sums", ODD]],
        ("withdraw",): [["--row", f"3{ODD}", "--reason", ODD, "--by", ODD], ["--row", ODD, "--reason", "x"]],
        ("gc",): [[], ["--json"], ["--erase", f"3{ODD}"], ["--erase", f"4{ODD}"]],
    }


WITHOUT = {("init",), ("model", "fetch")}
"""Commands that work on no project."""


def leaves() -> set[tuple[str, ...]]:
    found = every_command(main)
    return {path for path in found if not any(other[: len(path)] == path and other != path for other in found)}


def test_no_command_says_to_a_pipe_what_commands_a_terminal(hostile: Path) -> None:
    said = {"demo": (hostile.parent / "said").read_text()}
    called = calls(hostile)
    assert set(called) | {("ui",)} == leaves()
    for path, variants in called.items():
        for words in variants:
            result = CliRunner().invoke(main, [*path, *words]) if path in WITHOUT else g2is(hostile, *path, *words)
            assert result.exit_code in (0, 1, 2)
            said[" ".join((*path, *words))] = result.stdout_bytes.decode() + result.stderr_bytes.decode()
    assert {name: found for name, text in said.items() if (found := commanding(text))} == {}
    for name in ("demo", "audit show sums", "study list --wide", "domain list --json", f"why sums 3{ODD}"):
        assert "owned" in said[name], name  # that it was there to be printed
        assert CONCEALED not in said[name]
    assert f"{MARKUP.strip()} a" in said["demo"]


def test_csv_is_altered_for_a_terminal_alone(hostile: Path) -> None:
    where = "FROM instructions_pool WHERE contains(sources[1], 'owned')"
    piped = g2is(hostile, "sql", f'SELECT sources[1], 1 AS "{ODD}" {where}', "--csv")
    assert list(csv.reader(io.StringIO(piped.stdout)))[:2] == [["sources[1]", ODD], [f"{MARKUP}{ODD}", "1"]]


def test_no_command_lets_others_command_a_real_terminal(hostile: Path, commands: Commands) -> None:
    every = [[*path, *words] for path, each in calls(hostile).items() for words in each]
    named = ["--config", str(hostile)]
    called = [[*words, *([] if words[0] == "init" else named)] for words in every if "--json" not in words]
    called.append(["sql", QUERY.format(ODD), "--csv", "--config", str(hostile)])
    text = commands.shown_in_terminal(*called, TERM="xterm-256color", COLUMNS="200").replace("\r\n", "\n")
    assert OWN_STYLE.search(text)
    assert CONCEALED not in text
    assert commanding(OWN_STYLE.sub("", text)) == []
    assert text.count("owned") > 20


def test_what_the_servers_log_is_cleaned_too(capfd: pytest.CaptureFixture[str]) -> None:
    code = f"import sys; sys.stderr.write({ODD!r} * 20_000); print('end')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        with cleaned_streams():
            show(process.stdout.fileno())
    said = capfd.readouterr().err
    assert said.count("owned") == 20_000
    assert commanding(said) == []
