"""The walk against its definition: a brute-force walk in float64, hand-worked problems and invariants."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from g2is_assets.core import rivals
from g2is_assets.core.codes import quantise
from g2is_assets.core.features import ArrayFeatures
from g2is_assets.core.knowledge import allocate_budgets
from g2is_assets.core.rows import real_rows
from g2is_assets.core.walk import AT_A_TIME, gradient_walk
from g2is_assets.core.walk_state import CodedRows, Walk

MARGIN = 1e-6
"""Problems in which a decision of the definition is closer than this are not drawn: float32 may decide otherwise."""

bounded = settings(max_examples=50, deadline=None, derandomize=True)

OPTIONS: list[dict[str, Any]] = [
    {"consistency": "previous"},
    {"consistency": "best"},
    {"consistency": "anchor"},
    {"min_core_cosine": 0.1},
    {"no_conflict": False},
    {"conflicts_across": True},
    {"consistency": "best", "min_core_cosine": -0.1, "conflicts_across": True},
    {"reallocate": True},
    {"reallocate": True, "consistency": "anchor", "conflicts_across": True},
]


@dataclass(frozen=True)
class Problem:
    features: np.ndarray
    components: np.ndarray
    budgets: list[int]
    delta: float


@st.composite
def problems(draw: st.DrawFn, mean: float | None = None) -> Problem:
    """Continuous random rows with a shared mean (the larger, the fewer conflicts) and any norms."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d, c = rng.integers(1, 41), rng.integers(2, 13), rng.integers(1, 5)
    shift = mean if mean is not None else draw(st.sampled_from([0.0, 0.3, 1.0]))
    scale = rng.uniform(0.01, 100, size=(n, 1))
    return Problem(
        quantise((rng.normal(size=(n, d)) + shift) * scale),
        rng.normal(size=(c, d)).astype(np.float32),
        rng.integers(0, 13, size=c).tolist(),
        draw(st.sampled_from([0.0, 0.5, 0.8, 0.95, 1.0])),
    )


