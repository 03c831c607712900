"""Files of others: modes, encodings, odd paths, what may not be read, killed exports, domains that are gone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from g2is_assets.cli import main
from g2is_assets.errors import SettingsError
from g2is_assets.settings.project import load_project
from g2is_assets.store.views import rebuild_views
from support.commands import answer, g2is, powerless
from support.projects import flip, lake_of, rows_of, study_of
from support.rows import write_jsonl
from support.runs import refresh, refresh_subset
from support.shared import copied

SHARED = Path(__file__).parents[3] / "shared" / "cases"
BOM = b"\xef\xbb\xbf"
SMILE = "\N{GRINNING FACE}"


def one_error(said: str) -> str:
    """The one line that says what is wrong."""
    (line,) = [line for line in said.splitlines() if line.startswith("Error: ")]
    return line


def test_all_that_is_made_has_the_mode_that_the_umask_says(refreshed: Path, tmp_path: Path) -> None:
    umask = os.umask(0o022)
    os.umask(umask)
    assert g2is(refreshed, "export", "adapter", "sums", str(tmp_path / "out")).exit_code == 0
    files = [*(refreshed.parent / "lake").rglob("*"), *(tmp_path / "out").rglob("*")]
    modes = {file.suffix: file.stat().st_mode & 0o777 for file in files if file.is_file()}
    assert {".safetensors", ".parquet", ".json", ".html", ".npy", ".md"} <= modes.keys()
    assert set(modes.values()) == {0o666 & ~umask}, modes


def adapter_of(settings: Path) -> Path:
    return lake_of(settings).current("finetune/adapter", "sums").folder / "adapter" / "adapter_model.safetensors"


@pytest.mark.parametrize(
    ("closed", "command", "message"),
    [
        (adapter_of, "export adapter sums OUT", "Permission denied: '{}'; let this user read"),
        (adapter_of, "audit verify sums", "Permission denied: '{}'; let this user read"),
        (lambda settings: settings.parent / "lake", "audit verify", "Permission denied: '{}"),
        (
            lambda settings: settings.parent / "domains" / "sums",
            "domain list",
            "domain.toml cannot be read: Permission",
        ),
        (lambda settings: settings.parent / "domains", "demo", "{} cannot be read: Permission denied; let this user"),
        (lambda settings: settings.parent / "pool" / "sums.jsonl", "demo", "{} cannot be read"),
        (lambda settings: settings.parent / "model" / "config.json", "demo", "Permission denied: '{}'"),
    ],
)
def test_what_may_not_be_read_is_one_line(
    copy: Path, tmp_path: Path, closed: object, command: str, message: str
) -> None:
    place = closed(copy)  # type: ignore[operator]
    place.chmod(0)
    try:
        done = powerless(copy, *command.replace("OUT", str(tmp_path / "out")).split())
    finally:
        place.chmod(0o700)
    assert done.returncode == 1
    assert message.format(place) in one_error(done.stderr)
    assert not (tmp_path / "out").exists()


def test_who_may_only_read_verifies_asks_and_exports(copy: Path, tmp_path: Path) -> None:
    rebuild_views(lake_of(copy))
    below = [copy.parent, *copy.parent.rglob("*")]
    for path in below:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        for words in (
            ("audit", "verify"),
            ("domain", "list"),
            ("sql", "SELECT count(*) FROM instructions_pool"),
            ("export", "adapter", "sums", str(tmp_path / "out")),
        ):
            done = powerless(copy, *words)
            assert done.returncode == 0, done.stderr
        assert (tmp_path / "out" / "README.md").is_file()
        refused = powerless(copy, "export", "adapter", "sums", str(copy.parent / "x"))
        assert "cannot be written: [Errno 13] Permission denied" in one_error(refused.stderr)
    finally:
        for path in below:
            path.chmod(path.stat().st_mode | 0o200)


def test_toml_files_may_begin_with_a_byte_order_mark(copy: Path) -> None:
    domain, study = copy.parent / "domains" / "sums" / "domain.toml", copy.parent / "studies" / "small.toml"
    study.parent.mkdir(exist_ok=True)
    study.write_text(study_of("budgets = [0.15]\nseeds = [0]", "base", "random"))
    domain.write_bytes(b'title = "Sums"\r\nbudget = 2\r\n')
    for file in (copy, domain, study):
        file.write_bytes(BOM + file.read_bytes())
    assert [one["title"] for one in answer(copy, "domain", "list") if one["domain"] == "sums"] == ["Sums"]
    assert load_project(copy).domain("sums").selection.budget == 2
    assert [one["state"] for one in answer(copy, "doctor") if one["check"] == "studies"] == ["ok"]
    domain.write_bytes("title = 'Sums'".encode("utf-16"))
    assert "domain.toml cannot be read" in one_error(g2is(copy, "domain", "list").stderr)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the cases that are shared between projects are not here")
def test_the_shared_domain_with_a_byte_order_mark_is_read(copy: Path) -> None:
    shutil.copyfile(SHARED / "toml_with_bom" / "domain.toml", copy.parent / "domains" / "sums" / "domain.toml")
    assert load_project(copy).domain("sums").title == "Sums"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "iso-8859-5", "utf-16"])
def test_a_terminal_that_lacks_a_character_gets_its_escape(copy: Path, encoding: str) -> None:
    (copy.parent / "domains" / "sums" / "domain.toml").write_text(f'title = "S{SMILE}"\n', encoding="utf-8")
    runner, query = CliRunner(charset=encoding, env={"COLUMNS": "200"}), f"SELECT 'é {SMILE}' AS a, ['{SMILE}'] AS b"
    said = {}
    for words in (["sql", query], ["sql", query, "--csv"], ["sql", query, "--json"], ["domain", "list"], ["doctor"]):
        done = runner.invoke(main, [*words, "--config", str(copy)])
        assert done.exit_code == 0, done.output
        said[words[-1]] = done.stdout_bytes.decode(encoding)
    assert json.loads(said["--json"]) == [{"a": f"é {SMILE}", "b": [SMILE]}]
    shown = SMILE if encoding == "utf-16" else "\\U0001f600"
    assert shown in said[query]
    assert shown in said["--csv"]
    refused = runner.invoke(main, ["why", "sums", SMILE, "--config", str(copy)])
    assert refused.exit_code == 1
    assert isinstance(refused.exception, SystemExit)


def test_progress_and_results_of_a_refresh_are_printed_to_any_terminal(copy: Path) -> None:
    (copy.parent / "domains" / "sums" / "domain.toml").write_text(f'title = "S{SMILE}"\n', encoding="utf-8")
    done = powerless(copy, "demo", "--domain", "sums", PYTHONIOENCODING="cp1252")
    assert done.returncode == 0, done.stderr
    assert "S\\U0001f600: NLL on test rows" in done.stdout


@pytest.mark.parametrize("name", ["f[g]*h", 'sp ace\'s "q"', "#x {y} $z", "ü-\N{GRINNING FACE}", "line\nbreak"])
def test_a_project_works_in_a_folder_with_an_odd_name(refreshed: Path, tmp_path: Path, name: str) -> None:
    settings = copied(refreshed, tmp_path / name / "project")
    toml = settings.parent / "domains" / "sums" / "domain.toml"
    toml.write_text(f"{toml.read_text()}budget = 3\n")
    refresh(settings, "sums")
    (subset,) = answer(settings, "sql", "SELECT count(*) AS n FROM selection_subset")
    assert subset == {"n": 3}
    assert g2is(settings, "audit", "verify").exit_code == 0
    assert g2is(settings, "export", "adapter", "sums", str(tmp_path / name / "out")).exit_code == 0


LONG = "/".join(["d" * 200] * 5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("100%", "no database can be opened in a folder with % in its path; move the project, or set G2IS_HOME"),
        ("a?b", "no database can be opened in a folder with ? in its path"),
        ("a\\b", "no database can be opened in a folder with \\ in its path"),
        (os.fsdecode(b"\xff\xfe"), "the path is not UTF-8"),
        (LONG, "bytes too long for a database"),
    ],
    ids=["percent", "question mark", "backslash", "bytes", "long"],
)
def test_a_path_in_which_nothing_could_be_stored_is_refused_with_the_remedy_that_works(
    refreshed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    (tmp_path / name).mkdir(parents=True)
    settings = Path(shutil.copy(refreshed, tmp_path / name))
    with pytest.raises(SettingsError) as refused:
        load_project(settings)
    assert message in str(refused.value)
    assert message in one_error(CliRunner().invoke(main, ["domain", "list", "--config", str(settings)]).stderr)
    monkeypatch.setenv("G2IS_HOME", str(tmp_path / "home"))
    assert load_project(settings).home == tmp_path / "home"


def test_a_folder_that_is_gone_under_the_command_is_one_line(copy: Path, tmp_path: Path) -> None:
    code = (
        "import os; os.mkdir('here'); os.chdir('here'); os.rmdir('../here'); from g2is_assets.cli import main; main()"
    )
    words = [sys.executable, "-c", code, "domain", "list", "--config", str(copy)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the folder that this was called in is gone: " in one_error(done.stderr)
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_record_is_one_line_to_every_reader_and_comes_back_as_it_was(copy: Path, tmp_path: Path) -> None:
    odd = "a\u2028b\u2029c\u0085d\x0be\x1cf"
    rows = [{"id": f"odd:{n}", "prompt": f"Say {n}{odd}", "response": f"It is{odd}{n}."} for n in range(40)]
    write_jsonl(copy.parent / "pool" / "odd.jsonl", rows)
    (copy.parent / "domains" / "sums" / "domain.toml").write_text("budget = 30\n")
    refresh_subset(copy, "sums")
    for form in ("messages", "alpaca"):
        out = tmp_path / f"{form}.jsonl"
        assert g2is(copy, "export", "subset", "sums", "--format", form, "--out", str(out)).exit_code == 0
        text = out.read_text(encoding="utf-8")
        records = [json.loads(line) for line in text.splitlines()]
        assert len(records) == 30
        assert any(odd in str(record.get("output") or record["messages"][-1]["content"]) for record in records)
    done = g2is(copy, "withdraw", "--row", "odd:1", "--reason", f"asked{odd}")
    assert done.exit_code == 0, done.output
    (line,) = (copy.parent / "withdrawn.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["reason"] == f"asked{odd}"


EXPORTS = {"subset": ("subset", "sums", "--format", "messages", "--out"), "adapter": ("adapter", "sums")}


@pytest.mark.parametrize("what", EXPORTS)
def test_an_export_that_was_killed_leaves_nothing_in_the_way_of_the_next(
    refreshed: Path, tmp_path: Path, what: str
) -> None:
    code = "import os; from g2is_assets.cli import main; os.replace = lambda *_: os._exit(9); main()"
    out = tmp_path / ("new/rows.jsonl" if what == "subset" else "new/adapter")
    words = ["export", *EXPORTS[what]]
    command = [sys.executable, "-c", code, *words, str(out), "--config", str(refreshed)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 9, done.stderr
    assert [path.name[:11] for path in out.parent.iterdir()] == [".exporting-"]
    if what == "adapter":  # nor of one to the folder above
        assert g2is(refreshed, *words, str(out.parent)).exit_code == 0
    else:
        assert g2is(refreshed, *words, str(out)).exit_code == 0
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []


def test_adapters_of_domains_whose_folder_is_gone_are_verified_and_what_can_be_done_is_said(built: Path) -> None:
    (built.parent / "domains" / "sums").rename(built.parent / "domains" / "totals")
    whole = g2is(built, "audit", "verify")
    assert whole.exit_code == 0, whole.output
    assert "finetune/adapter[sums]: whole" in whole.output
    assert "finetune/adapter[words]: whole" in whole.output
    row = rows_of(lake_of(built).current("selection/subset", "sums"), "subset")[0]
    advice = "No refresh reaches sums, whose folder is gone: put it back and refresh it, or prune all that it left: "
    advice += "`g2is gc --removed`"
    assert advice in g2is(built, "audit", "impact", "--row", row).output
    withdrawn = g2is(built, "withdraw", "--row", row, "--reason", "asked")
    assert advice in withdrawn.output
    assert "Stale until their next refresh, since their subset holds it: sums" not in withdrawn.output
    flip(adapter_of(built))
    for words in (("audit", "verify"), ("audit", "verify", "sums")):
        broken = g2is(built, *words)
        assert broken.exit_code == 1
        assert "finetune/adapter[sums]: BROKEN, first at" in broken.output
    assert "there is no domain 'nowhere'" in one_error(g2is(built, "audit", "verify", "nowhere").stderr)
