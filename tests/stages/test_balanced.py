"""The check of a balanced walk, on walks made for real and then falsified."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from g2is_assets.core.balance import balanced_walk
from g2is_assets.core.edges import edge_matrix
from g2is_assets.core.features import ArrayFeatures
from g2is_assets.core.graph import build_graph
from g2is_assets.core.knowledge import strongest_pulls
from g2is_assets.settings.selection import BalancedSelection
from g2is_assets.stages.evaluators import Verdict, balance_was_kept
from g2is_assets.stages.selection import left_table, subset_table

RNG = np.random.default_rng(4)
POOL = ArrayFeatures((RNG.normal(size=(80, 12)) + 0.2).astype(np.float16))
OWN = (RNG.normal(size=(5, 12)) + 0.3).astype(np.float32)
IDS = np.array([f"row{i:02d}" for i in range(80)])
NONE = BalancedSelection()
RULES = {
    "none": NONE,
    "no_conflict": BalancedSelection(no_conflict=True),
    "floor": BalancedSelection(min_core_cosine=0.3),
    "consistency": BalancedSelection(delta=0.99),
    "edges": BalancedSelection(neighbours_only=True),
}
GRAPH = build_graph(POOL, 4, 0)
EDGES = edge_matrix(np.repeat(np.arange(80), 4), GRAPH.neighbors.ravel(), GRAPH.neighbor_cosines.ravel(), 80)


def tables(rules: BalancedSelection = NONE, fair: bool = False) -> tuple[pl.DataFrame, pl.DataFrame]:
    asked = {"delta": rules.delta, "min_core_cosine": rules.min_core_cosine, "no_conflict": rules.no_conflict}
    asked |= {"edges": EDGES} if rules.neighbours_only else {}
    walk = balanced_walk(POOL, OWN, 12, fair=fair, **asked)
    own_ids = np.array([f"own{i}" for i in range(5)])
    pulls = strongest_pulls(POOL, walk.rows, OWN)
    return subset_table(walk, IDS, "d", pulls, own_ids), left_table(walk, IDS, "d")


def judge(
    subset: pl.DataFrame,
    left: pl.DataFrame,
    rules: BalancedSelection = NONE,
    redundancy: float = 0.25,
    fair: bool = False,
) -> Verdict:
    settings = rules.model_copy(update={"redundancy": redundancy, "fair": fair})
    edges = EDGES if rules.neighbours_only else None
    return balance_was_kept(subset, left, IDS.tolist(), POOL, OWN, settings, edges)


@pytest.mark.parametrize("fair", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_a_walk_as_it_was_made_passes(name: str, fair: bool) -> None:
    subset, left = tables(RULES[name], fair)
    assert len(subset) > 2
    verdict = judge(subset, left, RULES[name], fair=fair)
    assert verdict.passed, verdict.description


def other_row(subset: pl.DataFrame, left: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Another row in the place of the fourth, under the same record."""
    new, old = left["row_id"][7], subset["row_id"][3]
    return subset.with_columns(pl.col("row_id").replace(old, new)), left.with_columns(
        pl.col("row_id").replace(new, old)
    )


def other_order(subset: pl.DataFrame, left: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Two rows taken in exchanged order, under the same records."""
    swapped = subset["row_id"].to_list()
    swapped[2], swapped[5] = swapped[5], swapped[2]
    return subset.with_columns(row_id=pl.Series(swapped)), left


def other_number(subset: pl.DataFrame, left: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A redundancy that is not what the vectors say."""
    return subset.with_columns(pl.col("redundancy") + 1e-4 * (pl.col("order") == 4)), left


@pytest.mark.parametrize("rules", [NONE, RULES["edges"]], ids=["exact", "edges"])
@pytest.mark.parametrize("falsify", [other_row, other_order, other_number])
def test_a_falsified_walk_fails(
    falsify: Callable[..., tuple[pl.DataFrame, pl.DataFrame]], rules: BalancedSelection
) -> None:
    verdict = judge(*falsify(*tables(rules)), rules)
    assert not verdict.passed
    assert verdict.numbers["n_misstated"] >= 1


def test_a_walk_that_is_true_to_its_record_but_passed_over_a_better_row_fails() -> None:
    # The walk without its best row, which is then put among those left.
    subset, left = tables()
    best = IDS.tolist().index(subset["row_id"][0])
    rest = np.delete(np.arange(80), best)
    walk = balanced_walk(POOL.values[rest], OWN, 12, fair=False)
    pulls = strongest_pulls(ArrayFeatures(POOL.values[rest]), walk.rows, OWN)
    subset = subset_table(walk, IDS[rest], "d", pulls, np.array([f"own{i}" for i in range(5)]))
    left = pl.concat([left_table(walk, IDS[rest], "d"), left.head(1).with_columns(row_id=pl.lit(str(IDS[best])))])
    verdict = judge(subset, left)
    assert not verdict.passed
    assert verdict.numbers["n_misstated"] == 0
    assert verdict.numbers["n_passed_over"] >= 1


def test_a_walk_of_another_redundancy_or_fairness_fails() -> None:
    assert not judge(*tables(), redundancy=0.4).passed
    assert not judge(*tables(), fair=True).passed
    assert not judge(*tables(fair=True)).passed
    assert not judge(*tables(), RULES["edges"]).passed
