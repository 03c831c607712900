"""`g2is_assets.select`: the subset that a refresh gives, from whatever rows a program has, in a folder of its own."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import g2is_assets as g2is
from g2is_assets import library
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.errors import ModelError, SettingsError, SourceError
from g2is_assets.reports.why import explain
from g2is_assets.store.lake import Lake
from support.projects import lake_of
from support.rows import arithmetic_row, write_jsonl

SMALL: dict[str, Any] = {
    "device": "cpu",
    "instructions": {"max_length": 96},
    "warmup": {"share": 0.2, "epochs": 1, "rank": 2, "alpha": 4},
    "gradients": {"compute": "float32", "sketch_dim": 256, "batch_tokens": 256, "shard_rows": 8},
    "graph": {"n_neighbors": 4, "n_conflicts": 2},
}
POOL = [arithmetic_row(n) for n in range(20)] + [arithmetic_row(n, "words") for n in range(20)]
OWN = [arithmetic_row(n, "sums") for n in range(200, 212)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_importing_the_package_loads_nothing_and_it_says_what_it_declares() -> None:
    code = (
        "import sys, g2is_assets as g; assert dir(g) == g.__all__ == ['__version__', 'select'];"
        "print([m for m in ('polars', 'torch', 'dagster', 'pydantic', 'click') if m in sys.modules]);"
        "g.select; print([m for m in ('torch', 'dagster') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split("\n")[:2] == ["[]", "[]"]
    with pytest.raises(AttributeError, match="no attribute 'selekt'"):
        g2is.selekt  # noqa: B018


def test_it_selects_what_a_refresh_selects_with_the_same_reasons(
    refreshed: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And touches no project of the machine: the variables that lead to one are another's."""
    monkeypatch.setenv("G2IS_HOME", str(tmp_path / "lake of somebody"))
    monkeypatch.setenv("G2IS_CONFIG", str(refreshed))
    chosen = g2is.select(POOL, OWN[:5], test=OWN[5:], model=tiny_model, budget=0.15, **SMALL)
    lake = lake_of(refreshed)
    expected = lake.current("selection/subset", "sums").read(SUBSET)
    assert chosen.columns[:5] == ["order", "row_id", "reason", "prompt", "response"]
    for row in chosen.iter_rows(named=True):
        assert row["reason"].startswith(f"Taken as row {row['order']} of {len(chosen)}")
    assert chosen["row_id"].to_list() == expected["row_id"].to_list()
    assert chosen["score"].to_list() == expected["score"].to_list()
    assert set(chosen["licenses"].explode()) == {"Apache-2.0"}
    for row in chosen.iter_rows(named=True):
        assert row["reason"] == " ".join(explain(lake, "sums", row["row_id"]).lines[1:])
    assert not (tmp_path / "lake of somebody").exists()


