"""`g2is init` and what finds its project: whole or not at all, the sample from a wheel, hints that can be pasted."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import g2is_assets
from g2is_assets.cli import main
from g2is_assets.cli.init import TEXTS
from g2is_assets.errors import command
from g2is_assets.settings.project import load_project, settings_path
from support.commands import every_command
from support.processes import Commands
from support.projects import write_instance

ROOT = Path(__file__).parents[2]
PACKAGE = Path(g2is_assets.__file__).parent
PROGRAM = "from g2is_assets.cli import main; main()"


def g2is(*words: str) -> Result:
    result = CliRunner().invoke(main, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_new_project_is_complete_and_is_found_from_every_folder_below(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = g2is("init")
    assert done.exit_code == 0, done.output
    assert {place.name for place in here.iterdir()} == {*TEXTS, "pool", "domains"}
    assert 8 <= len((here / "g2is.toml").read_text().splitlines()) <= 12
    monkeypatch.chdir(here / "domains")
    assert load_project().path == here / "g2is.toml"
    assert load_project().home == here
    ignored = (here / ".gitignore").read_text().splitlines()
    assert {"lake/", ".dagster/", "/*_alpaca.jsonl", "/dataset_info.json", "out/"} <= {*ignored}
    assert (here / "workspace.yaml").read_text() == (ROOT / "workspace.yaml").read_text()
    assert g2is("domain", "list").exit_code == 0


def test_one_below_another_says_that_it_is_its_own_and_hints_lead_to_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "is a project too" not in g2is("init").output
    made = g2is("init", "trial")
    assert f"{here} is a project too, and another: in {here / 'trial'} commands work on this one alone." in made.output
    assert "`g2is refresh --config trial/g2is.toml`" in made.output
    within = g2is("init", "domains/mine")
    assert within.exit_code == 1
    assert f"lies among the domains of {here}; name another folder" in within.stderr
    (here / "deep").mkdir()
    monkeypatch.chdir(here / "deep")
    monkeypatch.setenv("G2IS_CONFIG", str(here / "g2is.toml"))
    assert "`g2is refresh --config g2is.toml`" in g2is("init").output  # else it would refresh the other


def test_the_sample_is_that_of_this_repository_with_the_same_settings(here: Path) -> None:
    """So that README's table comes out of it to the digit."""
    assert g2is("init", "--sample").exit_code == 0
    for name in ("pool", "domains", "studies"):
        files = [file for file in sorted((here / name).rglob("*")) if file.is_file()]
        assert files
        assert [f.relative_to(here) for f in files] == [
            f.relative_to(ROOT / "data") for f in sorted((ROOT / "data" / name).rglob("*")) if f.is_file()
        ]
        assert all(file.read_bytes() == (ROOT / "data" / file.relative_to(here)).read_bytes() for file in files)
    made, own = load_project(here / "g2is.toml"), load_project(ROOT / "data" / "g2is.toml")
    of_the_repository = tomllib.loads((ROOT / "data" / "g2is.toml").read_text())
    assert of_the_repository["knowledge"]["explained_variance"] == 0.5  # what stands for none said
    knowledge = own.settings.knowledge.model_copy(update={"explained_variance": None})
    assert made.settings == own.settings.model_copy(
        update={"home": ".", "owner": f"team:{here.name}", "knowledge": knowledge}
    )
    for name, domain in made.domains.items():
        assert domain.selection == own.domains[name].selection


@pytest.mark.parametrize("name", [*TEXTS, "pool", "domains", "studies"])
def test_what_is_there_is_named_and_nothing_is_written(here: Path, name: str) -> None:
    (here / name).write_text("mine")
    done = g2is("init", "--sample")
    assert done.exit_code == 1
    assert f"{here} has {name} already" in done.stderr
    assert [place.name for place in here.iterdir()] == [name]
    assert (here / name).read_text() == "mine"


def test_a_pool_that_is_there_is_kept(here: Path) -> None:
    (here / "pool").mkdir()
    (here / "pool" / "mine.jsonl").write_text("{}")
    assert g2is("init").exit_code == 0
    assert (here / "pool" / "mine.jsonl").read_text() == "{}"
    assert load_project(here / "g2is.toml").settings.instructions.sources[0].path == "pool/*"


