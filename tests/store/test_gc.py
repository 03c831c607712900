"""Garbage goes, all that serves stays to the byte, and killed at any moment the next collection finishes."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from g2is_assets.contracts.contract import Column, Contract
from g2is_assets.contracts.gradients import INDEX, VECTORS
from g2is_assets.errors import StoreError
from g2is_assets.hashing import file_sha256
from g2is_assets.store import gc as module
from g2is_assets.store.features import MAPPED, StoredFeatures
from g2is_assets.store.gc import COPIES, PARTS, SCRATCH, VERSIONS, Report, collect_garbage
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import MANIFEST, PRUNED, read_manifest
from g2is_assets.store.pruning import ROW_IDS, Pruned, plan_pruning, read_pruned
from g2is_assets.store.vectors import VectorStore
from g2is_assets.store.version import Draft, Recipe, Version
from support.stops import Stop, stopping
from support.vectors import SETTINGS, by_name, fill, flip_byte, write_index

ROOT = Path(__file__).parents[2]
TEXT = Contract((), "pool", "Rows", {"row_id": Column(pl.String, "Row"), "response": Column(pl.String, "Text")})
NUMBERS = Contract((), "rejected", "No rows", {"n": Column(pl.Int64, "A number")})
BESIDE = {"pool": "rejected", "answers": "evaluation", "subset": "budgets", "rows": "log"}
HOUR = 3600.0
DAY = 24 * HOUR


def date(version: Version, day: int) -> Version:
    """The same version, as if created on that day; file times stay."""
    file = version.folder / MANIFEST
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps(manifest | {"created_at": f"2026-01-{day:02d}T00:00:00+00:00"}))
    return Version(version.folder, read_manifest(version.folder))


def write_rows(rows: Iterable[str], table: str) -> Callable[[Draft], None]:
    """Writes a table with text, one without rows, and a file in a folder."""

    def write(draft: Draft) -> None:
        content = {"row_id": list(rows), "response": [f"secret of {row}" for row in rows]}
        draft.write(replace(TEXT, table=table), pl.DataFrame(content, schema=TEXT.schema))
        draft.write(replace(NUMBERS, table=BESIDE[table]), pl.DataFrame({"n": [1]}))
        (draft.folder / "adapter").mkdir()
        (draft.folder / "adapter" / "weights.bin").write_bytes(b"w" * 1000)

    return write


def recipe(day: int, asset: str = "instructions/pool", partition: str | None = None) -> Recipe:
    return Recipe(asset, partition, str(day), {})


def make(
    lake: Lake, day: int, asset: str = "instructions/pool", table: str = "pool", partition: str | None = None
) -> Version:
    """A version of the rows `a` and one that is named after the day."""
    made, _ = lake.make(recipe(day, asset, partition), "run", write_rows([f"z{day}", "a"], table))
    return date(made, day)


def store_of(lake: Lake, **settings: Any) -> VectorStore:
    return VectorStore(lake, SETTINGS | settings)


def gradients(lake: Lake, day: int, rows: list[str], **settings: Any) -> tuple[Version, list[str]]:
    """A version of these rows' gradients, with mapped copies; and the rows that were computed."""
    computed: list[str] = []

    def write(draft: Draft) -> None:
        filled, rows_computed = fill(store_of(lake, **settings), rows, shard_rows=2)
        computed.extend(rows_computed)
        write_index(draft, filled)
        if len(filled.index):
            StoredFeatures(by_name(filled), filled.index, "sgd").array()

    return date(lake.make(Recipe("gradients/pool", None, str(day), settings), "run", write)[0], day), computed


def shards_of(version: Version) -> set[str]:
    return set(version.read(INDEX)["shard"])


def shards_in(store: VectorStore) -> set[str]:
    """Names of the whole shards of a store, of which alone there are mapped copies."""
    shards = store.shards()[0]
    digests = {shard.manifest.files[VECTORS.file].sha256 for shard in shards}
    assert digests >= {file.name.split(".")[0] for file in (store.place / MAPPED).glob("*")}
    return {shard.name for shard in shards}


def collect(lake: Lake, keep: int = 1, min_age_s: float = 0, *, dry_run: bool = False) -> Report:
    return collect_garbage(lake, keep, min_age_s, dry_run=dry_run)


def kinds(report: Report) -> dict[str, int]:
    names = [item.kind for item in report.removed]
    return {kind: names.count(kind) for kind in names}


