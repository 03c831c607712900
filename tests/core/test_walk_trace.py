"""What a walk leaves: why each row was taken, by how much, and what stood against those that were not."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from g2is_assets.core import rivals
from g2is_assets.core.codes import quantise
from g2is_assets.core.walk import gradient_walk
from support.walks import (
    EAST,
    MARGIN,
    OPTIONS,
    Problem,
    bounded,
    cosine,
    problems,
    units,
    walk_of,
)


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


def test_with_conflicts_across_the_trace_names_the_nearest_row_to_conflict_of_an_earlier_component():
    features = [[1, 0, 0], [7, 24, 0]]
    walk = gradient_walk(features, [[1, 0, 0], [0, 1, 0]], [1, 1], method="g2is", conflicts_across=True)
    assert walk.min_cosine_row.tolist() == [-1, 0]
    assert walk.predecessor.tolist() == [-1, -1]
    assert walk.min_cosine[1] == pytest.approx(0.28, abs=1e-6)


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
