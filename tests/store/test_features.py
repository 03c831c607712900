"""Stored vectors as a source, and graph and walk as tables and back."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from g2is_assets.contracts import graph as graph_contracts
from g2is_assets.contracts import selection as contracts
from g2is_assets.core.codes import quantise
from g2is_assets.core.features import as_source
from g2is_assets.core.graph import build_graph
from g2is_assets.core.knowledge import strongest_pulls
from g2is_assets.core.walk import gradient_walk
from g2is_assets.errors import StoreError
from g2is_assets.stages.graph import STORED, graph_from_tables, graph_tables
from g2is_assets.stages.selection import count_refusals, left_table, subset_table
from g2is_assets.store.features import StoredFeatures
from g2is_assets.store.lake import Lake
from g2is_assets.store.vectors import Vectors, VectorStore
from g2is_assets.store.version import Version
from support.vectors import by_name

N, DIM = 30, 64
ROWS = np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32) + 0.1
IDS = [f"{number:02d}" for number in range(N)]


Stored = tuple[dict[str, Version], pl.DataFrame]


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """Three shards whose rows lie in no order, and their index in the order of the ids."""
    store = VectorStore(Lake(tmp_path), {"kinds": ["adam"], "sketch_dim": DIM, "bits": 8})
    parts = np.array_split(np.random.default_rng(1).permutation(N), 3)

    def compute(batches: Iterable[list[str]]) -> Iterator[Vectors]:
        for ids in batches:
            rows = ROWS[[IDS.index(row_id) for row_id in ids]]
            yield Vectors(ids, [5] * len(ids), np.zeros(len(ids), np.float32), {"adam": rows})

    filled = store.fill(dict.fromkeys(IDS, 5), lambda _: [part.tolist() for part in parts], compute, 1, "run")
    assert filled.index["row_id"].to_list() == IDS
    return by_name(filled), filled.index


def test_a_source_gives_every_row_once_in_blocks_of_one_shard(stored: Stored) -> None:
    shards, index = stored
    source = StoredFeatures(shards, index, "adam")
    assert source.shape == (N, DIM)
    numbers = [number for part, values in source.blocks() for number in part if len(values) == len(part)]
    assert sorted(numbers) == list(range(N))
    np.testing.assert_array_equal(source.array(), quantise(ROWS))


def test_single_rows_come_in_the_order_asked_for(stored: Stored) -> None:
    source = StoredFeatures(*stored, "adam")
    asked = np.array([7, 0, 29, 7, 13])
    np.testing.assert_array_equal(source.rows(asked), source.array()[asked])


def test_a_source_of_no_rows_is_refused(stored: Stored) -> None:
    shards, index = stored
    with pytest.raises(StoreError, match="no row has gradients"):
        StoredFeatures(shards, index.head(0), "adam")


def test_a_walk_from_the_store_is_the_walk_of_the_array(stored: Stored) -> None:
    source, components = StoredFeatures(*stored, "adam"), ROWS[:2]
    first = gradient_walk(source, components, [4, 4], method="g2is")
    second = gradient_walk(source.array(), components, [4, 4], method="g2is")
    assert first.rows.tolist() == second.rows.tolist()
    np.testing.assert_array_equal(first.consistency, second.consistency)


def test_a_graph_comes_back_from_its_tables() -> None:
    graph = build_graph(np.concatenate([ROWS, ROWS[:2]]), 4, 3)
    ids = [*IDS, "30", "31"]
    tables = graph_tables(graph, ids, np.arange(N + 2))
    for table, contract in zip(tables, (*STORED, graph_contracts.GROUPS), strict=True):
        contract.validate(table)
    back = graph_from_tables(*tables[:4])
    for name in (name for name in vars(graph) if name not in ("near", "far")):
        np.testing.assert_array_equal(getattr(back, name), getattr(graph, name), err_msg=name)
    for one, other in ((back.near, graph.near), (back.far, graph.far)):
        np.testing.assert_array_equal(one.others, other.others)
        np.testing.assert_array_equal(one.strengths, other.strengths)
    assert tables[3].rows() == [("00", "30", "cosine"), ("01", "31", "cosine")]


def test_equal_text_links_rows_into_one_group_with_equal_gradients() -> None:
    graph = build_graph(np.concatenate([ROWS[:3], ROWS[:1]]), 2, 1)
    # Row 3 has the gradient of row 0, row 2 the text of row 3.
    *_, duplicates, groups = graph_tables(graph, IDS[:4], np.array([0, 1, 2, 2]))
    assert groups["duplicate_group"].to_list() == ["00", "01", "00", "00"]
    assert duplicates.rows() == [("00", "03", "cosine"), ("02", "03", "text")]


def test_a_walks_tables_keep_their_contracts_and_name_rows_by_id() -> None:
    walk = gradient_walk(ROWS, ROWS[:2], [3, 0], method="g2is")
    own_ids, pulls = np.array(["v0", "v1"]), strongest_pulls(as_source(ROWS), walk.rows, ROWS[:2])
    subset, left = subset_table(walk, np.array(IDS), "shop", pulls, own_ids), left_table(walk, np.array(IDS), "shop")
    contracts.SUBSET.validate(subset)
    contracts.LEFT.validate(left)
    assert subset["row_id"].to_list() == [IDS[row] for row in walk.rows]
    assert len(left) == N - len(subset)
    assert set(left["component"]) == {0}  # the other component had no budget
    refused = left.filter(pl.col("conflict_row").is_not_null())
    assert refused["conflict_row"].is_in(subset["row_id"].implode()).all()


def left(*rows: tuple[int, float, int | None, int | None, float | None, int]) -> pl.DataFrame:
    names = ["component", "core_cosine", "conflict_component", "conflict_step", "conflict_cosine", "n_inconsistent"]
    return pl.DataFrame(rows, schema={name: contracts.LEFT.schema[name] for name in names}, orient="row")


def test_a_refusal_counts_for_the_rule_that_refused() -> None:
    table = left(
        (0, 0.5, 0, 1, -0.3, 0),  # in conflict with the second row, before the third was chosen
        (0, 0.5, 0, 2, -0.3, 0),  # in conflict with the last row only: no choice came after it
        (0, 0.5, 0, 0, -0.001, 2),  # refused by consistency too, and in conflict within the distortion
        (0, 0.5, None, None, None, 1),
        (0, 0.0, 0, 0, -0.5, 0),  # below the floor
        (1, 0.5, 0, 2, -0.5, 0),  # in conflict with a row of an earlier component
    )
    budgets = pl.DataFrame({"component": [0, 1], "n_choices": [2, 0]})
    assert count_refusals(table, budgets, 0.1, distortion=0.01) == {
        "n_candidates": 6,
        "n_refused_by_conflict": 3,
        "n_refused_within_distortion": 1,
        "n_refused_by_consistency": 2,
        "n_refused_by_core_cosine": 1,
    }
    assert count_refusals(table, budgets, None, distortion=0.01)["n_refused_by_core_cosine"] == 0
    assert count_refusals(table, budgets, 0.0, distortion=0.01)["n_refused_by_core_cosine"] == 0