def snapshot(lake: Lake) -> dict[str, str]:
    """Every file's digest, without views and the time of pruning; every folder without files."""
    found = {}
    for path in sorted(lake.root.rglob("*")):
        name = path.relative_to(lake.root).as_posix()
        if path.is_dir():
            found |= {} if any(path.iterdir()) else {name: "empty folder"}
        elif path.name == PRUNED:
            record = Pruned.model_validate_json(path.read_bytes())
            found[name] = record.model_copy(update={"pruned_at": ""}).model_dump_json()
        elif name != "g2is.duckdb":
            found[name] = file_sha256(path)
    return found


def below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def grown(lake: Lake) -> Lake:
    """A lake in which something of every kind may go: three pools, three gradient versions, two stores, scratch."""
    for day in (1, 2, 3):
        make(lake, day)
        make(lake, day, "finetune/evaluation", "answers", "shop")
    gradients(lake, 1, ["a", "b", "zero1", "c"], seed=9)
    gradients(lake, 2, ["a", "b", "c", "d", "zero1"])
    gradients(lake, 3, ["a", "e"])
    stale = store_of(lake).place / MAPPED / f"{'0' * 64}.sgd.npy"
    stale.write_bytes(b"stale")
    scratch(lake)
    return lake


def scratch(lake: Lake) -> list[Path]:
    place, store = lake.place("instructions/pool"), store_of(lake).place
    (place / f".writing-{'a' * 32}" / "adapter").mkdir(parents=True)
    files = [
        place / f".writing-{'a' * 32}" / "adapter" / "half.bin",
        place / f".writing-{'b' * 32}",
        lake.root / f".writing-{'d' * 32}",
        store / f".writing-{'c' * 32}",
        store / MAPPED / f".writing-{'e' * 32}",
    ]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"half")
    return [files[0].parents[1], *files[1:]]


def test_what_current_and_newest_versions_need_stays_to_the_byte(lake: Lake) -> None:
    for day in (1, 2, 3):
        make(lake, day)
        gradients(lake, day, ["a", "zero1", f"row{day}"])
    (lake.place("instructions/pool") / "notes.txt").write_text("somebody's")
    before = snapshot(lake)
    assert collect(lake, keep=3) == Report()
    assert snapshot(lake) == before


def test_a_lake_that_is_not_there_stays_so(lake: Lake) -> None:
    assert collect(lake) == Report()
    assert not lake.root.exists()


def test_an_old_version_keeps_its_manifest_its_row_ids_and_a_record_of_what_went(lake: Lake) -> None:
    old, _ = make(lake, 1), make(lake, 2)
    manifest = (old.folder / MANIFEST).read_bytes()
    size = sum(file.n_bytes for file in old.manifest.files.values())
    (item,) = collect(lake).removed
    assert below(old.folder) == {MANIFEST, PRUNED, ROW_IDS}
    assert (old.folder / MANIFEST).read_bytes() == manifest
    assert pl.read_parquet(old.folder / ROW_IDS).to_dict(as_series=False) == {"row_id": ["a", "z1"]}
    record = read_pruned(old.folder)
    assert record is not None
    assert record.removed == old.manifest.files
    assert record.row_ids is not None
    assert record.row_ids.sha256 == file_sha256(old.folder / ROW_IDS)
    assert (item.kind, item.path, item.n_bytes) == (VERSIONS, old.folder, size - record.row_ids.n_bytes)


@pytest.mark.parametrize(("asset", "table"), [("selection/subset", "subset"), ("finetune/baseline", "rows")])
def test_tables_of_ids_and_numbers_stay_as_they_are(lake: Lake, asset: str, table: str) -> None:
    old, _ = make(lake, 1, asset, table, "shop"), make(lake, 2, asset, table, "shop")
    collect(lake)
    assert below(old.folder) == {MANIFEST, PRUNED, f"{table}.parquet"}
    assert old.read(replace(TEXT, table=table))["row_id"].to_list() == ["z1", "a"]


def test_versions_are_kept_by_age_and_the_current_one_whatever_its_age(lake: Lake) -> None:
    versions = {day: make(lake, day) for day in (2, 4, 1, 3)}
    again, written = lake.make(recipe(1), "run", write_rows([], "pool"))
    assert (again, written) == (versions[1], False)
    report = collect(lake, keep=2)
    assert {item.path for item in report.removed} == {versions[2].folder, versions[3].folder}
    assert lake.make(recipe(4), "run", write_rows([], "pool")) == (versions[4], False)