def test_rows_are_refused_before_a_model_is_looked_for_and_progress_is_shown_unless_it_is_not_wanted(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    unknown: dict[str, Any] = {"model": "nobody/nothing-of-that-name", **SMALL}
    with pytest.raises(SourceError, match="1 usable validation row, at least 2 distinct ones are needed"):
        g2is.select(POOL, OWN[:1], **unknown)
    with pytest.raises(SourceError, match=r"the pool has 0 usable rows.*line 1: empty response"):
        g2is.select([{"instruction": "Say it.", "output": ""}] * 3, OWN[:5], **unknown)
    with pytest.raises(ModelError, match="cannot be loaded"):
        g2is.select(POOL, OWN[:5], **unknown)
    assert capsys.readouterr().err == ""
    with caplog.at_level("INFO", "g2is_assets"):
        g2is.select(POOL, OWN[:5], model=tiny_model, progress=False, budget=2, **SMALL)
        assert "selection/subset[domain]: done in" in caplog.text
        assert capsys.readouterr().err == ""
        caplog.clear()
        g2is.select(POOL, OWN[:5], model=tiny_model, budget=2, **SMALL)
    assert "  selection/subset[domain]: done in" in capsys.readouterr().err
    assert caplog.text == ""


def test_a_killed_calls_folder_goes_with_the_next_call_and_that_of_a_running_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "import time, g2is_assets.library as l\nwith l._passing_folder() as f: print(f, flush=True); time.sleep(60)"
    environment, words = os.environ | {"TMPDIR": str(tmp_path)}, [sys.executable, "-c", code]
    with (
        subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as killed,
        subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as running,
    ):
        folders = [Path(str(child.stdout and child.stdout.readline()).strip()) for child in (killed, running)]
        killed.kill()
        killed.wait()
        for folder in folders:
            os.utime(folder, (0, 0))
        young = tmp_path / f"{library.PASSING}young"  # not locked yet
        young.mkdir()
        with library._passing_folder() as own:
            assert young.exists()
            assert [folder.exists() for folder in (*folders, own)] == [False, True, True]
        running.kill()


def test_a_folder_keeps_the_project_and_a_second_call_computes_only_what_is_new(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder, file = tmp_path / "kept", write_jsonl(tmp_path / "own.jsonl", OWN[:5])
    words = {"model": tiny_model, "budget": 3, "folder": folder, **SMALL}
    first = g2is.select(pl.DataFrame(POOL), file, **words)
    assert len(first) == 3
    shards = {place: place.stat().st_mtime_ns for place in (folder / "lake" / "vectors").rglob("*.parquet")}
    assert shards
    pool = write_jsonl(tmp_path / "pool" / "all.jsonl", [*POOL, *(arithmetic_row(n) for n in range(40, 48))])
    second = g2is.select(str(pool.parent / "*.jsonl"), pl.DataFrame(OWN[:5]), **words)
    assert len(second) == 3
    assert shards.items() <= {p: p.stat().st_mtime_ns for p in (folder / "lake" / "vectors").rglob("*.parquet")}.items()
    lake = Lake(folder / "lake")
    assert lake.current("instructions/pool").manifest.n_rows["pool"] == 48
    assert {p.name for p in (folder / "domains" / "domain").iterdir()} == {"validation.parquet"}
    assert lake.find("finetune/adapter", "domain") is None


def test_a_source_may_say_its_licence_and_a_setting_that_is_wrong_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    pool = write_jsonl(tmp_path / "pool.jsonl", [{"instruction": f"Say {n}.", "output": f"{n}"} for n in range(9)])
    with pytest.raises(SettingsError, match="did you mean 'share'"):
        g2is.select(str(pool), OWN[:3], model=tiny_model, warmup={"shar": 0.2})
    with pytest.raises(SourceError, match=r"matches no file"):
        g2is.select(tmp_path / "nothing.jsonl", OWN[:3], model=tiny_model, **SMALL)
    with pytest.raises(SourceError, match="rows are mappings of what JSON can hold"):
        g2is.select(POOL, [{"instruction": {1}}], model=tiny_model, **SMALL)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "g2is.toml").write_text("# mine\n")
    with pytest.raises(SettingsError, match=r"g2is.toml is another project's; name a folder of its own"):
        g2is.select(POOL, OWN[:3], model=tiny_model, folder=tmp_path / "other")
    assert (tmp_path / "other" / "g2is.toml").read_text() == "# mine\n"
    source = {"path": str(pool), "license": "MIT"}
    chosen = g2is.select(source, OWN[:3], model=tiny_model, budget=2, **SMALL)
    assert chosen["licenses"].to_list() == [["MIT"], ["MIT"]]


def test_columns_of_a_domains_file_may_have_other_names(tiny_model: Path, tmp_path: Path) -> None:
    words: dict[str, Any] = {"model": tiny_model, "budget": 2, **SMALL}
    file = tmp_path / "own.csv"
    pl.DataFrame([{"Frage": row["instruction"], "Lösung": row["output"]} for row in OWN[:3]]).write_csv(file)
    with pytest.raises(SourceError, match="unknown columns: Frage, Lösung"):
        g2is.select(POOL, file, **words)
    with pytest.raises(SettingsError, match="a mapping has `path` and `columns`, not path"):
        g2is.select(POOL, {"path": file}, **words)
    chosen = g2is.select(POOL, {"path": file, "columns": {"prompt": "Frage", "response": "Lösung"}}, **words)
    own = [{name: row[name] for name in ("instruction", "output")} for row in OWN[:3]]
    assert chosen["row_id"].to_list() == g2is.select(POOL, own, **words)["row_id"].to_list()
