"""Features at several checkpoints, side by side: cosines are the weighted mean of those at each."""

import math
from typing import Any

import numpy as np
import pytest

from g2is_assets.core.balance import balanced_walk
from g2is_assets.core.codes import quantise
from g2is_assets.core.features import ArrayFeatures, ChosenFeatures, FeatureSource, FoldedFeatures, JoinedFeatures
from g2is_assets.core.graph import build_graph, count_negative
from g2is_assets.core.knowledge import core_knowledge
from g2is_assets.core.problem import Problem
from g2is_assets.core.rows import cosines_to, real_rows, sum_of, terms_of
from g2is_assets.core.selectors import SELECTORS
from g2is_assets.core.walk import gradient_walk
from g2is_assets.core.walk_state import CodedRows, FloatRows

N, DIM, RATES = 60, 24, (2e-5, 1.5e-5, 5e-6)


def at_checkpoints(seed: int = 0, n: int = N) -> list[np.ndarray]:
    """Codes of the same rows at three checkpoints: alike, and of lengths that differ from row to row."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(n, DIM)) + 0.4
    return [quantise(first + step * rng.normal(size=(n, DIM)), 4 if step else 8) for step in (0.0, 0.5, 1.0)]


def joined(codes: list[np.ndarray], mean: np.ndarray | None = None) -> JoinedFeatures:
    return JoinedFeatures([ArrayFeatures(part) for part in codes], RATES, mean)


def summed(codes: list[np.ndarray], others: list[np.ndarray]) -> np.ndarray:
    """LESS: of every pair the sum over checkpoints of rate times cosine, over the sum of rates."""
    total = np.zeros((len(codes[0]), len(others[0])))
    for rate, rows, columns in zip(RATES, codes, others, strict=True):
        for i, row in enumerate(rows.astype(float)):
            for j, column in enumerate(columns.astype(float)):
                total[i, j] += rate * (row @ column) / math.sqrt((row @ row) * (column @ column))
    return total / sum(RATES)


def test_a_sum_worked_by_hand() -> None:
    first, second = np.array([[3, 4], [5, 0]], dtype=np.int8), np.array([[0, 7], [6, 8]], dtype=np.int8)
    source = JoinedFeatures([ArrayFeatures(first), ArrayFeatures(second)], [3.0, 1.0])
    # 0.75 * 0.6 + 0.25 * 0.8
    assert CodedRows(source).to_row(0, lambda _: np.arange(0)).tolist() == pytest.approx([1.0, 0.65], abs=1e-15)


@pytest.mark.parametrize("kind", [CodedRows, FloatRows])
def test_cosines_of_rows_are_the_weighted_means_of_those_at_each_checkpoint(kind: Any) -> None:
    codes = at_checkpoints()
    rows, expected = kind(joined(codes)), summed(codes, codes)
    bound = 1e-14 if kind is CodedRows else 1e-6
    for number in range(N):
        np.testing.assert_allclose(rows.to_row(number, lambda _: np.arange(9)), expected[number], atol=bound)
    dense = real_rows(rows.source, rows.source.rows(np.arange(N)))
    np.testing.assert_allclose(dense @ dense.T, expected, atol=1e-6)


def test_cosines_to_a_domain_are_those_of_less() -> None:
    codes, own = at_checkpoints(), at_checkpoints(1, 5)
    target = real_rows(joined(own), joined(own).rows(np.arange(5)))
    np.testing.assert_allclose(np.linalg.norm(target, axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(cosines_to(joined(codes), target), summed(codes, own), atol=1e-6)
    problem = Problem(
        "d", [f"r{i}" for i in range(N)], np.ones(N, dtype=int), np.arange(N), 7, gradients={"adam": joined(codes)},
        target=target.astype(np.float32), sub_tasks=["a", "a", "b", "b", "b"],
    )  # fmt: skip
    score = summed(codes, own)
    best = np.stack([score[:, :2].mean(axis=1), score[:, 2:].mean(axis=1)]).max(axis=0)
    assert SELECTORS["less"].select(problem).rows.tolist() == np.argsort(-best)[:7].tolist()


def test_the_graph_is_that_of_the_weighted_means() -> None:
    codes = at_checkpoints()
    graph, cosines = build_graph(joined(codes), 4, 2, block_rows=16), summed(codes, codes)
    np.fill_diagonal(cosines, np.nan)
    order = np.argsort(-np.nan_to_num(cosines, nan=-2.0), axis=1)
    np.testing.assert_array_equal(graph.neighbors, order[:, :4])
    np.testing.assert_allclose(graph.mean_cosine, np.nanmean(cosines, axis=1), atol=1e-6)
    np.testing.assert_array_equal(graph.n_negative, (cosines < 0).sum(axis=1))
    some = [part[:9] for part in codes]
    np.fill_diagonal(cosines, 1.0)
    np.testing.assert_array_equal(count_negative(joined(codes), joined(some)), (cosines[:, :9] < 0).sum(axis=1))


@pytest.mark.parametrize("removed", [False, True])
def test_walks_take_the_rows_of_a_walk_over_the_weighted_means(removed: bool) -> None:
    codes, own = at_checkpoints(), at_checkpoints(1, 5)
    source = joined(codes)
    if removed:
        source = joined(codes, sum_of(source) / N)
    dense, target = real_rows(source, source.rows(np.arange(N))), real_rows(joined(own), joined(own).rows(np.arange(5)))
    cosines, score = dense @ dense.T, dense @ target.mean(axis=0)
    taken: list[int] = []
    for _ in range(9):
        redundancy = cosines[:, taken].sum(axis=1) * 0.25 / (len(taken) + 1)
        taken.append(int(np.argmax(np.where(np.isin(np.arange(N), taken), -np.inf, score - redundancy))))
    assert balanced_walk(source, target, 9, fair=False).rows.tolist() == taken
    components = core_knowledge(target, n_components=1).components
    anchor = int(np.argmax(dense @ components[0]))
    second = np.where(np.arange(N) == anchor, -np.inf, cosines[anchor])
    walk = gradient_walk(source, components, [2], delta=0.0, method="g2is", no_conflict=False)
    assert walk.rows.tolist() == [anchor, int(np.argmax(second))]


@pytest.mark.parametrize("fair", [False, True])
def test_streamed_in_blocks_or_in_memory_the_walk_is_the_same(fair: bool) -> None:
    codes, target = at_checkpoints(), np.random.default_rng(3).normal(size=(4, 3 * DIM))
    walks = [balanced_walk(joined(codes), target, 12, fair=fair, memory_bytes=most) for most in (None, 1)]
    np.testing.assert_array_equal(walks[0].rows, walks[1].rows)
    np.testing.assert_array_equal(walks[0].score, walks[1].score)


def test_one_checkpoint_is_the_plain_source_to_the_bit() -> None:
    codes = at_checkpoints()[0]
    sources: list[FeatureSource] = [ArrayFeatures(codes), JoinedFeatures([ArrayFeatures(codes)], [7e-5])]
    target = np.random.default_rng(3).normal(size=(4, DIM))
    first, second = (balanced_walk(source, target, 12) for source in sources)
    np.testing.assert_array_equal(first.score, second.score)
    np.testing.assert_array_equal(*(build_graph(source, 3, 1).neighbor_cosines for source in sources))


def test_chosen_and_folded_rows_keep_their_checkpoints_apart() -> None:
    codes = at_checkpoints()
    folded = [ArrayFeatures(quantise(FoldedFeatures(ArrayFeatures(part), 8).rows(np.arange(N)))) for part in codes]
    expected = JoinedFeatures(folded, RATES)
    found = FoldedFeatures(joined(codes), 8)
    np.testing.assert_array_equal(CodedRows(found).matrix, CodedRows(expected).matrix)
    some = ChosenFeatures(found, np.array([3, 8, 21]))
    np.testing.assert_array_equal(terms_of(some).inverse, terms_of(expected).inverse[:, [3, 8, 21]])


def test_of_a_row_that_is_zero_at_a_checkpoint_the_others_count_for_all() -> None:
    codes = at_checkpoints()
    codes[1][4] = 0
    source = joined(codes)
    assert terms_of(source).alive.all()
    assert CodedRows(source).to_row(4, lambda _: np.arange(0))[4] == pytest.approx(1.0, abs=1e-15)
    assert np.linalg.norm(real_rows(source, source.rows(np.array([4])))) == pytest.approx(1.0)
    for part in codes:
        part[5] = 0
    assert not terms_of(joined(codes)).alive[5]