def test_each_domain_keeps_its_own_versions(lake: Lake) -> None:
    shop = make(lake, 1, partition="shop")
    other = [make(lake, day, partition="other") for day in (2, 3)]
    assert [item.path for item in collect(lake).removed] == [other[0].folder]
    assert lake.current("instructions/pool", "shop") == shop


def test_shards_of_deleted_rows_go_with_the_last_version_that_lists_them(lake: Lake) -> None:
    first, _ = gradients(lake, 1, ["a", "b", "c", "d"])
    second, _ = gradients(lake, 2, ["a", "e"])
    shared, only_second = shards_of(first) & shards_of(second), shards_of(second) - shards_of(first)
    assert len(shared) == len(only_second) == 1
    store = store_of(lake)
    assert kinds(collect(lake, keep=2)) == {}
    assert kinds(collect(lake, keep=1)) == {VERSIONS: 1, PARTS: 1, COPIES: 1}
    assert below(first.folder) == {MANIFEST, PRUNED, "index.parquet", "set_aside.parquet"}
    assert shards_in(store) == shards_of(second)
    assert StoredFeatures(lake.parts_of(second), second.read(INDEX), "adam").array().shape == (2, 16)
    assert gradients(lake, 3, ["a", "b", "c", "e"])[1] == ["c"]  # `b` stands in a shard that served `a`


def test_a_shard_whose_rows_are_all_set_aside_stays_as_long_as_a_version_lists_them(lake: Lake) -> None:
    gradients(lake, 1, ["zero1", "zero2", "a"])
    gradients(lake, 2, ["zero1", "a", "b"])
    assert kinds(collect(lake)) == {VERSIONS: 1}
    assert gradients(lake, 3, ["zero1", "a"])[1] == []
    gradients(lake, 4, ["a"])
    assert kinds(collect(lake))[PARTS] == 2
    assert gradients(lake, 5, ["zero1", "a"])[1] == ["zero1"]


def test_a_shard_that_nothing_needs_keeps_its_manifest_as_any_other_version(lake: Lake) -> None:
    old, _ = gradients(lake, 1, ["a", "b"])
    (shard,) = lake.parts_of(old).values()
    gradients(lake, 2, ["c"], seed=5)
    assert kinds(collect(lake)) == {VERSIONS: 1, PARTS: 1, COPIES: 1}
    assert below(shard.folder) == {MANIFEST, PRUNED, "set_aside.parquet", ROW_IDS}
    assert shards_in(store_of(lake)) == set()
    assert len(shards_in(store_of(lake, seed=5))) == 1


def test_a_copy_of_a_shard_that_is_gone_or_changed_goes(lake: Lake) -> None:
    gradients(lake, 1, ["a", "b"])
    folder = store_of(lake).place / MAPPED
    before = set(folder.iterdir())
    for name in (f"{'0' * 64}.sgd.npy", "something else"):
        (folder / name).write_bytes(b"old")
    assert kinds(collect(lake)) == {COPIES: 2}
    assert set(folder.iterdir()) == before


def test_a_shard_of_a_fill_under_way_stays_as_long_as_it_is_young(lake: Lake) -> None:
    fill(store_of(lake), ["a", "b"], shard_rows=2)
    assert collect(lake, min_age_s=HOUR) == Report()
    assert kinds(collect(lake)) == {PARTS: 1}
    assert shards_in(store_of(lake)) == set()


def test_scratch_of_killed_runs_goes(lake: Lake) -> None:
    make(lake, 1)
    gradients(lake, 1, ["a"])
    before = snapshot(lake)
    entries = scratch(lake)
    report = collect(lake)
    assert {item.path for item in report.removed if item.kind == SCRATCH} == set(entries)
    assert len(report.removed) == len(entries)
    assert snapshot(lake) == before


def test_what_is_young_stays(grown: Lake) -> None:
    before = snapshot(grown)
    assert collect(grown, min_age_s=HOUR) == Report()
    assert snapshot(grown) == before
    yesterday = time.time() - 2 * DAY
    for path in grown.root.rglob("*"):
        os.utime(path, (yesterday, yesterday))
    assert set(kinds(collect(grown, min_age_s=DAY))) == set(module.KINDS)


@pytest.mark.parametrize("age", [float("nan"), float("inf")])
def test_an_age_without_meaning_removes_nothing(grown: Lake, age: float) -> None:
    assert collect(grown, min_age_s=age) == Report()


