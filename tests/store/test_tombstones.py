"""A version from which rows were erased is whole as its tombstones say, and in no other way."""

import json
from pathlib import Path

import polars as pl
import pytest

from g2is_assets.contracts.contract import Column, Contract
from g2is_assets.errors import StoreError
from g2is_assets.hashing import file_sha256
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import ERASED, ERASING, FileRecord
from g2is_assets.store.pruning import plan_pruning, read_pruned
from g2is_assets.store.tombstones import (
    Change,
    Tombstone,
    as_json,
    completed_files,
    expected_files,
    read_pending,
    read_tombstones,
)
from g2is_assets.store.version import Draft, Recipe, Version

TEXT = Contract((), "pool", "Rows", {"row_id": Column(pl.String, "Row"), "response": Column(pl.String, "Text")})
FILE = "pool.parquet"


def rows(*texts: str) -> pl.DataFrame:
    return pl.DataFrame({"row_id": [f"r{n}" for n in range(len(texts))], "response": texts}, schema=TEXT.schema)


def record(file: Path) -> FileRecord:
    return FileRecord(sha256=file_sha256(file), n_bytes=file.stat().st_size)


def rewrite(version: Version, *texts: str) -> Change:
    """Another content of the table, and what changed."""
    file = version.folder / FILE
    old = record(file)
    rows(*texts).write_parquet(file)
    return Change(old=old, new=record(file))


def tombstone(change: Change) -> Tombstone:
    return Tombstone(erased_at="2026-01-01T00:00:00+00:00", reason="asked", rows=["r0"], files={FILE: change})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def version(lake: Lake) -> Version:
    def write(draft: Draft) -> None:
        draft.write(TEXT, rows("secret", "kept"))

    return lake.make(Recipe("instructions/pool", None, "1", {}), "run", write)[0]


def test_a_version_without_tombstones_is_what_its_manifest_says(version: Version) -> None:
    assert read_tombstones(version.folder) == []
    assert expected_files(version.folder, version.manifest) == version.manifest.files


def test_a_version_whose_files_follow_its_tombstones_is_whole_and_serves_again(lake: Lake, version: Version) -> None:
    first = tombstone(rewrite(version, "", "kept"))
    second = tombstone(rewrite(version, "", ""))
    (version.folder / ERASED).write_text(as_json([first, second]))
    assert read_tombstones(version.folder) == [first, second]
    assert lake.find_whole("instructions/pool") == version
    assert lake.find_whole("instructions/pool", version.manifest.data_version) == version
    assert version.read(TEXT)["response"].to_list() == ["", ""]
    again, written = lake.make(Recipe("instructions/pool", None, "1", {}), "run", lambda draft: None)
    assert (again, written) == (version, False)


def test_the_old_file_put_back_after_an_erasure_is_damage(lake: Lake, version: Version) -> None:
    secret = (version.folder / FILE).read_bytes()
    (version.folder / ERASED).write_text(as_json([tombstone(rewrite(version, "", "kept"))]))
    (version.folder / FILE).write_bytes(secret)
    assert lake.find_whole("instructions/pool") is None
    with pytest.raises(StoreError, match=r"pool\.parquet is damaged"):
        version.read(TEXT)


def test_a_rewritten_file_without_a_tombstone_is_damage(lake: Lake, version: Version) -> None:
    rewrite(version, "", "kept")
    assert lake.find_whole("instructions/pool") is None


def test_while_an_erasure_is_under_way_its_files_may_be_old_or_new_and_nothing_else(
    lake: Lake, version: Version
) -> None:
    secret = (version.folder / FILE).read_bytes()
    entry = tombstone(rewrite(version, "", "kept"))
    erased = (version.folder / FILE).read_bytes()
    (version.folder / ERASING).write_text(as_json([entry]))
    assert read_pending(version.folder) == entry
    assert read_tombstones(version.folder) == []
    for content in (secret, erased):
        (version.folder / FILE).write_bytes(content)
        assert lake.find_whole("instructions/pool") == version
        assert completed_files(version.folder, version.manifest) == version.manifest.files
    rows("else", "kept").write_parquet(version.folder / FILE)
    assert lake.find_whole("instructions/pool") is None


def test_a_tombstone_that_does_not_follow_from_the_record_before_it_is_refused(version: Version) -> None:
    change = rewrite(version, "", "kept")
    strange = Change(old=FileRecord(sha256="0" * 64, n_bytes=1), new=change.new)
    (version.folder / ERASED).write_text(as_json([tombstone(strange)]))
    with pytest.raises(StoreError, match=rf"{ERASED}: pool\.parquet was another file before; restore"):
        expected_files(version.folder, version.manifest)


@pytest.mark.parametrize("text", ["{", "{}", "[]", '[{"rows": []}]', json.dumps([1])])
def test_a_damaged_tombstone_is_one_error_that_names_it(lake: Lake, version: Version, text: str) -> None:
    (version.folder / ERASED).write_text(text)
    with pytest.raises(StoreError, match=rf"{ERASED} is damaged .*restore it from a backup"):
        read_tombstones(version.folder)
    assert lake.find_whole("instructions/pool") is None


def test_pruning_a_version_with_tombstones_keeps_them(version: Version) -> None:
    change = rewrite(version, "", "kept")
    (version.folder / ERASED).write_text(as_json([tombstone(change)]))
    pruning = plan_pruning(version.folder, version.manifest)
    assert pruning is not None
    pruning.apply()
    pruned = read_pruned(version.folder)
    assert pruned is not None
    assert pruned.removed == {FILE: change.new}
    assert read_tombstones(version.folder) == [tombstone(change)]
    assert plan_pruning(version.folder, version.manifest) is None