def units(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cosine(vector: np.ndarray, direction: np.ndarray) -> float:
    norms = np.linalg.norm(vector) * np.linalg.norm(direction)
    return float(vector @ direction / norms) if norms > 1e-10 else 0.0


def brute_force(
    problem: Problem,
    consistency: str = "previous",
    min_core_cosine: float | None = None,
    no_conflict: bool = True,
    conflicts_across: bool = False,
    reallocate: bool = False,
) -> tuple[list[tuple[int, int]], float, list[float]]:
    """(component, row) in the order taken, candidate by candidate; how close the closest decision was; and margins."""
    allowed_then: list[tuple[int, dict[int, float]]] = []
    rows, cores = units(problem.features), units(problem.components)
    matrix = (rows @ rows.T).tolist()
    taken: list[tuple[int, int]] = []
    margins = [np.inf]
    chosen: list[list[int]] = [[] for _ in cores]
    reached: list[list[float]] = [[] for _ in cores]

    def at_least(value: float, bound: float) -> bool:
        margins.append(abs(value - bound))
        return value >= bound

    def take_one(component: int) -> bool:
        core, own, values = cores[component], chosen[component], reached[component]
        scores: dict[int, float] = {}
        for z in set(range(len(rows))) - {row for _, row in taken}:
            to_core = cosine(rows[z], core)
            if min_core_cosine is not None and not at_least(to_core, min_core_cosine):
                continue
            rivals = [row for _, row in taken] if conflicts_across else own
            if no_conflict and not all(at_least(matrix[z][s], 0.0) for s in rivals):
                continue
            if own:
                against = {"previous": values[-1], "best": max(values), "anchor": values[0]}[consistency]
                if not at_least(abs(cosine(rows[[*own, z]].sum(axis=0), core)), problem.delta * against):
                    continue
            scores[z] = matrix[z][own[-1]] if own else to_core
        if not scores:
            return False
        best = max(scores, key=lambda z: scores[z])
        margins.extend(scores[best] - score for z, score in scores.items() if z != best)
        own.append(best)
        allowed_then.append((best, scores))
        taken.append((component, best))
        values.append(abs(cosine(rows[own].sum(axis=0), core)))
        return True

    def take(component: int, n_rows: int) -> bool:
        return all(take_one(component) for _ in range(n_rows))

    able = [take(component, budget) and budget > 0 for component, budget in enumerate(problem.budgets)]
    while reallocate and any(able) and (short := sum(problem.budgets) - len(taken)):
        numbers = [component for component, can in enumerate(able) if can]
        shares = allocate_budgets(short, [problem.budgets[component] for component in numbers])
        for component, more in zip(numbers, shares.tolist(), strict=True):
            able[component] = take(component, more)
    never = set(range(len(rows))) - {row for _, row in taken}
    stands_by = [min((then[row] - then[z] for z in then.keys() & never), default=np.nan) for row, then in allowed_then]
    return taken, min(margins), stands_by


def walk_of(problem: Problem, **options: Any) -> Walk:
    return gradient_walk(problem.features, problem.components, problem.budgets, delta=problem.delta, **options)


def pairs(walk: Walk) -> list[tuple[int, int]]:
    return list(zip(walk.component.tolist(), walk.rows.tolist(), strict=True))


def arrays(walk: Walk) -> list[np.ndarray]:
    return [getattr(walk, f.name) for f in fields(walk) if f.name not in ("ended", "refusals")]


def assert_equal(first: Walk, second: Walk) -> None:
    """The same rows for the same reasons, bit for bit."""
    for one, other in zip(arrays(first), arrays(second), strict=True):
        np.testing.assert_array_equal(one, other)
    assert first.ended == second.ended


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


def test_where_few_rivals_can_be_held_a_margin_is_at_least_what_is_recorded(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(3)
    problem = Problem(quantise(rng.normal(size=(90, 12)) + 0.5), rng.normal(size=(1, 12)) + 0.5, [60], 0.0)
    walk = walk_of(problem, method="g2is", no_conflict=False)
    monkeypatch.setattr(rivals, "MOST_RIVALS", 0)
    few = walk_of(problem, method="g2is", no_conflict=False)
    assert few.rows.tolist() == walk.rows.tolist()
    assert (few.margin <= walk.margin).all()
    assert (few.margin < walk.margin).any()
    assert (few.margin[-15:] == walk.margin[-15:]).all()  # as many as are held in any case


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


# --- hand-worked --------------------------------------------------------------------------------------------------

PLANE = np.array([[7, -24], [3, 4], [1, 0], [4, 3]])
"""Cosines to (1, 0): .28, .6, 1, .8; row 0 conflicts with 1 and 3; 2 - 3 - 1 is the coherent way."""
EAST = np.array([[1.0, 0.0]])


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


def test_with_conflicts_across_the_trace_names_the_nearest_row_to_conflict_of_an_earlier_component():
    features = [[1, 0, 0], [7, 24, 0]]
    walk = gradient_walk(features, [[1, 0, 0], [0, 1, 0]], [1, 1], method="g2is", conflicts_across=True)
    assert walk.min_cosine_row.tolist() == [-1, 0]
    assert walk.predecessor.tolist() == [-1, -1]
    assert walk.min_cosine[1] == pytest.approx(0.28, abs=1e-6)


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


@given(problem=problems(), options=st.sampled_from(OPTIONS))
@bounded
def test_the_trace_says_what_the_features_say(problem: Problem, options: dict[str, Any]):
    walk = walk_of(problem, method="g2is", **options)
    rows, cores = units(problem.features), units(problem.components)
    matrix = rows @ rows.T
    for component in np.unique(walk.component):
        here = np.flatnonzero(walk.component == component)
        mine = walk.rows[here].tolist()
        sums = np.abs([cosine(rows[mine[: i + 1]].sum(axis=0), cores[component]) for i in range(len(mine))])
        before = {"previous": sums, "best": np.maximum.accumulate(sums), "anchor": np.full(len(sums), sums[0])}
        expected_before = before[options.get("consistency", "previous")][:-1]
        close = {"atol": 2e-6, "rtol": 0}
        assert walk.step[here].tolist() == list(range(len(here)))
        assert walk.predecessor[here].tolist() == [-1, *mine[:-1]]
        np.testing.assert_allclose(walk.core_cosine[here], rows[mine] @ cores[component], **close)
        np.testing.assert_allclose(walk.predecessor_cosine[here], [np.nan, *matrix[mine[:-1], mine[1:]]], **close)
        np.testing.assert_allclose(walk.consistency[here], sums, atol=2e-5)
        np.testing.assert_allclose(walk.consistency_before[here], [np.nan, *expected_before], atol=2e-5)
        for i, row in enumerate(mine):
            # With unmet budget reallocated, a component goes on after later ones have taken rows.
            rivals = walk.rows[: here[i]].tolist() if options.get("conflicts_across") else mine[:i]
            rivals = rivals if options.get("no_conflict", True) else []
            low, low_row = walk.min_cosine[here[i]], walk.min_cosine_row[here[i]]
            if rivals:
                np.testing.assert_allclose([low, matrix[row, low_row]], matrix[row, rivals].min(), **close)
                assert low_row in rivals
            else:
                assert np.isnan(low)
                assert low_row == -1


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


def test_two_runs_give_the_same_trace_bit_for_bit():
    rng = np.random.default_rng(0)
    problem = Problem(quantise(rng.normal(size=(80, 16)) + 0.3), rng.normal(size=(2, 16)), [20, 20], 0.8)
    assert_equal(walk_of(problem, method="g2is"), walk_of(problem, method="g2is"))


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


# --- budgets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "weights", "budgets"),
    [
        (10, [0.5, 0.3, 0.2], [5, 3, 2]),
        (10, [0.56, 0.27, 0.17], [5, 3, 2]),  # remainders .6, .7, .7
        (7, [3, 2, 2], [3, 2, 2]),
        (5, [1, 2, 7], [1, 1, 3]),
        (1, [0.2, 0.3, 0.5], [0, 0, 1]),
        (4, [1, 0, 0], [4, 0, 0]),
        (0, [0.5, 0.5], [0, 0]),
    ],
)
def test_largest_remainders_get_the_rows_that_are_left(total: int, weights: list[float], budgets: list[int]):
    assert allocate_budgets(total, weights).tolist() == budgets


@pytest.mark.parametrize(
    ("total", "weights", "budgets"), [(1, [1, 1], [1, 0]), (3, [1] * 4, [1, 1, 1, 0]), (10, [7, 7, 6], [4, 3, 3])]
)
def test_equal_remainders_go_to_the_higher_component(total: int, weights: list[float], budgets: list[int]):
    assert allocate_budgets(total, weights).tolist() == budgets


@given(total=st.integers(0, 10_000), weights=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30))
@bounded
def test_budgets_sum_to_the_total_and_differ_from_the_exact_share_by_less_than_one(total: int, weights: list[float]):
    budgets = allocate_budgets(total, weights)
    exact = total * np.array(weights) / np.sum(weights)
    assert budgets.sum() == total
    assert (np.abs(budgets - exact) < 1 + 1e-9).all()
    order = np.argsort(-np.array(weights), kind="stable")
    assert (np.diff(budgets[order]) <= 0).all(), "a larger weight never gets fewer rows"