def test_a_second_collection_finds_nothing(grown: Lake) -> None:
    assert set(kinds(collect(grown))) == set(module.KINDS)
    before = snapshot(grown)
    assert collect(grown) == Report()
    assert snapshot(grown) == before


def test_a_dry_run_changes_nothing_and_foretells_the_real_one(grown: Lake) -> None:
    before = snapshot(grown)
    foretold = collect(grown, dry_run=True)
    assert snapshot(grown) == before
    assert not (grown.root / "g2is.duckdb").exists()
    sizes = sum(path.stat().st_size for path in grown.root.rglob("*") if path.is_file())
    assert collect(grown) == foretold
    left = sum(path.stat().st_size for path in grown.root.rglob("*") if path.is_file())
    views = [grown.root / "g2is.duckdb", *grown.root.rglob(PRUNED)]
    assert sizes - left + sum(file.stat().st_size for file in views) == sum(i.n_bytes for i in foretold.removed)


def test_views_are_there_afterwards(grown: Lake) -> None:
    collect(grown)
    assert (grown.root / "g2is.duckdb").exists()


def test_stopped_before_any_of_its_changes_the_next_one_ends_the_same(
    grown: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = Lake(tmp_path / "undisturbed")
    shutil.copytree(grown.root, undisturbed.root)
    collect(undisturbed)
    expected = snapshot(undisturbed)
    n_stops = 0
    while True:
        lake = Lake(tmp_path / f"stopped-{n_stops}")
        shutil.copytree(grown.root, lake.root)
        with monkeypatch.context() as patch:
            stopping(patch, n_stops)
            try:
                collect(lake)
                break
            except Stop:
                pass
        for folder in lake.root.glob("instructions/pool/[!.]*-*"):
            whole = {MANIFEST, "pool.parquet", "rejected.parquet", "adapter", "adapter/weights.bin"}
            assert below(folder) == whole or (folder / PRUNED).exists()
        collect(lake)
        assert snapshot(lake) == expected, n_stops
        n_stops += 1
    assert n_stops > 40


KILLED = """
import os, signal, sys
from pathlib import Path
from g2is_assets.store.gc import collect_garbage
from g2is_assets.store.lake import Lake

unlink = os.unlink

def unlink_and_die(*arguments, **more):
    unlink(*arguments, **more)
    os.kill(os.getpid(), signal.SIGKILL)

os.unlink = unlink_and_die
collect_garbage(Lake(Path(sys.argv[1])), 1, 0)
"""


def test_a_pruning_that_was_killed_is_finished_also_if_it_is_young(lake: Lake) -> None:
    old, _ = make(lake, 1), make(lake, 2)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(lake.root)], cwd=ROOT, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert below(old.folder) == {MANIFEST, PRUNED, ROW_IDS, "pool.parquet", "rejected.parquet", "adapter"}
    assert kinds(collect(lake, min_age_s=HOUR)) == {VERSIONS: 1}
    assert below(old.folder) == {MANIFEST, PRUNED, ROW_IDS}
    assert pl.read_parquet(old.folder / ROW_IDS)["row_id"].to_list() == ["a", "z1"]


