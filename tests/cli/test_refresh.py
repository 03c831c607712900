"""`g2is refresh`: which domains it takes, what it redraws, what it prints; and the unit that keeps the UI running."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from g2is_assets.cli.refresh import asked_for
from g2is_assets.settings.project import load_project
from support.commands import g2is
from support.processes import Commands
from support.projects import lake_of
from support.rows import arithmetic_row, write_jsonl


def version(settings: Path, asset: str) -> str:
    return lake_of(settings).current(asset).folder.name


def test_the_only_domain_needs_no_name_and_of_several_one_must_be_named(make_project: object) -> None:
    settings = make_project()  # type: ignore[operator]
    done = g2is(settings, "refresh")
    assert done.exit_code == 1
    assert "there are 2 domains; name one with --domain (sums, words), or `g2is refresh --all --config" in done.stderr
    project = load_project(settings)
    assert asked_for(project, (), all_domains=True, pool=False) == ["sums", "words"]
    assert asked_for(project, ("words", "sums", "words"), all_domains=False, pool=False) == ["words", "sums"]
    assert asked_for(project, (), all_domains=False, pool=True) == []
    for words in (("--all", "--pool"), ("--domain", "sums", "--all"), ("--domain", "sums", "--pool")):
        refused = g2is(settings, "refresh", *words)
        assert (refused.exit_code, "exclude each other" in refused.stderr) == (2, True)
    shutil.rmtree(settings.parent / "domains" / "words")
    assert asked_for(load_project(settings), (), all_domains=False, pool=False) == ["sums"]
    shutil.rmtree(settings.parent / "domains" / "sums")
    assert "`g2is domain add NAME --validation rows.jsonl --config" in g2is(settings, "refresh", "--all").stderr
    assert not (settings.parent / "lake").exists()


def test_the_warmup_is_drawn_again_on_request_from_the_pool_as_it_is(copy: Path, commands: Commands) -> None:
    shared = ("warmup/sample", "warmup/checkpoint", "gradients/pool", "graph/neighbors")
    before = {asset: version(copy, asset) for asset in shared}
    write_jsonl(copy.parent / "pool" / "more.jsonl", [arithmetic_row(n) for n in range(400, 420)])
    drawn = commands.g2is("refresh", "--pool", "--redraw-warmup", "--config", copy)
    assert drawn.wait() == 0, drawn.shown
    assert "The warmup is drawn again" in drawn.shown
    assert "selection/subset" not in drawn.shown
    assert [asset for asset in shared if version(copy, asset) == before[asset]] == []
    assert lake_of(copy).current("warmup/sample").manifest.n_rows["sample"] == 12  # a fifth of the 60 that there are


def test_what_a_refresh_prints_is_short_and_no_text_of_others_is_markup(built: Path, commands: Commands) -> None:
    (built.parent / "domains" / "words" / "domain.toml").write_text('title = "[red]\\u001b[31mA[/red]"\n')
    done = commands.g2is("refresh", "--domain", "words", "--config", built)
    assert done.wait() == 0, done.shown
    assert "words ([red]\ufffd[31mA[/red]): NLL " in done.shown
    assert "\x1b" not in done.shown
    end = done.shown[done.shown.index("words ([red]") :].splitlines()
    assert [line.split(":")[0].split(" (")[0] for line in end[:4]] == [
        "words",
        "Subset",
        "Adapter",
        "Report, to open in a browser",
    ]


def test_the_unit_runs_the_ui_of_this_project_wherever_that_lies(
    make_project: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_project()  # type: ignore[operator]
    folder = made.parent.rename(tmp_path / 'a "b" $HOME')
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("G2IS_HOME", str(tmp_path / "ho me"))
    done = g2is(folder / made.name, "service", "--port", "3333")
    assert done.exit_code == 0, done.output
    assert r'--config "' + str(tmp_path) + r'/a \"b\" $$HOME/g2is.toml" --host 127.0.0.1 --port 3333' in done.stdout
    assert "Environment=HF_HUB_OFFLINE=1\n" in done.stdout
    assert "\nRestart=always\n" in done.stdout  # also where both end by themselves without a fault
    assert "network" not in done.stdout.split("[Service]")[0]  # of which the user's own systemd knows nothing
    assert f'Environment="G2IS_HOME={tmp_path}/ho me"\n' in done.stdout
    assert f'WorkingDirectory={tmp_path}/a "b" $HOME\n' in done.stdout
    if checker := shutil.which("systemd-analyze"):
        file = tmp_path / "g2is.service"
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", done.stdout, flags=re.M)
        file.write_text(text)
        checked = subprocess.run([checker, "verify", "--man=no", file], capture_output=True, text=True, check=False)
        assert not re.search(rf"{file.name}:\d+:", checked.stderr), checked.stderr


def test_a_unit_is_installed_once_and_never_replaces_another(
    make_project: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_project()  # type: ignore[operator]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    file = tmp_path / "config" / "systemd" / "user" / "g2is-project.service"
    for _ in range(2):
        done = g2is(settings, "service", "--install")
        assert done.exit_code == 0, done.output
        assert f"Wrote {file}" in done.stdout
        assert "systemctl --user enable --now g2is-project.service" in done.stdout
    assert file.read_text() == g2is(settings, "service").stdout
    other = g2is(settings, "service", "--install", "--port", "3001")
    assert other.exit_code == 1
    assert f"{file} exists and says otherwise" in other.stderr
    assert "--port 3000" in file.read_text()
