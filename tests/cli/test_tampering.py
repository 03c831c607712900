"""What somebody might try so that `g2is audit verify` does not notice, and what honest histories leave behind."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from g2is_assets.hashing import json_sha256
from g2is_assets.store.gc import collect_garbage
from g2is_assets.store.manifest import ERASED, ERASING, describe_files
from g2is_assets.store.tombstones import Change, Tombstone, as_json
from g2is_assets.store.version import Version
from g2is_assets.trail.subset_diff import compare
from support.commands import answer, g2is
from support.projects import flip, lake_of, rows_of, tamper_with_manifest
from support.rows import arithmetic_row, write_jsonl
from support.runs import refresh

DOMAIN = "sums"


def forge(version: Version, record: str, table: str) -> None:
    """Cut a table and say that an erasure did it."""
    before = describe_files(version.folder)[table]
    pl.read_parquet(version.folder / table).head(3).write_parquet(version.folder / table)
    change = Change(old=before, new=describe_files(version.folder)[table])
    said = Tombstone(erased_at="2026-01-31T12:00:00+00:00", reason="asked", rows=["0" * 32], files={table: change})
    (version.folder / record).write_text(as_json([said]))


@pytest.mark.parametrize("record", [ERASED, ERASING])
def test_a_tombstone_cannot_hide_a_change_of_what_no_erasure_touches(copy: Path, record: str) -> None:
    subset = lake_of(copy).current("selection/subset", DOMAIN)
    forge(subset, record, "subset.parquet")
    result = g2is(copy, "audit", "verify", DOMAIN)
    assert result.exit_code == 1
    assert f"altered: {subset.folder / record}: no erasure rewrites subset.parquet" in result.output


def test_an_erasure_under_way_is_listed_as_one(copy: Path) -> None:
    forge(lake_of(copy).current("instructions/pool"), ERASING, "pool.parquet")
    result = g2is(copy, "audit", "verify", DOMAIN)
    assert "erased: " in result.output
    assert "not finished" in result.output


def test_a_copy_of_a_version_does_not_stand_in_for_the_altered_one(copy: Path) -> None:
    pool = lake_of(copy).current("instructions/pool")
    for twin in (pool.folder.with_name(f"{pool.folder.name}-ffffff"), pool.folder.parent / DOMAIN / pool.folder.name):
        shutil.copytree(pool.folder, twin)
        before = (pool.folder / "pool.parquet").read_bytes()
        flip(pool.folder / "pool.parquet")
        result = g2is(copy, "audit", "verify", DOMAIN)
        assert result.exit_code == 1
        assert f"altered: {pool.folder / 'pool.parquet'}" in result.output
        (pool.folder / "pool.parquet").write_bytes(before)
        shutil.rmtree(twin)
    shutil.copytree(pool.folder, pool.folder.with_name(".writing-0"))  # of a mending that was killed
    assert g2is(copy, "audit", "verify", DOMAIN).exit_code == 0


def test_a_manifest_that_disagrees_with_itself_is_not_taken_for_whole_by_a_refresh(copy: Path) -> None:
    pool = lake_of(copy).current("instructions/pool")
    flip_table = pool.folder / "rejected.parquet"
    pl.read_parquet(flip_table).with_columns(pl.lit("x").alias("more")).write_parquet(flip_table)
    manifest = json.loads((pool.folder / "manifest.json").read_text())
    manifest["files"]["rejected.parquet"] = describe_files(pool.folder)["rejected.parquet"].model_dump()
    (pool.folder / "manifest.json").write_text(json.dumps(manifest))
    assert g2is(copy, "audit", "verify", DOMAIN).exit_code == 1
    refresh(copy, DOMAIN)
    now = lake_of(copy).current("instructions/pool").manifest
    assert now.data_version == json_sha256({name: record.sha256 for name, record in now.files.items()})
    result = g2is(copy, "audit", "verify", DOMAIN)
    assert result.exit_code == 0, result.output


def test_a_refresh_that_goes_on_from_an_altered_manifest_leaves_a_mark(copy: Path) -> None:
    before = lake_of(copy).current("finetune/adapter", DOMAIN).as_input.manifest_sha256
    tamper_with_manifest(copy)
    refresh(copy, DOMAIN)
    report = json.loads(g2is(copy, "audit", "verify", DOMAIN, "--json").output)[0]
    marks = [finding for finding in report["findings"] if finding["state"] == "relinked"]
    assert any(f"in place of {str(before)[:12]}" in finding["what"] for finding in marks)
    assert report["whole"] is True


def test_sources_are_compared_also_when_an_equal_pool_was_made_since(copy: Path) -> None:
    words = copy.parent / "pool" / "words.jsonl"
    words.write_text(words.read_text() + "\n")  # no row more
    refresh(copy, DOMAIN)
    result = g2is(copy, "audit", "verify", DOMAIN)
    assert result.exit_code == 0, result.output
    words.write_text(words.read_text().replace("apple", "maple"))
    result = g2is(copy, "audit", "verify", DOMAIN)
    assert result.exit_code == 1
    assert "altered: pool/words.jsonl" in result.output


def new_words(settings: Path, first: int) -> None:
    rows = [arithmetic_row(n, "words") for n in range(first, first + 20)]
    write_jsonl(settings.parent / "pool" / "words.jsonl", rows)


def test_rows_of_a_version_that_was_damaged_made_again_and_pruned_are_still_known(copy: Path) -> None:
    lake, taken = (
        lake_of(copy),
        rows_of(lake_of(copy).current("selection/subset", DOMAIN), "subset"),
    )
    before = {e["kind"] for e in answer(copy, "audit", "impact", "--row", taken[0])["exposures"]}
    for asset, domain, table in (
        ("selection/subset", DOMAIN, "subset.parquet"),
        ("instructions/target", DOMAIN, "target.parquet"),
        ("instructions/pool", None, "pool.parquet"),
    ):
        flip(lake.current(asset, domain).folder / table)
    refresh(copy, DOMAIN)  # made again: the old folders hold nothing
    new_words(copy, 40)
    (copy.parent / "domains" / DOMAIN / "domain.toml").write_text("[selection]\nbudget = 9\n")
    own = [arithmetic_row(n, DOMAIN) for n in range(400, 406)]
    write_jsonl(copy.parent / "domains" / DOMAIN / "validation.jsonl", own)
    refresh(copy, DOMAIN)
    collect_garbage(lake, 1, 0.0)
    after = answer(copy, "audit", "impact", "--row", taken[0])
    assert after["unreadable"] == []
    assert {e["kind"] for e in after["exposures"] if not e["current"]} >= before


def test_show_tells_sources_and_licences_also_when_the_pool_behind_the_adapter_was_pruned(copy: Path) -> None:
    before = answer(copy, "audit", "show", DOMAIN)["trained_on"]
    for first in (40, 60):
        new_words(copy, first)
        refresh(copy)
    collect_garbage(lake_of(copy), 1, 0.0)
    assert answer(copy, "audit", "show", DOMAIN)["trained_on"] == before


def test_diff_says_that_a_row_came_because_it_is_no_longer_excluded(copy: Path) -> None:
    lake = lake_of(copy)
    own = json.loads((copy.parent / "domains" / DOMAIN / "validation.jsonl").read_text().splitlines()[0])
    words = [arithmetic_row(n, "words") for n in range(19)]
    write_jsonl(copy.parent / "pool" / "words.jsonl", [*words, own])
    found = []
    for text in ("", "allow_leaks = true\n"):
        file = copy.parent / "domains" / DOMAIN / "domain.toml"
        file.write_text(f'[selection]\nwalk = "balanced"\nbudget = {30 if text else 4}\n{text}')
        refresh(copy, DOMAIN)
        found.append(lake.current("selection/subset", DOMAIN))
    leak = pl.read_parquet(found[0].folder / "excluded.parquet").filter(pl.col("split").is_not_null())["row_id"]
    came = {change.row_id: change.why for change in compare(lake, *found).changes if change.came}
    assert set(leak) & came.keys()
    assert all(came[row].startswith("no longer excluded: ") for row in set(leak) & came.keys())
