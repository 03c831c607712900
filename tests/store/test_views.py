"""DuckDB shows every current table, whatever the lake's name, whatever is damaged, whoever is reading."""

import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest

from g2is_assets.contracts.contract import Column, Contract
from g2is_assets.store.lake import Lake
from g2is_assets.store.vectors import Vectors, VectorStore
from g2is_assets.store.version import Draft, Recipe, Version
from g2is_assets.store.views import rebuild_views
from support.vectors import write_index

TABLE = Contract((), "table", "Rows", {"domain": Column(pl.String, "Domain"), "n": Column(pl.Int64, "A number")})


def make(lake: Lake, asset: str, partition: str | None = None, code: str = "1", **tables: list[int]) -> Version:
    def write(draft: Draft) -> None:
        for name, numbers in tables.items():
            table = {"domain": [partition or "none"] * len(numbers), "n": numbers}
            draft.write(replace(TABLE, table=name), pl.DataFrame(table, schema=TABLE.schema))
        (draft.folder / "note.txt").write_text("no table")

    return lake.make(Recipe(asset, partition, code, {}), "run", write)[0]


def query(lake: Lake, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(lake.root / "g2is.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def views(lake: Lake) -> list[str]:
    return [name for (name,) in query(lake, "SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1")]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    make(lake, "instructions/pool", pool=[1, 2, 3], rejected=[4])
    return lake


def test_every_table_is_a_view_named_after_stage_noun_and_table(lake: Lake) -> None:
    assert rebuild_views(lake) == lake.root / "g2is.duckdb"
    assert views(lake) == ["instructions_pool", "instructions_pool_rejected"]
    assert query(lake, "SELECT n FROM instructions_pool ORDER BY n") == [(1,), (2,), (3,)]
    assert query(lake, "SELECT n FROM instructions_pool_rejected") == [(4,)]


def test_domains_are_one_view(lake: Lake) -> None:
    make(lake, "selection/subset", "shop", subset=[1])
    make(lake, "selection/subset", "other", subset=[2, 3])
    rebuild_views(lake)
    assert "selection_subset" in views(lake)
    assert query(lake, "SELECT domain, n FROM selection_subset ORDER BY n") == [("shop", 1), ("other", 2), ("other", 3)]


def test_only_current_versions_are_shown(lake: Lake) -> None:
    make(lake, "instructions/pool", code="2", pool=[7])
    rebuild_views(lake)
    assert views(lake) == ["instructions_pool"]
    assert query(lake, "SELECT n FROM instructions_pool") == [(7,)]


def test_rebuilding_leaves_nothing_else_behind(lake: Lake) -> None:
    before = {path.name for path in lake.root.iterdir()}
    rebuild_views(lake)
    rebuild_views(lake)
    assert {path.name for path in lake.root.iterdir()} == before | {"g2is.duckdb"}


@pytest.mark.parametrize("name", ["it's a lake", "lake \"quoted\" 'twice'", "lake [1]", "n=1"])
def test_a_lake_may_lie_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    lake = Lake(tmp_path / name)
    make(lake, "instructions/pool", pool=[1, 2])
    rebuild_views(lake)
    assert query(lake, "SELECT n FROM instructions_pool ORDER BY n") == [(1,), (2,)]


def test_a_lake_without_versions_has_no_views(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    rebuild_views(lake)
    assert views(lake) == []


def test_what_other_processes_write_and_remove_meanwhile_is_no_matter(lake: Lake) -> None:
    others, done = lake.root / ".writing-other", threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            others.mkdir()
            others.rmdir()

    other_process = threading.Thread(target=come_and_go)
    other_process.start()
    try:
        for _ in range(30):
            rebuild_views(lake)
    finally:
        done.set()
        other_process.join()
    assert views(lake) == ["instructions_pool", "instructions_pool_rejected"]


def break_manifest(version: Version) -> None:
    (version.folder / "manifest.json").write_text("{")


def break_pointer(version: Version) -> None:
    (version.folder.parent / "current.json").write_text("{")


def remove_table(version: Version) -> None:
    (version.folder / "subset.parquet").unlink()


def truncate_table(version: Version) -> None:
    file = version.folder / "subset.parquet"
    file.write_bytes(file.read_bytes()[:-9])


@pytest.mark.parametrize("damage", [break_manifest, break_pointer, remove_table, truncate_table])
def test_a_damaged_version_is_left_out_with_a_warning(
    lake: Lake, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    make(lake, "selection/subset", "shop", subset=[1])
    damage(make(lake, "selection/subset", "other", subset=[2]))
    with caplog.at_level(logging.WARNING):
        rebuild_views(lake)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "left out of the views" in warnings[0]
    assert "other" in warnings[0]
    assert query(lake, "SELECT n FROM selection_subset") == [(1,)]
    assert query(lake, "SELECT count(*) FROM instructions_pool") == [(3,)]


def test_the_database_is_replaced_while_another_connection_reads_the_old_one(lake: Lake) -> None:
    file = str(rebuild_views(lake))
    reader = duckdb.connect(file, read_only=True)
    try:
        assert reader.execute("SELECT count(*) FROM instructions_pool").fetchall() == [(3,)]
        make(lake, "instructions/pool", code="2", pool=[7])
        rebuild_views(lake)
        assert reader.execute("SELECT count(*) FROM instructions_pool").fetchall() == [(3,)]
    finally:
        reader.close()
    assert query(lake, "SELECT n FROM instructions_pool") == [(7,)]


ONES = [1.0] * 4


def make_gradients(lake: Lake, rows: dict[str, list[float]], partition: str | None = None) -> Version:
    """A version of gradients with these vectors, whose shards no other has."""
    settings = {"kinds": ["sgd"], "sketch_dim": len(next(iter(rows.values()))), "bits": 8, "of": partition}

    def compute(batches: Iterable[list[str]]) -> Iterator[Vectors]:
        for ids in batches:
            features = np.array([rows[row_id] for row_id in ids], dtype=np.float32)
            yield Vectors(ids, [2] * len(ids), np.ones(len(ids), dtype=np.float32), {"sgd": features})

    def write(draft: Draft) -> None:
        lengths = dict.fromkeys(rows, 2)
        write_index(
            draft, VectorStore(lake, settings).fill(lengths, lambda n: [list(range(len(n)))], compute, 9, "run")
        )

    return lake.make(Recipe("gradients/target" if partition else "gradients/pool", partition, "1", {}), "run", write)[0]


def test_vectors_of_the_current_index_are_a_view(lake: Lake) -> None:
    make_gradients(lake, {"a": ONES, "b": ONES})
    make_gradients(lake, {"c": ONES}, "shop")
    make_gradients(lake, {"d": ONES}, "other")
    rebuild_views(lake)
    assert {"gradients_pool_index", "gradients_pool_vectors", "gradients_target_vectors"} <= set(views(lake))
    rows = query(lake, "SELECT row_id, codes_sgd, norm_sgd FROM gradients_pool_vectors ORDER BY row_id")
    assert rows == [("a", bytes([127] * 4), 2.0), ("b", bytes([127] * 4), 2.0)]
    assert query(lake, "SELECT row_id FROM gradients_target_vectors ORDER BY 1") == [("c",), ("d",)]


def test_a_damaged_gradient_index_does_not_hide_the_other_tables(lake: Lake) -> None:
    (make_gradients(lake, {"a": ONES}).folder / "index.parquet").unlink()
    rebuild_views(lake)
    assert query(lake, "SELECT count(*) FROM instructions_pool") == [(3,)]


def test_a_missing_shard_does_not_hide_the_other_tables(lake: Lake) -> None:
    make_gradients(lake, {"a": ONES})
    (shard,) = lake.place("vectors/shard").glob("*/*/vectors.parquet")
    shard.unlink()
    rebuild_views(lake)
    assert query(lake, "SELECT count(*) FROM instructions_pool") == [(3,)]


def test_domains_whose_vectors_are_of_different_stores_do_not_hide_each_other(lake: Lake) -> None:
    make_gradients(lake, {"a": ONES}, "shop")
    make_gradients(lake, {"b": ONES * 2}, "other")
    rebuild_views(lake)
    lengths = query(lake, "SELECT row_id, octet_length(codes_sgd) FROM gradients_target_vectors ORDER BY 1")
    assert lengths == [("a", 4), ("b", 8)]
