"""The walk against its definition: a brute-force walk in float64, hand-worked problems and invariants."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from g2is_assets.core.codes import quantise
from g2is_assets.core.walk import gradient_walk
from support.walks import (
    EAST,
    MARGIN,
    OPTIONS,
    PLANE,
    Problem,
    arrays,
    bounded,
    brute_force,
    pairs,
    problems,
    units,
    walk_of,
)

# --- against the definition ---------------------------------------------------------------------------------------


@given(problem=problems())
@bounded
def test_the_reference_walk_is_the_brute_force_walk(problem: Problem):
    expected, margin, _ = brute_force(problem)
    assume(margin > MARGIN)
    assert pairs(walk_of(problem)) == expected


@pytest.mark.parametrize(
    "options", OPTIONS, ids=lambda options: "+".join(f"{key}={value}" for key, value in options.items())
)
@given(problem=problems())
@settings(bounded, max_examples=30)
def test_every_option_of_g2is_is_the_brute_force_walk_with_that_option(options: dict[str, Any], problem: Problem):
    expected, margin, stands_by = brute_force(problem, **options)
    assume(margin > MARGIN)
    walk = walk_of(problem, method="g2is", **options)
    assert pairs(walk) == expected
    np.testing.assert_allclose(walk.margin, stands_by, atol=1e-6)


def test_every_option_changes_some_walk():
    rng = np.random.default_rng(2)
    problem = Problem(quantise(rng.normal(size=(60, 6)) + 0.3), rng.normal(size=(3, 6)), [12, 12, 2], 0.95)
    walks = [pairs(walk_of(problem, method="g2is", **options)) for options in OPTIONS]
    assert all(walk != other for i, walk in enumerate(walks) for other in walks[:i])


def test_a_larger_pool_of_which_most_rows_drop_out_is_the_brute_force_walk():
    rng = np.random.default_rng(5)
    problem = Problem(quantise(rng.normal(size=(150, 10))), rng.normal(size=(3, 10)), [20, 20, 20], 0.5)
    expected, margin, _ = brute_force(problem)
    assert margin > MARGIN
    assert len(expected) < 60, "the problem should end short, so that the arrays shrink on the way"
    assert pairs(walk_of(problem)) == expected


def test_the_walk_goes_from_the_anchor_along_coherence_and_leaves_conflicts_out():
    walk = gradient_walk(PLANE, EAST, [4])
    assert walk.rows.tolist() == [2, 3, 1]
    assert walk.step.tolist() == [0, 1, 2]
    assert walk.predecessor.tolist() == [-1, 2, 3]
    assert walk.min_cosine_row.tolist() == [-1, 2, 2]
    np.testing.assert_allclose(walk.predecessor_cosine, [np.nan, 0.8, 0.96], atol=1e-6)
    np.testing.assert_allclose(walk.min_cosine, [np.nan, 0.8, 0.6], atol=1e-6)
    np.testing.assert_allclose(walk.core_cosine, [1.0, 0.8, 0.6], atol=1e-6)
    # Sums: (1, 0), (1.8, 0.6), (2.4, 1.4).
    sums = [1.0, 1.8 / np.hypot(1.8, 0.6), 2.4 / np.hypot(2.4, 1.4)]
    np.testing.assert_allclose(walk.consistency, sums, atol=1e-6)
    np.testing.assert_allclose(walk.consistency_before, [np.nan, *sums[:2]], atol=1e-6)


@pytest.mark.parametrize(
    ("delta", "consistency", "rows"),
    [
        (0.94, "previous", [2, 3]),  # the ratios of the sums above are .9487 and .9105
        (0.95, "previous", [2]),
        (0.90, "previous", [2, 3, 1]),
        (0.90, "anchor", [2, 3]),  # .8638 of the anchor's 1
        (0.90, "best", [2, 3]),
        (0.86, "anchor", [2, 3, 1]),
    ],
)
def test_consistency_is_measured_against_the_value_that_is_named(delta: float, consistency: Any, rows: list[int]):
    assert gradient_walk(PLANE, EAST, [4], delta=delta, method="g2is", consistency=consistency).rows.tolist() == rows


def test_the_sign_of_a_component_decides_the_anchor():
    assert gradient_walk(PLANE, EAST, [1]).rows.tolist() == [2]
    assert gradient_walk(PLANE, -EAST, [1]).rows.tolist() == [0]


def test_a_component_ends_short_when_every_row_left_conflicts():
    walk = gradient_walk([[1, 0], [-3, 4], [-3, -4]], EAST, [3])
    assert walk.rows.tolist() == [0]


def test_a_row_left_out_for_conflict_is_free_again_for_the_next_component():
    walk = gradient_walk([[10, 1], [-10, 1]], [[1.0, 0.0], [-1.0, 0.0]], [2, 2])
    assert pairs(walk) == [(0, 0), (1, 1)]
    across = gradient_walk([[10, 1], [-10, 1]], [[1.0, 0.0], [-1.0, 0.0]], [2, 2], method="g2is", conflicts_across=True)
    assert pairs(across) == [(0, 0)]


def test_the_floor_holds_for_the_anchor_too():
    assert gradient_walk(PLANE, EAST, [4], method="g2is", min_core_cosine=0.7).rows.tolist() == [2, 3]
    assert len(gradient_walk(-PLANE[2:], EAST, [4], method="g2is", min_core_cosine=0.0).rows) == 0


def test_a_component_with_budget_zero_is_skipped():
    walk = gradient_walk(PLANE, [[1.0, 0.0], [0.0, 1.0]], [0, 1])
    assert pairs(walk) == [(1, 1)]


def test_no_budget_at_all_takes_no_row_and_keeps_the_types():
    walk = gradient_walk(PLANE, EAST, [0])
    assert [array.shape for array in arrays(walk)] == [(0,)] * 17
    assert (walk.ended, walk.refusals) == (["no budget"], [None])
    assert (walk.rows.dtype, walk.consistency.dtype) == (np.int64, np.float64)


def test_the_walk_ends_when_no_row_is_free():
    walk = gradient_walk(np.eye(2), [[1.0, 0.5], [1.0, 0.5], [1.0, 0.5]], [1, 5, 5], delta=0.0)
    assert pairs(walk) == [(0, 0), (1, 1)]


def test_a_row_of_zeros_has_cosine_zero_with_everything():
    walk = gradient_walk([[0, 0], [-5, 1], [4, 3]], EAST, [3])
    # Row 2 is the anchor; row 1 conflicts; the zero row neither conflicts nor moves the sum.
    assert walk.rows.tolist() == [2, 0]
    assert walk.core_cosine[1] == 0.0
    assert walk.consistency[1] == pytest.approx(0.8, abs=1e-6)


def test_a_pool_of_zeros_is_taken_in_the_order_of_its_rows():
    assert gradient_walk(np.zeros((4, 3)), [[1.0, 0.0, 0.0]], [3]).rows.tolist() == [0, 1, 2]


def test_a_row_whose_norm_is_at_most_1e_10_counts_as_zero():
    walk = gradient_walk([[1e-11, 0.0], [0.6, 0.8]], EAST, [1])
    assert walk.rows.tolist() == [1]


def test_equal_rows_go_to_the_lower_index():
    walk = gradient_walk([[0, 1], [3, 4], [1, 0], [3, 4], [1, 0]], EAST, [4])
    assert walk.rows.tolist() == [2, 4, 1, 3]


# --- invariants ---------------------------------------------------------------------------------------------------


@given(problem=problems(), options=st.sampled_from(OPTIONS))
@bounded
def test_no_row_is_taken_twice_and_no_budget_is_exceeded(problem: Problem, options: dict[str, Any]):
    walk = walk_of(problem, method="g2is", **options)
    assert len(set(walk.rows.tolist())) == len(walk.rows)
    if options.get("reallocate"):
        assert len(walk.rows) <= sum(problem.budgets)
    else:
        assert (np.bincount(walk.component, minlength=len(problem.budgets)) <= problem.budgets).all()
        assert (np.diff(walk.component) >= 0).all()


@given(problem=problems())
@bounded
def test_no_two_rows_of_a_component_conflict_and_consistency_holds_at_every_step(problem: Problem):
    walk = walk_of(problem)
    rows = units(problem.features)
    for component in np.unique(walk.component):
        mine = rows[walk.rows[walk.component == component]]
        worst = (mine @ mine.T).min()
        assert worst > -MARGIN, f"cosine {worst} within component {component}"
    later = walk.step > 0
    assert (walk.consistency[later] >= problem.delta * walk.consistency_before[later] - MARGIN).all()
    assert (walk.min_cosine[later] >= 0).all()


@given(problem=problems(mean=0.3), seed=st.integers(0, 1000))
@bounded
def test_the_order_of_the_pool_does_not_matter(problem: Problem, seed: int):
    assume(brute_force(problem)[1] > MARGIN)
    order = np.random.default_rng(seed).permutation(len(problem.features))
    shuffled = gradient_walk(problem.features[order], problem.components, problem.budgets, delta=problem.delta)
    assert order[shuffled.rows].tolist() == walk_of(problem).rows.tolist()


@given(problem=problems(mean=0.3), seed=st.integers(0, 1000))
@bounded
def test_positive_factors_on_rows_and_components_do_not_matter(problem: Problem, seed: int):
    assume(brute_force(problem)[1] > MARGIN)
    rng = np.random.default_rng(seed)
    rows = problem.features * rng.uniform(0.1, 10, size=(len(problem.features), 1))
    cores = problem.components * rng.uniform(0.1, 10, size=(len(problem.components), 1))
    scaled = gradient_walk(rows, cores, problem.budgets, delta=problem.delta)
    assert scaled.rows.tolist() == walk_of(problem).rows.tolist()


# --- refusals -----------------------------------------------------------------------------------------------------

NAN_ROW = np.array([[np.nan, 1.0]])


@pytest.mark.parametrize(
    ("features", "components", "budgets"),
    [
        (PLANE[0], EAST, [1]),
        (PLANE, EAST[0], [1]),
        (PLANE, np.ones((1, 3)), [1]),
        (PLANE, EAST, [1, 1]),
        (PLANE, EAST, [-1]),
        (NAN_ROW, EAST, [1]),
        (PLANE, NAN_ROW, [1]),
        (np.array([[np.inf, 0.0]]), EAST, [1]),
    ],
)
def test_input_that_does_not_fit_or_is_not_finite_is_refused(features: Any, components: Any, budgets: list[int]):
    with pytest.raises(ValueError, match=r"do not fit|not finite|must be whole"):
        gradient_walk(features, components, budgets)


@pytest.mark.parametrize(
    "options", [{"delta": -0.1}, {"delta": 1.1}, {"delta": np.nan}, {"method": "paper"}, {"consistency": "mean"}]
)
def test_a_setting_out_of_bounds_or_unknown_is_refused(options: dict[str, Any]):
    with pytest.raises(ValueError, match="unknown method"):
        gradient_walk(PLANE, EAST, [1], **options)


@pytest.mark.parametrize("options", [{"consistency": "best"}, {"no_conflict": False}, {"conflicts_across": True}])
def test_the_reference_takes_no_option_but_delta(options: dict[str, Any]):
    with pytest.raises(ValueError, match="no options but delta"):
        gradient_walk(PLANE, EAST, [1], method="reference", **options)
