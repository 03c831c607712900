"""What people get wrong, at every command: one line that says it, exit code 1 or 2, no traceback, nothing made."""

from pathlib import Path

import pytest
from click import Group
from click.testing import CliRunner, Result

from g2is_assets.cli import main
from support.commands import every_command, example_of


def is_leaf(path: tuple[str, ...]) -> bool:
    command = main
    for name in path:
        command = command.commands[name]  # type: ignore[assignment]
    return not isinstance(command, Group)


LEAVES = [path for path in every_command(main) if is_leaf(path) and path not in {("init",), ("model", "fetch")}]
"""All that work on a project."""
ANSWER_ALWAYS = {("domain", "list"), ("gc",), ("service",), ("study", "list"), ("doctor",)}
"""Commands that have something to say of a project without a lake."""


def run(words: list[str], *more: str) -> Result:
    return CliRunner().invoke(main, [*words, *more])


def assert_one_line(result: Result, code: int = 1) -> None:
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith("Error: ")


@pytest.fixture
def words(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command's own example, in an empty folder but for the file that one of them reads."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "tickets.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    return example_of(request.param)


def every_leaf(*without: tuple[str, ...]) -> pytest.MarkDecorator:
    paths = [path for path in LEAVES if path not in without]
    return pytest.mark.parametrize("words", paths, ids=" ".join, indirect=True)


@every_leaf(("doctor",))
def test_a_settings_file_that_is_missing_or_damaged(words: list[str], tmp_path: Path) -> None:
    for name, content, message in (
        ("none.toml", None, "does not exist"),
        ("broken.toml", b"[instructions\n", "is not valid TOML"),
        ("latin.toml", "model = 'é'".encode("latin-1"), "cannot be read"),
        ("empty.toml", b"", "instructions: Field required"),
        ("typo.toml", b'[instructions]\nsources = ["a"]\n[selektion]\n', "unknown setting 'selektion'"),
    ):
        file = tmp_path / name
        if content is not None:
            file.write_bytes(content)
        result = run(words, "--config", str(file))
        assert_one_line(result)
        assert message in result.stderr
        assert str(file) in result.stderr
    result = run(words)  # no settings in this folder
    assert_one_line(result)
    assert "there is no project: no g2is.toml in " in result.stderr
    assert "`g2is init" in result.stderr
    assert [path.name for path in Path.cwd().iterdir()] == ["tickets.jsonl"]


@every_leaf()
def test_an_unknown_option_and_a_folder_as_settings(words: list[str], tmp_path: Path) -> None:
    for more, message in ((["--nonsense"], "No such option"), (["--config", str(tmp_path)], "is a directory")):
        result = run(words, *more)
        assert result.exit_code == 2
        assert message in result.stderr
        assert "Traceback" not in result.output


@every_leaf(("ui",), *ANSWER_ALWAYS)
def test_a_project_that_lacks_what_is_asked_for(words: list[str], make_project: object) -> None:
    """No lake yet, an unknown domain or study, a row that is in no pool, a file with too few rows."""
    settings = make_project()  # type: ignore[operator]
    before = sorted(settings.parent.rglob("*"))
    result = run(words, "--config", str(settings))
    lines = result.stderr.strip().splitlines()
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert sorted(settings.parent.rglob("*")) == before


@pytest.mark.parametrize("words", sorted(ANSWER_ALWAYS), ids=" ".join, indirect=True)
def test_commands_that_only_look_answer_without_a_lake_and_make_none(words: list[str], make_project: object) -> None:
    settings = make_project()  # type: ignore[operator]
    result = run(words, "--config", str(settings))
    assert result.exit_code == 0, result.output
    assert result.stdout
    assert result.stderr == ""
    assert not (settings.parent / "lake").exists()


def test_an_unknown_command_is_told() -> None:
    for words in (["dem"], ["export", "subse"], ["audit", "verrify"]):
        result = run(words)
        assert result.exit_code == 2
        assert "No such command" in result.stderr
