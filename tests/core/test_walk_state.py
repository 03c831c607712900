"""The same walk whatever the memory, the blocks, the threads and the order of reading; and with a mean removed."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.core.codes import quantise
from g2is_assets.core.features import ArrayFeatures
from g2is_assets.core.rows import real_rows
from g2is_assets.core.walk import AT_A_TIME, gradient_walk
from g2is_assets.core.walk_state import CodedRows
from support.walks import MARGIN, OPTIONS, Problem, assert_equal, bounded, brute_force, pairs, problems, units, walk_of


@pytest.mark.parametrize("share", [0.0, 0.3])
@given(problem=problems())
@settings(bounded, max_examples=30)
def test_a_walk_with_streamed_features_is_the_walk_in_memory_bit_for_bit(share: float, problem: Problem):
    options = {"method": "g2is", "reallocate": True}
    bound = int(share * problem.features.size)
    assert_equal(walk_of(problem, **options), walk_of(problem, memory_bytes=bound, **options))


@pytest.mark.parametrize("width", [1, 2, 7, AT_A_TIME])
@given(problem=problems(), options=st.sampled_from(OPTIONS))
@settings(bounded, max_examples=30)
def test_a_walk_by_blocks_of_likely_rows_is_the_walk_row_by_row(width: int, problem: Problem, options: dict[str, Any]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("g2is_assets.core.walk.AT_A_TIME", width)
        by_blocks = walk_of(problem, method="g2is", **options)
        patch.setattr("g2is_assets.core.walk.AT_A_TIME", 1)
        assert_equal(by_blocks, walk_of(problem, method="g2is", **options))


def test_a_block_of_likely_rows_serves_several_steps(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    rows, blocks, multiply = quantise(rng.normal(size=(64, 24)) + 1.0), [], CodedRows.products

    def counted(self: CodedRows, codes: np.ndarray) -> np.ndarray:
        blocks.append(len(codes))
        return multiply(self, codes)

    monkeypatch.setattr(CodedRows, "products", counted)
    walk = gradient_walk(rows, np.ones((1, 24)), [60], delta=0.0, method="g2is", no_conflict=False)
    assert len(walk.rows) == 60
    # Of so few rows all are looked ahead among, and without rules no guess fails.
    assert blocks == [AT_A_TIME] * 4


def test_a_walk_does_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    problem = Problem(quantise(rng.normal(size=(300, 96)) + 0.3), rng.normal(size=(2, 96)), [40, 40], 0.5)
    before, walk = torch.get_num_threads(), walk_of(problem, method="g2is")
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        assert_equal(walk_of(problem, method="g2is"), walk)
    finally:
        torch.set_num_threads(before)


def test_a_source_may_give_its_rows_in_any_order_of_blocks():
    rng = np.random.default_rng(1)
    features, components = rng.normal(size=(50, 6)).astype(np.float32) + 0.2, rng.normal(size=(2, 6))

    class Shuffled:
        shape, mean, weights = (50, 6), None, (1.0,)

        def blocks(self):
            for part in np.array_split(np.random.default_rng(2).permutation(50), 7):
                yield part, features[part]

        def rows(self, numbers):
            return features[numbers]

    assert_equal(
        gradient_walk(Shuffled(), components, [5, 5], method="g2is"),
        gradient_walk(features, components, [5, 5], method="g2is"),
    )


def test_a_mean_that_is_removed_enters_every_cosine_as_if_it_were_taken_from_the_rows():
    rng = np.random.default_rng(1)
    codes, mean = quantise(rng.normal(size=(40, 12)) + 0.5), rng.normal(size=12) / 12
    source = ArrayFeatures(codes, mean)
    centred = units(units(codes) - mean)
    np.testing.assert_allclose(real_rows(source, codes), centred, atol=1e-6)
    rows, core = CodedRows(source), rng.normal(size=(1, 12))
    np.testing.assert_allclose(rows.to_row(3, lambda n: np.arange(5)), centred @ centred[3], atol=1e-6)
    np.testing.assert_allclose(rows.towards(core), core @ centred.T, atol=1e-6)
    walk = gradient_walk(source, core, [10], delta=0.5, method="g2is")
    expected, margin, _ = brute_force(Problem(centred, core, [10], 0.5))
    assert margin > MARGIN
    assert pairs(walk) == expected


def test_a_row_at_the_mean_that_is_removed_has_no_direction():
    source = ArrayFeatures(np.array([[3, 4], [1, 0]]), np.array([0.6, 0.8]))
    assert real_rows(source, source.values)[0].tolist() == [0.0, 0.0]
    assert CodedRows(source).to_row(1, lambda n: np.arange(0)).tolist() == [0.0, pytest.approx(1.0)]
