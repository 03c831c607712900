"""Erasure reaches every version and shard, and leaves a record; all else keeps its bytes."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from g2is_assets.contracts.audit import ERASED_PAGE, PAGE, QUOTED
from g2is_assets.contracts.gradients import INDEX
from g2is_assets.contracts.instructions import POOL, WITHHELD
from g2is_assets.contracts.warmup import SAMPLE
from g2is_assets.errors import SettingsError, StoreError
from g2is_assets.hashing import file_sha256
from g2is_assets.store.erasure import Erased, erase, with_text
from g2is_assets.store.gc import VERSIONS, collect_garbage
from g2is_assets.store.lake import Lake
from g2is_assets.store.pruning import ROW_IDS, plan_pruning
from g2is_assets.store.tombstones import read_tombstones
from g2is_assets.store.versions import versions_of
from support.erasable import (
    GONE,
    ROWS,
    WHY,
    build,
    every_version,
    features_of,
    gradients_of,
    in_use,
    pool_of,
    record,
    residue,
    run,
    snapshot,
    store_of,
    whole,
)
from support.vectors import DIM, SETTINGS, fill


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("erasure") / "lake", shop="rows", other="components").root


@pytest.fixture
def lake(built: Path, tmp_path: Path) -> Lake:
    shutil.copytree(built, tmp_path / "lake")
    return Lake(tmp_path / "lake")


def test_the_row_leaves_every_file_and_all_else_keeps_its_bytes(lake: Lake) -> None:
    kept = {v.folder: features_of(lake, v) for v in every_version(lake) if v.manifest.parts}
    assert len(residue(lake)) == 9
    report = run(lake)
    assert residue(lake) == []
    assert report.left_alone == []
    for folder, before in kept.items():
        after = features_of(lake, next(v for v in every_version(lake) if v.folder == folder))
        assert list(after) == list(before)
        for row, values in before.items():
            assert after[row].any() == (row != GONE)
            assert row == GONE or (after[row] == values).all()


def test_every_version_is_whole_afterwards_but_the_one_whose_payload_was_the_vector(lake: Lake) -> None:
    broken = [version for version in every_version(lake) if not whole(lake, version)]
    assert broken == []
    report = run(lake)
    pruned = [version for version in every_version(lake) if not whole(lake, version)]
    assert [v.folder for v in pruned] == report.pruned
    assert [(v.manifest.asset, v.manifest.partition) for v in pruned] == [("knowledge/components", "shop")]
    assert plan_pruning(pruned[0].folder, pruned[0].manifest) is None


def test_the_record_of_an_erasure_names_rows_and_files(lake: Lake) -> None:
    old = next(v for v in versions_of(lake, "instructions/pool")[0] if v.manifest.n_rows["pool"] == len(ROWS))
    run(lake)
    (tombstone,) = read_tombstones(old.folder)
    assert (tombstone.rows, tombstone.reason, set(tombstone.files)) == ([GONE], WHY, {"pool.parquet"})
    change = tombstone.files["pool.parquet"]
    assert change.old == old.manifest.files["pool.parquet"]
    assert change.new.sha256 == file_sha256(old.folder / "pool.parquet")
    row = old.read(POOL).row(by_predicate=pl.col("row_id") == GONE, named=True)
    blank = {"ids": [], "messages": [], "tools": None, "prompt": "", "response": "", "answer": None, "choices": None}
    assert row == record(GONE) | blank
    current = lake.current("instructions/pool")
    withheld = current.read(WITHHELD).to_dicts()
    assert [(r["row_id"], r["ids"], r["sources"], r["detail"]) for r in withheld] == [(GONE, [], ["s"], WHY)]


def test_a_page_that_quotes_the_row_goes_as_a_whole_and_others_stay(lake: Lake) -> None:
    old, current = sorted(versions_of(lake, "audit/report")[0], key=lambda version: version.manifest.code_version)
    page = (current.folder / PAGE).read_bytes()
    run(lake)
    assert (old.folder / PAGE).read_bytes() == ERASED_PAGE
    assert (current.folder / PAGE).read_bytes() == page
    (tombstone,) = read_tombstones(old.folder)
    assert (tombstone.rows, set(tombstone.files)) == ([GONE], {PAGE})
    assert set(old.read(QUOTED)["row_id"]) == set(ROWS)
    assert read_tombstones(current.folder) == []


def test_a_shard_is_rewritten_as_any_other_version_and_keeps_its_name(lake: Lake) -> None:
    index = lake.current("gradients/pool").read(INDEX)
    shard = lake.parts_of(lake.current("gradients/pool"))[index.filter(pl.col("row_id") == "row03")["shard"][0]]
    run(lake)
    assert lake.current("gradients/pool").read(INDEX).equals(index)
    (tombstone,) = read_tombstones(shard.folder)
    assert (tombstone.rows, set(tombstone.files)) == ([GONE], {"vectors.parquet"})
    assert tombstone.files["vectors.parquet"].new.sha256 == file_sha256(shard.folder / "vectors.parquet")
    place = pl.read_parquet(shard.folder / "vectors.parquet").row(by_predicate=pl.col("row_id") == GONE, named=True)
    assert [place[f"norm_{kind}"] for kind in SETTINGS["kinds"]] == [0.0, 0.0]
    assert place["codes_adam"] == bytes(DIM)


def test_the_store_serves_on_and_computes_nothing_again(lake: Lake) -> None:
    run(lake)
    assert lake.parts_of(lake.current("gradients/pool"))
    rest = [row for row in ROWS if row != GONE]
    made, computed = gradients_of(lake, "3", [*rest, "new"])
    assert computed == ["new"]
    assert made.read(INDEX)["row_id"].to_list() == [*rest, "new"]


def test_a_zero_never_serves_as_a_vector_should_an_erased_row_be_asked_for_again(lake: Lake) -> None:
    run(lake)
    made, computed = gradients_of(lake, "4", ROWS)
    assert computed == [GONE]
    assert all(values.any() for values in features_of(lake, made).values())


def test_two_rows_of_one_shard_may_be_erased_one_after_the_other(tmp_path: Path) -> None:
    lakes = [Lake(tmp_path / name) for name in ("both", "one by one")]
    for lake in lakes:
        pool_of(lake, "1", ROWS)
        gradients_of(lake, "1", ROWS)
        pool_of(lake, "2", ROWS[2:])
        gradients_of(lake, "2", ROWS[2:])
    run(lakes[0], "row00", "row01")
    run(lakes[1], "row00")
    run(lakes[1], "row01")
    shards = [[f.read_bytes() for f in sorted(lake.root.glob("vectors/shard/*/*/vectors.parquet"))] for lake in lakes]
    assert shards[0] == shards[1]
    for lake in lakes:
        assert residue(lake, "row00") == residue(lake, "row01") == []
        assert all(whole(lake, version) for version in every_version(lake))
    old = next(v for v in versions_of(lakes[1], "instructions/pool")[0] if v.manifest.code_version == "1")
    assert [entry.rows for entry in read_tombstones(old.folder)] == [["row00"], ["row01"]]


def test_a_dry_run_changes_nothing_and_foretells_the_real_one(lake: Lake) -> None:
    before = snapshot(lake)
    foretold = run(lake, dry_run=True)
    assert snapshot(lake) == before
    assert run(lake) == foretold
    assert len(foretold.versions) == 6


def test_a_second_erasure_finds_nothing(lake: Lake) -> None:
    run(lake)
    before = snapshot(lake)
    assert run(lake) == Erased()
    assert snapshot(lake) == before


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("row00", r"instructions/pool.*run `g2is refresh --domain other --domain shop`, then erase"),
        (
            "row05",
            r"instructions/pool, gradients/pool, audit/report\[shop\]; run `g2is refresh --domain shop`",
        ),
    ],
)
def test_a_row_that_a_current_version_uses_is_refused_and_nothing_changes(lake: Lake, row: str, named: str) -> None:
    before = snapshot(lake)
    with pytest.raises(SettingsError, match=f"still used by .*{named}"):
        run(lake, GONE, row)
    assert snapshot(lake) == before


def test_what_the_lake_holds_of_a_domain_that_is_gone_does_not_stand_in_the_way(lake: Lake) -> None:
    gradients_of(lake, "1", ROWS[:4], "gradients/target", "shop")
    with pytest.raises(SettingsError, match=r"gradients/target\[shop\]; run `g2is refresh --domain shop`, then erase"):
        run(lake)
    erase(lake, [GONE], WHY, in_use("other"))
    assert residue(lake) == []


def test_collection_goes_on_as_before_after_an_erasure(lake: Lake) -> None:
    run(lake)
    current = lake.current("gradients/pool")
    before = features_of(lake, current)
    report = collect_garbage(lake, 1, 0)
    assert report.left_alone == []
    assert {item.kind for item in report.removed} >= {VERSIONS}
    after = features_of(lake, current)
    assert list(after) == list(before)
    assert all((after[row] == before[row]).all() for row in before)
    assert run(lake) == Erased()


def test_pruning_a_pool_keeps_the_ids_of_rows_that_were_in_it_and_of_no_others(lake: Lake) -> None:
    current = lake.current("instructions/pool")
    pruning = plan_pruning(current.folder, current.manifest)
    assert pruning is not None
    pruning.apply()
    assert GONE not in pl.read_parquet(current.folder / ROW_IDS)["row_id"]
    assert len(pl.read_parquet(current.folder / ROW_IDS)) == len(ROWS) - 1


def test_what_is_left_of_a_sample_has_text() -> None:
    rows = [{n: record(row)[n] for n in SAMPLE.columns} for row in ("a", "b")]
    rows[0] |= {"messages": [], "response": ""}
    table = pl.DataFrame(rows, schema=SAMPLE.schema)
    assert with_text(table)["row_id"].to_list() == ["b"]
    with pytest.raises(StoreError, match=r"every row of the warmup sample was erased; .*redraw"):
        with_text(table.head(1))


def test_rows_of_which_every_one_was_erased_are_computed_if_the_same_set_is_wanted_again(tmp_path: Path) -> None:
    store = store_of(Lake(tmp_path / "lake"))
    fill(store, ROWS)
    for _ in range(2):
        erase(store.lake, ROWS[:4], WHY, [])
        filled, computed = fill(store, ROWS)
        assert computed == ROWS[:4]
        assert filled.index["row_id"].to_list() == ROWS
