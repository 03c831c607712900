"""The chain behind a version, and the difference between two subsets, in a lake made by hand."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from g2is_assets.contracts.instructions import POOL, WITHHELD
from g2is_assets.contracts.selection import EXCLUDED, SUBSET
from g2is_assets.errors import SettingsError, StoreError
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import MANIFEST, Input
from g2is_assets.store.version import Draft, Recipe, Version
from g2is_assets.trail.chain import follow, label_of, nearest, version_at
from g2is_assets.trail.subset_diff import compare, subset_of
from g2is_assets.trail.verify import verify
from support.rows import UNREMARKABLE

FILE = Input(data_version="f" * 64)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def filled(schema: Mapping[str, Any], rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """Rows with a value that means nothing in every other column."""
    blank = {pl.String: "", pl.Int64: 1, pl.Float64: 0.5, pl.Boolean: False, pl.List: []}
    empty = {
        name: next((value for kind, value in blank.items() if dtype == kind), None) for name, dtype in schema.items()
    }
    empty |= {name: value for name, value in UNREMARKABLE.items() if name in schema}
    return pl.DataFrame([empty | row for row in rows], schema=schema)


def pool(lake: Lake, rows: str, withheld: str = "", **settings: Any) -> Version:
    def write(draft: Draft) -> None:
        draft.write(POOL, filled(POOL.schema, [{"row_id": row} for row in rows]))
        draft.write(WITHHELD, filled(WITHHELD.schema, [{"row_id": row, "reason": "withdrawn"} for row in withheld]))

    return lake.make(Recipe("instructions/pool", None, "1", settings, {"file:pool.jsonl": FILE}), "run", write)[0]


def subset(lake: Lake, chosen: str, of: Version, excluded: str = "", code: str = "1", **settings: Any) -> Version:
    def write(draft: Draft) -> None:
        rows = [{"row_id": row, "order": place, "domain": "shop"} for place, row in enumerate(chosen)]
        draft.write(SUBSET, filled(SUBSET.schema, rows))
        reasons = [{"row_id": row, "domain": "shop", "reason": "equal"} for row in excluded]
        draft.write(EXCLUDED, filled(EXCLUDED.schema, reasons))

    inputs = {"instructions/pool": of.as_input}
    return lake.make(Recipe("selection/subset", "shop", code, settings, inputs), "run", write)[0]


def adapter(lake: Lake, of: Version) -> Version:
    def write(draft: Draft) -> None:
        (draft.folder / "adapter").mkdir()
        (draft.folder / "adapter" / "weights").write_bytes(b"0")

    inputs = {"selection/subset": of.as_input, "instructions/pool": of.manifest.inputs["instructions/pool"]}
    return lake.make(Recipe("finetune/adapter", "shop", "1", {}, inputs), "run", write)[0]


def test_every_version_behind_a_head_is_followed_once_the_nearest_first(lake: Lake) -> None:
    first = pool(lake, "abc")
    head = adapter(lake, subset(lake, "ab", first))
    chain = follow(lake, [head])
    assert [(link.label, link.depth) for link in chain] == [
        ("finetune/adapter[shop]", 0),
        ("instructions/pool", 1),
        ("selection/subset[shop]", 1),
    ]
    assert nearest(chain)["instructions/pool"].version == first
    assert label_of(head) == "finetune/adapter[shop]"
    assert version_at(head.folder / "adapter" / "weights")[1] == head
    with pytest.raises(StoreError, match="belongs to no version"):
        version_at(lake.root)


def test_a_version_is_found_by_its_manifest_though_the_current_one_is_another(lake: Lake) -> None:
    old = subset(lake, "ab", pool(lake, "abc"))
    pool(lake, "abcd")
    assert follow(lake, [old])[1].version is not None


def test_an_untouched_chain_has_no_findings_and_every_byte_counts(lake: Lake) -> None:
    head = adapter(lake, subset(lake, "ab", pool(lake, "abc")))

    def findings() -> list[str]:
        today = {"instructions/pool": {"file:pool.jsonl": FILE.data_version}}
        chain = follow(lake, [head], parts=True)
        return [found.state for found in verify(lake, chain, lambda version: today.get(version.manifest.asset, {}))]

    assert findings() == []
    file = head.folder / "adapter" / "weights"
    file.write_bytes(b"1")
    assert findings() == ["altered"]


def test_a_manifest_that_was_changed_or_is_gone_breaks_the_chain_where_it_stands(lake: Lake) -> None:
    first = pool(lake, "abc")
    head = adapter(lake, subset(lake, "ab", first))
    file = first.folder / MANIFEST
    file.write_text(file.read_text().replace('"run"', '"ran"'))
    assert [link.asset for link in follow(lake, [head]) if link.version is None] == ["instructions/pool"]
    shutil.rmtree(first.folder)
    assert [link.asset for link in follow(lake, [head]) if link.version is None] == ["instructions/pool"]


def test_two_subsets_differ_by_rows_each_with_its_reason_and_by_what_stands_behind_them(lake: Lake) -> None:
    before = subset(lake, "abcde", pool(lake, "abcdefg", limit=7), excluded="f", budget=5)
    after = subset(lake, "afxg", pool(lake, "abdefgx", withheld="c", limit=8), excluded="d", budget=4)
    found = compare(lake, before, after)
    assert found.n_kept == 1
    assert [(change.row_id, change.came, change.why) for change in found.changes] == [
        ("f", True, "no longer excluded: equal"),
        ("x", True, "new in the pool"),
        ("g", True, "the walk's choice"),
        ("b", False, "the walk's choice"),
        ("c", False, "withheld: withdrawn"),
        ("d", False, "excluded: equal"),
        ("e", False, "the walk's choice"),
    ]
    assert found.causes[0] == "instructions/pool: another version (limit 7 -> 8)"
    assert found.causes[1].startswith("selection/subset: another version (budget 5 -> 4; instructions/pool changed")


def test_a_subset_is_named_by_the_beginning_of_its_name_or_by_an_adapter(lake: Lake) -> None:
    first = subset(lake, "ab", pool(lake, "abc"))
    trained = adapter(lake, first)
    subset(lake, "bc", pool(lake, "abc"), budget=9)
    assert subset_of(lake, "shop", first.folder.name) == first
    assert subset_of(lake, "shop", trained.folder.name).folder == first.folder
    with pytest.raises(SettingsError, match="'nothing' names no version of the subset of 'shop'; there are"):
        subset_of(lake, "shop", "nothing")