def test_a_pruned_version_does_not_serve_again_and_can_be_made_anew(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    old, _ = make(lake, 1), make(lake, 2)
    collect(lake)
    kept = {file.name: file.read_bytes() for file in old.folder.iterdir()}
    with caplog.at_level(logging.WARNING):
        again, written = lake.make(recipe(1), "later", write_rows(["z1", "a"], "pool"))
    assert written
    assert caplog.records == []
    assert again.folder != old.folder
    assert again.manifest.data_version == old.manifest.data_version
    assert lake.make(recipe(1), "run", write_rows([], "pool")) == (again, False)
    assert {file.name: file.read_bytes() for file in old.folder.iterdir()} == kept
    assert again.read(TEXT)["row_id"].to_list() == ["z1", "a"]
    assert plan_pruning(old.folder, old.manifest) is None


def test_a_half_pruned_version_does_not_serve_again(lake: Lake) -> None:
    old, _ = make(lake, 1), make(lake, 2)
    pruning = plan_pruning(old.folder, old.manifest)
    assert pruning is not None
    (old.folder / PRUNED).write_bytes(pruning.additions[PRUNED])
    again, written = lake.make(recipe(1), "run", write_rows(["z1", "a"], "pool"))
    assert written
    assert again.folder != old.folder
    collect(lake, keep=3)
    assert below(old.folder) == {MANIFEST, PRUNED, ROW_IDS}
    assert again.read(TEXT)["row_id"].to_list() == ["z1", "a"]


def test_a_pointer_to_a_pruned_version_is_told_and_mended_by_materialising(lake: Lake) -> None:
    old, _ = make(lake, 1), make(lake, 2)
    collect(lake)
    (lake.place("instructions/pool") / "current.json").write_text(json.dumps({"version": old.folder.name}))
    with pytest.raises(StoreError, match=rf"{old.folder.name} was pruned; materialise instructions/pool again"):
        lake.current("instructions/pool")
    again, written = lake.make(recipe(1), "run", write_rows(["z1", "a"], "pool"))
    assert written
    assert lake.current("instructions/pool") == again


def cut_manifest(lake: Lake, version: Version) -> str:
    (version.folder / MANIFEST).write_text("{")
    return f"{version.folder.name}/{MANIFEST} is missing or damaged"


def remove_manifest(lake: Lake, version: Version) -> str:
    (version.folder / MANIFEST).unlink()
    return f"{version.folder.name}/{MANIFEST} is missing or damaged"


def change_table(lake: Lake, version: Version) -> str:
    file = version.folder / "index.parquet"
    pl.read_parquet(file).head(1).write_parquet(file)
    return f"{version.folder.name} differs from its manifest"


def cut_pointer(lake: Lake, version: Version) -> str:
    (version.folder.parent / "current.json").write_text("{")
    return "current.json is damaged"


@pytest.mark.parametrize("damage", [cut_manifest, remove_manifest, change_table, cut_pointer])
def test_what_is_damaged_is_reported_and_left_alone_with_its_shards(
    lake: Lake, damage: Callable[[Lake, Version], str]
) -> None:
    old, _ = gradients(lake, 1, ["a", "b"])
    gradients(lake, 2, ["c"])
    told = damage(lake, old)
    before = snapshot(lake)
    report = collect(lake)
    assert report.removed == []
    assert any(told in reason for reason in report.left_alone)
    assert snapshot(lake) == before


def test_a_damaged_version_does_not_keep_those_of_other_assets(lake: Lake) -> None:
    remove_manifest(lake, gradients(lake, 1, ["a"])[0])
    old, _ = make(lake, 1), make(lake, 2)
    assert [item.path for item in collect(lake).removed] == [old.folder]


def test_a_version_that_cannot_be_read_keeps_every_shard(lake: Lake) -> None:
    lost, _ = gradients(lake, 1, ["x", "y"], seed=3)
    gradients(lake, 2, ["a", "b"])
    gradients(lake, 3, ["c"])
    cut_manifest(lake, lost)
    report = collect(lake)
    assert kinds(report) == {VERSIONS: 1}
    assert any("vectors/shard: all stays as long as a version cannot be read" in said for said in report.left_alone)
    assert len(shards_in(store_of(lake))) == 2


def test_a_damaged_shard_is_reported_and_left_alone(lake: Lake) -> None:
    old, _ = gradients(lake, 1, ["a", "b"])
    gradients(lake, 2, ["c"], seed=3)
    (shard,) = lake.parts_of(old).values()
    flip_byte(shard.folder)
    report = collect(lake)
    assert kinds(report) == {VERSIONS: 1}
    assert any(f"{shard.folder.name} differs from its manifest" in reason for reason in report.left_alone)


def test_of_a_shard_made_again_only_the_whole_one_serves(lake: Lake) -> None:
    version, _ = gradients(lake, 1, ["a", "b"])
    (shard,) = lake.parts_of(version).values()
    flip_byte(shard.folder)
    again, computed = gradients(lake, 1, ["a", "b"])
    assert computed == ["a", "b"]
    assert again.folder == version.folder
    (mended,) = lake.parts_of(version).values()
    assert mended.folder != shard.folder
    assert mended.name == shard.name
    assert collect(lake) == Report()
    assert lake.parts_of(version)


def test_a_damaged_record_of_a_pruning_is_reported(lake: Lake) -> None:
    old, _ = make(lake, 1), make(lake, 2)
    collect(lake)
    (old.folder / PRUNED).write_text("{")
    report = collect(lake)
    assert report.removed == []
    assert [f"{PRUNED} is damaged" in reason for reason in report.left_alone] == [True]


def test_a_file_that_cannot_be_deleted_is_one_clear_error(grown: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "some file")

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(StoreError, match=r"cannot be cleaned up: .*Permission denied.*run again"):
        collect(grown)