def test_a_link_that_leads_nowhere_is_there_too(here: Path) -> None:
    (here / "pool").symlink_to("/nowhere")
    assert "has pool already" in g2is("init").stderr


@pytest.mark.parametrize("is_new", [False, True])
def test_what_breaks_off_leaves_nothing_behind(here: Path, monkeypatch: pytest.MonkeyPatch, is_new: bool) -> None:
    target, rename = here / "new" if is_new else here, Path.rename

    def full(self: Path, to: Path) -> Path:
        if to.name == "workspace.yaml":
            raise OSError(28, "No space left on device", str(to))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", full)
    done = g2is("init", str(target), "--sample")
    assert done.exit_code == 1
    assert "cannot be made a project: [Errno 28] No space left" in done.stderr
    assert list(here.iterdir()) == []


def test_a_folder_that_no_database_can_be_in_is_refused(here: Path) -> None:
    done = g2is("init", "50%")
    assert done.exit_code == 1
    assert "name another folder" in done.stderr
    assert list(here.iterdir()) == []


def test_demo_makes_no_project_beside_the_files_of_somebody(here: Path) -> None:
    (here / "notes.txt").touch()
    done = g2is("demo")
    assert done.exit_code == 1
    assert f"none is made here, since {here} is not empty: run `g2is init demo --sample`, then" in done.stderr
    assert [place.name for place in here.iterdir()] == ["notes.txt"]


def test_demo_makes_the_sample_project_in_an_empty_folder_and_none_below_another(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / ".venv").mkdir()  # where the program itself may be installed
    done = g2is("demo", "--domain", "poetry")
    assert f"Made the project {here / 'g2is.toml'}" in done.stdout
    assert "there is no domain 'poetry'" in done.stderr
    assert len(load_project().domains) == 3
    (here / "below").mkdir()
    monkeypatch.chdir(here / "below")
    assert "there is no domain 'poetry'" in g2is("demo", "--domain", "poetry").stderr
    assert list((here / "below").iterdir()) == []


def test_without_a_project_doctor_looks_at_the_machine_and_says_how_to_make_one(here: Path) -> None:
    done = g2is("doctor", "--json")
    assert done.exit_code == 1
    found = {record["check"]: record for record in json.loads(done.stdout)}
    assert list(found) == ["python", "settings", "torch", "memory"]
    assert f"no g2is.toml in {here} or above it; make one with `g2is init`" in found["settings"]["said"]
    assert {found[check]["state"] for check in ("python", "torch")} == {"ok"}
    assert list(here.iterdir()) == []


def demo_in(folder: str, *words: str) -> None:
    """Run the demo in a folder."""
    os.chdir(folder)
    main(["demo", *words])