@pytest.mark.parametrize(
    ("total", "weights"), [(-1, [1.0]), (1, [0.0, 0.0]), (1, [-1.0, 2.0]), (1, [np.nan]), (1, [np.inf]), (1, [[1.0]])]
)
def test_a_budget_that_cannot_be_split_is_refused(total: int, weights: list[float]):
    with pytest.raises(ValueError, match="cannot split"):
        allocate_budgets(total, weights)


# --- what is known of the rows that were left ---------------------------------------------------------------------


@given(problem=problems())
@bounded
def test_every_row_left_has_its_first_conflict_as_the_definition_says(problem: Problem):
    walk = walk_of(problem, method="g2is")
    rows = units(problem.features)
    for component, seen in enumerate(walk.refusals):
        if seen is None:
            assert problem.budgets[component] == 0
            continue
        own = walk.rows[walk.component == component]
        earlier = set(walk.rows[walk.component <= component].tolist())
        for z in set(range(len(rows))) - earlier:
            cosines = rows[z] @ rows[own].T
            assume(not len(own) or np.abs(cosines).min() > MARGIN)
            conflicts = np.flatnonzero(cosines < 0)
            assert seen.conflict_step[z] == (conflicts[0] if len(conflicts) else -1)
            assert seen.conflict_row[z] == (own[conflicts[0]] if len(conflicts) else -1)
            assert (seen.rank[z] >= 1) == (len(conflicts) == 0)
            if len(conflicts):
                assert seen.conflict_cosine[z] == pytest.approx(cosines[conflicts[0]], abs=1e-6)


