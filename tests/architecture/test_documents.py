"""What README says exists: its paths, its commands, its two one-line set-ups."""

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from g2is_assets.cli import main
from support.commands import every_command, example_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLACES = [*sorted((ROOT / "data").glob("*.toml")), *sorted((ROOT / "data" / "studies").glob("*.toml"))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(text: str = README) -> list[str]:
    """Lines of shell blocks, without prompts and comments."""
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", text, flags=re.S)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_the_first_lines_for_demo_and_tests_do_all_the_set_up() -> None:
    demo = next(line for line in README.splitlines() if "g2is demo" in line)
    tests = next(line for line in commands() if "pytest" in line)
    for line, requirement in ((demo, "-e ."), (tests, "-e '.[test]'")):
        assert line.startswith("python3 -m venv .venv && ")
        assert f"pip install -c constraints.txt {requirement} && " in line
    assert demo.endswith(".venv/bin/g2is demo")
    assert tests.endswith(".venv/bin/pytest")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")) if "://" not in link]
    assert links or page.name != "README.md"
    assert [link for link in links if not leads(page.parent / link.split("#")[0], link.partition("#")[2])] == []


def leads(file: Path, heading: str) -> bool:
    """Whether a file is there, and has the heading that a link ends with, if it ends with one."""
    heads = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.M) if heading else []
    return file.exists() and (
        not heading or heading in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in heads]
    )


@pytest.mark.parametrize("file", PLACES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_what_is_said_to_stand_under_a_heading_of_another_page_stands_there(file: Path) -> None:
    """As comments of settings, help and texts say it: `(docs/guide.md, Compare selectors)`."""
    said = re.findall(r"\((README|docs/\w+\.md)(?:, ([A-Z][^();]+))?\)", file.read_text(encoding="utf-8"))
    assert [one for one in said if not points(*one)] == []


def points(page: str, heading: str) -> bool:
    """Whether a page of the repository is there, and has a heading that begins so."""
    file = ROOT / (page if page != "README" else "README.md")
    return file.exists() and bool(re.search(rf"^#+ {re.escape(heading)}", file.read_text(encoding="utf-8"), flags=re.M))


def options_of(command: click.Command) -> set[str]:
    return {name for option in command.params for name in option.opts if name.startswith("--")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_pages_is_one_that_the_program_has_with_these_options(page: Path) -> None:
    lines = [line.replace("\\\n", " ") for line in commands(page.read_text(encoding="utf-8").replace("\\\n", " "))]
    used = [words for line in lines if (words := re.findall(r"(?<!-n )\bg2is (.+)", line))]  # of a signature a name
    for (said,) in used:
        command: click.Command = main
        words = said.split()
        while isinstance(command, click.Group) and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert command is not main, said
        given = {word.split("=")[0] for word in words if word.startswith("--")}
        assert given <= options_of(command) | {"--help"}, said


@pytest.mark.parametrize("path", every_command(main), ids=lambda path: " ".join(path) or "g2is")
def test_every_command_shows_an_example_in_its_help_and_the_example_parses(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0
    assert " ".join(("Example: g2is", *path)) in result.output
    assert "\\b" not in result.output
    assert "..." not in result.output.partition("Commands:")[2]  # no summary is cut at 80 columns
    said = example_of(path)
    assert said[: len(path)] == list(path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tickets.jsonl").touch()  # the one file that an example reads
    parse(main, said)


def parse(command: click.Command, words: list[str]) -> None:
    """Parse a command line to its end, without running anything; click raises where it does not parse."""
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(click.Context(command), words)
        assert command is not None, name
    command.make_context(None, words)