def test_the_wheel_carries_the_sample_and_a_demo_of_it_runs_in_an_empty_folder(
    here: Path, tmp_path: Path, tiny_model: Path, commands: Commands
) -> None:
    """With a tiny model in the place of the embedded one, which is fetched."""
    pytest.importorskip("hatchling", reason="needs hatchling, which builds wheels: pip install -e '.[test]'")
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    name = subprocess.check_output([sys.executable, "-c", build, tmp_path], cwd=ROOT, text=True).strip()
    with zipfile.ZipFile(tmp_path / name) as wheel:
        wheel.extractall(tmp_path / "installed")
    documents = {file.name for file in (ROOT / "docs").iterdir() if file.suffix in (".md", ".png")}
    assert {file.name for file in (tmp_path / "installed" / "g2is_assets" / "docs").iterdir()} == documents
    (entry,) = (tmp_path / "installed").glob("*.dist-info/entry_points.txt")
    assert "g2is = g2is_assets.cli:main" in entry.read_text()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    code = f"import g2is_assets as g; assert g.__file__.startswith({str(tmp_path)!r}), g.__file__; {PROGRAM}"
    words = [sys.executable, "-P", "-c", code, "init", "--sample"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Next: `g2is demo`" in done.stdout
    text, sections = (here / "g2is.toml").read_text(), "[gradients]\nsketch_dim = 256\n[finetune]\nepochs = 1\n"
    text = text.replace("[instructions]", f'model = "{tiny_model}"\ndevice = "cpu"\n[instructions]\nlimit = 30')
    (here / "g2is.toml").write_text(text + sections)
    write_instance(here)
    shown = commands.start(demo_in, str(here))
    assert shown.wait() == 0, shown.shown
    assert "Appointments, trips and shifts: NLL on test rows" in shown.shown
    assert "See it all, with history and lineage: `g2is ui`" in shown.shown
    assert (here / "lake" / "finetune" / "adapter" / "schedule_reasoning").is_dir()


HINT = re.compile(r"`g2is ([^`]+)`")


def hints(*outputs: str) -> list[list[str]]:
    """The commands that outputs tell to run, as a shell splits them."""
    return [shlex.split(words) for output in outputs for words in HINT.findall(output)]


def project_of(words: list[str]) -> Path:
    """The settings file that a command line finds from the current folder; it must parse."""
    told: click.Command = main
    while isinstance(told, click.Group):
        _, found, words = told.resolve_command(click.Context(told), words)
        assert found is not None
        told = found
    with told.make_context("g2is", list(words)) as context:
        return settings_path(context.params["config"])


def test_what_commands_tell_to_run_can_be_pasted_where_they_were_run(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From outside of the project, in it, and with the variable: with `--config` only where it is needed."""
    project = copy.parent.rename(tmp_path / "my project")
    settings = project / "g2is.toml"
    (project / "rows.jsonl").write_text((project / "domains" / "sums" / "validation.jsonl").read_text())
    (project / "lake" / "finetune" / "adapter" / "sums" / "current.json").unlink()
    told: dict[str, int] = {}
    for n, (folder, variable, config) in enumerate(
        (
            (tmp_path, "", ["--config", "my project/g2is.toml"]),
            (project / "domains", "", []),
            (project / "domains", "", ["--config", "../g2is.toml"]),
            (tmp_path, str(settings), []),
        )
    ):
        monkeypatch.chdir(folder)
        monkeypatch.setenv("G2IS_CONFIG", variable)
        outputs = [
            g2is(*words, *config).output
            for words in (
                ["domain", "add", f"more{n}", "--validation", str(project / "rows.jsonl")],
                ["doctor", "--port", "1"],
                ["refresh"],
                ["sql", "FROM poetry"],
                ["withdraw", "--row", "sums:1", "--reason", "asked"],
                ["audit", "verify"],
                ["export", "subset", "words"],
            )
        ]
        found = hints(*outputs)
        assert len({tuple(words[:2]) for words in found}) >= 5, outputs
        for words in found:
            assert project_of([word for word in words if word != "..."]) == settings, words
            assert ("--config" in words) == (folder == tmp_path and not variable), words
        told[str(n)] = len(found)
    pasted = next(words for words in hints(g2is("sql", "FROM poetry").output) if words[0] == "sql")
    assert g2is(*pasted).exit_code == 0
    assert len(set(told.values())) == 1, told


def test_a_program_that_the_shell_does_not_find_by_its_name_is_told_as_it_was_called(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = here / "my env" / "bin" / "g2is"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", ["my env/bin/g2is", "ui"])
    assert command("refresh") == "`'my env/bin/g2is' refresh`"
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    assert command("refresh") == "`g2is refresh`"


def test_no_text_of_the_package_names_a_command_but_by_the_one_way_that_can_be_pasted() -> None:
    """Docstrings, and examples and help of commands, speak of commands; all else that prints tells to run one."""
    names = sorted({path[0] for path in every_command(main) if path})
    told = re.compile(rf"\bg2is ({'|'.join(names)})\b")
    guilty = []
    for module in PACKAGE.rglob("*.py"):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        examples = {id(k.value) for node in ast.walk(tree) if isinstance(node, ast.Call) for k in node.keywords}
        texts = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        guilty += [f"{module.name}: {n.value}" for n in texts if id(n) not in alone | examples and told.search(n.value)]
    assert guilty == []