@given(problem=problems(), options=st.sampled_from(OPTIONS))
@bounded
def test_every_component_knows_the_cosine_of_every_row_whatever_dropped_out_before(
    problem: Problem, options: dict[str, Any]
):
    walk = walk_of(problem, method="g2is", **options)
    expected = units(problem.components) @ units(problem.features).T
    for component, seen in enumerate(walk.refusals):
        if seen is not None:
            np.testing.assert_allclose(seen.core_cosine, expected[component], atol=1e-6)


@given(problem=problems(mean=0.0))
@bounded
def test_with_conflicts_across_the_first_conflict_names_component_and_step_of_its_row(problem: Problem):
    walk = walk_of(problem, method="g2is", conflicts_across=True)
    place = {row: (c, s) for row, c, s in zip(walk.rows, walk.component, walk.step, strict=True)}
    for component, seen in enumerate(walk.refusals):
        for z in np.flatnonzero(seen.conflict_row >= 0) if seen is not None else []:
            assert (seen.conflict_component[z], seen.conflict_step[z]) == place[seen.conflict_row[z]]
            assert seen.conflict_component[z] <= component


def test_consistency_refusals_are_counted_at_every_choice():
    # From the anchor (1, 0), rows to one side pull the sum away from it; delta 1 refuses whatever lowers it.
    features = [[1, 0], [9, 4], [1, 10], [-1, 0]]
    walk = gradient_walk(features, EAST, [3], delta=1.0)
    seen = walk.refusals[0]
    assert (walk.rows.tolist(), walk.ended) == ([0], ["consistency"])
    assert (seen.n_choices, seen.n_inconsistent.tolist()) == (1, [0, 1, 1, 0])
    assert (seen.conflict_row[3], seen.conflict_cosine[3]) == (0, -1.0)


@pytest.mark.parametrize("method", ["reference", "g2is"])
def test_the_trace_says_by_how_much_a_row_won(method: Any):
    # From east: cosines to the component 1, 0.8, 0.6; then 0.8 and 0.6 to the anchor. Where all are taken, none lost.
    features = [[1, 0], [4, 3], [3, 4]]
    walk = gradient_walk(features, EAST, [3], delta=0.0, method=method)
    np.testing.assert_allclose(walk.score, [1.0, 0.8, 0.96], atol=1e-6)
    np.testing.assert_array_equal(walk.margin, np.full(3, np.nan))
    two = gradient_walk(features, EAST, [2], delta=0.0, method=method)
    np.testing.assert_allclose(two.margin, [0.4, 0.2], atol=1e-6)


def test_rows_without_conflict_are_ranked_by_coherence_when_the_budget_ends():
    features = [[1, 0], [9, 4], [1, 1], [2, 9], [-10, -1]]
    seen = gradient_walk(features, EAST, [1]).refusals[0]
    assert seen.rank.tolist() == [-1, 1, 2, 3, -1]


@pytest.mark.parametrize(
    ("features", "budget", "options", "reason"),
    [
        (np.eye(2), 1, {}, "budget"),
        (np.eye(2), 3, {"delta": 0.0}, "no free row"),
        ([[1.0, 0.1], [-1.0, 0.0]], 2, {}, "conflict"),
        ([[1.0, 0.0], [0.5, 1.0]], 2, {"delta": 1.0}, "consistency"),
        ([[1.0, 0.0], [0.1, 1.0]], 2, {"min_core_cosine": 0.5}, "core cosine"),
    ],
)
def test_a_walk_says_why_it_ended(features: Any, budget: int, options: dict[str, Any], reason: str):
    assert gradient_walk(features, EAST, [budget], method="g2is", **options).ended == [reason]


# --- the same walk whatever the memory ----------------------------------------------------------------------------


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
    rows, blocks, multiply = quantise(rng.normal(size=(200, 24)) + 1.0), [], CodedRows.products

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
