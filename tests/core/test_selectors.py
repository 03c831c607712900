"""Every selector on one small problem whose answers were worked by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from g2is_assets.core.balance import balanced_walk
from g2is_assets.core.codes import quantise
from g2is_assets.core.features import ArrayFeatures, ChosenFeatures, FoldedFeatures, JoinedFeatures
from g2is_assets.core.knowledge import allocate_budgets, core_knowledge
from g2is_assets.core.problem import Problem
from g2is_assets.core.sampling import hash_sample
from g2is_assets.core.selectors import SELECTORS
from g2is_assets.core.walk import gradient_walk
from g2is_assets.core.walk_state import CodedRows

# Two validation rows, east and north; row 3 is not eligible, though it is the best of all.
EAST_AND_NORTH = np.eye(2, dtype=np.float32)
KINDS = ("adam", "adam_without_momentum")
POOL = [[1, 0], [2, 0], [3, 4], [1, 1], [0, 3], [-1, 0]]
HAND = Problem(
    domain="compass",
    row_ids=[f"row{i}" for i in range(6)],
    n_response_tokens=np.array([5, 9, 9, 99, 2, 7]),
    eligible=np.array([0, 1, 2, 4, 5]),
    budget=3,
    gradients={kind: ArrayFeatures(POOL) for kind in KINDS} | {"sgd/mean_removed": ArrayFeatures(-np.array(POOL))},
    target=EAST_AND_NORTH,
    embeddings=ArrayFeatures(np.array(POOL)[::-1]),
    target_embeddings=EAST_AND_NORTH,
)


def rows(name: str, problem: Problem = HAND) -> list[int]:
    return SELECTORS[name].select(problem).rows.tolist()


def random_problem(n: int = 60, budget: int = 12, **options: Any) -> Problem:
    rng = np.random.default_rng(7)
    tokens, eligible = rng.integers(1, 100, size=n), np.flatnonzero(rng.random(n) < 0.8)
    features = ArrayFeatures(quantise(rng.normal(size=(n, 8)) + 0.2))
    return Problem(
        domain="noise",
        row_ids=[f"r{i}" for i in range(n)],
        n_response_tokens=tokens,
        eligible=eligible,
        budget=budget,
        gradients=dict.fromkeys(KINDS, features),
        target=(rng.normal(size=(6, 8)) + 0.3).astype(np.float32),
        embeddings=ArrayFeatures(rng.normal(size=(n, 5)).astype(np.float32)),
        target_embeddings=rng.normal(size=(6, 5)).astype(np.float32),
        options=options,
    )


def test_random_rows_are_those_that_the_baseline_draws():
    ids = [HAND.row_ids[row] for row in HAND.eligible]
    expected = hash_sample(ids, 3, salt="baseline/compass/4")
    assert [HAND.row_ids[row] for row in rows("random", replace(HAND, seed=4))] == expected
    draws = {tuple(rows("random", replace(HAND, seed=seed))) for seed in range(5)}
    assert len(draws) > 1


def test_full_takes_every_eligible_row_whatever_the_budget():
    assert rows("full") == [0, 1, 2, 4, 5]


def test_length_takes_the_longest_responses_and_of_equals_the_lower_row():
    selection = SELECTORS["length"].select(HAND)
    assert selection.rows.tolist() == [1, 2, 5]
    assert selection.scores.tolist() == [9, 9, 7]


def test_less_takes_the_largest_mean_cosine():
    # Means of the two cosines: 0.5, 0.5, 0.7, -, 0.5, -0.5.
    selection = SELECTORS["less"].select(HAND)
    assert selection.rows.tolist() == [2, 0, 1]
    np.testing.assert_allclose(selection.scores, [0.7, 0.5, 0.5], atol=1e-6)


def test_by_length_a_long_response_pulls_more():
    # Pulls 0.5, 0.5, 0.7, 0.5, -0.5 of rows 0, 1, 2, 4, 5, times the roots of 5, 9, 9, 2, 7 over the median, 7.
    selection = SELECTORS["g2is_by_length"].select(replace(HAND, options={"redundancy": 0.0, "fair": False}))
    assert selection.rows.tolist() == [2, 1, 0]
    expected = [0.7 * np.sqrt(9 / 7), 0.5 * np.sqrt(9 / 7), 0.5 * np.sqrt(5 / 7)]
    np.testing.assert_allclose(selection.scores, expected, atol=1e-6)


def test_with_equal_lengths_by_length_is_the_balanced_walk():
    problem = replace(random_problem(), n_response_tokens=np.full(60, 30))
    one, other = SELECTORS["g2is_by_length"].select(problem), SELECTORS["g2is"].select(problem)
    assert one.rows.tolist() == other.rows.tolist()
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_less_takes_the_nearest_of_named_sub_tasks():
    # The larger of the two cosines: 1, 1, 0.8, -, 1, 0.
    selection = SELECTORS["less"].select(replace(HAND, sub_tasks=["east", "north"]))
    assert selection.rows.tolist() == [0, 1, 4]
    assert rows("less", replace(HAND, sub_tasks=["same", "same"])) == rows("less")


def test_bids_takes_what_lifts_the_least_served_validation_row_most():
    # Standardised cosines to east 0.90, 0.90, 0.37, -, -0.42, -1.75 and to north -0.81, -0.81, 0.99, -, 1.44, -0.81.
    # Row 4 is first; above its own (-0.42, 1.44) row 0 stands by 1.33; above the mean of the two, (0.24, 0.31), row 2
    # by 0.67 and row 1 by 0.66.
    selection = SELECTORS["bids"].select(HAND)
    assert selection.rows.tolist() == [4, 0, 2]
    np.testing.assert_allclose(selection.scores, [1.437, 1.325, 0.673], atol=2e-3)


def test_gist_counts_only_what_lies_in_the_span_of_the_domains_gradients():
    # East and north in space: what a row has upwards does not count. Cosines to their mean: 0.71, 0.71, 0.99, -, 0.71.
    aside = np.column_stack([POOL, [9, 0, 50, 0, 0, 0]])
    spatial = replace(HAND, gradients={"adam": ArrayFeatures(aside)}, target=np.eye(2, 3, dtype=np.float32))
    selection = SELECTORS["gist"].select(spatial)
    assert selection.rows.tolist() == [2, 0, 1]
    np.testing.assert_allclose(selection.scores, [0.99, 0.707, 0.707], atol=2e-3)
    assert rows("less", spatial) == [1, 4, 2]
    assert rows("gist", replace(spatial, sub_tasks=["east", "north"])) == [0, 1, 4]


def test_less_and_gist_are_those_of_an_independent_reimplementation_over_checkpoints_and_sub_tasks():
    rng, weights = np.random.default_rng(3), [3e-5, 2e-5, 1e-5, 5e-6]
    pool = [quantise(rng.normal(size=(60, 16)) + 0.2) for _ in weights]
    own = [rng.normal(size=(9, 16)) + 0.2 for _ in weights]
    tasks = ["a", "b", "a", "c", "b", "c", "a", "b", "c"]
    shares = np.array(weights) / sum(weights)
    less, gist = np.zeros((60, 9)), np.zeros((60, 3))
    for share, train, validation in zip(shares, pool, own, strict=True):
        train = train / np.linalg.norm(train, axis=1, keepdims=True)
        validation = validation / np.linalg.norm(validation, axis=1, keepdims=True)
        less += share * train @ validation.T
        _, lengths, directions = np.linalg.svd(validation)
        span = directions[: 1 + sum(np.cumsum(lengths**2) < 0.99 * sum(lengths**2))].T
        inside = train @ span / np.linalg.norm(train @ span, axis=1, keepdims=True)
        for number, task in enumerate("abc"):
            mean = validation[[name == task for name in tasks]].mean(axis=0) @ span
            gist[:, number] += share * inside @ mean / np.linalg.norm(mean)
    means = np.stack([less[:, [name == task for name in tasks]].mean(axis=1) for task in "abc"], axis=1)
    joined = JoinedFeatures([ArrayFeatures(part) for part in pool], weights)
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in own]
    problem = replace(
        random_problem(),
        gradients={"adam": joined},
        target=np.concatenate([np.sqrt(share) * part for share, part in zip(shares, unit, strict=True)], axis=1),
        sub_tasks=tasks,
    )
    for name, scores in (("less", means.max(axis=1)), ("gist", gist.max(axis=1))):
        best = problem.eligible[np.argsort(-scores[problem.eligible], kind="stable")[:12]]
        assert rows(name, problem) == best.tolist()


def test_in_turn_each_validation_row_takes_its_nearest_free_row():
    # East takes row 0, north row 4, east row 1, north row 2.
    assert rows("less_round_robin", replace(HAND, budget=4)) == [0, 4, 1, 2]
    # East's list is 0, 1, 2; once north has taken row 2, east goes on with row 5 at the end.
    assert rows("less_round_robin", replace(HAND, budget=5)) == [0, 4, 1, 2, 5]


def test_embedding_goes_in_turn_by_the_embeddings():
    # Reversed rows: (-1, 0), (0, 3), (1, 1), -, (2, 0), (1, 0). East takes 4, north 1, east 5, north 2.
    assert rows("embedding", replace(HAND, budget=4)) == [4, 1, 5, 2]


def test_the_reference_is_the_published_walk_over_the_eligible_rows():
    problem = random_problem(delta=0.1, walk="balanced")  # it takes no option
    core = core_knowledge(problem.target)
    features = problem.gradients["adam"].values[problem.eligible]
    walk = gradient_walk(features, core.components, allocate_budgets(12, core.weights))
    assert rows("g2is_reference", problem) == problem.eligible[walk.rows].tolist()


@pytest.mark.parametrize("options", [{}, {"redundancy": 1.0}, {"fair": False}, {"no_conflict": True}])
def test_g2is_is_the_balanced_walk_with_the_options_given(options: dict[str, Any]):
    problem = random_problem(**options)
    features = problem.gradients["adam"].values[problem.eligible]
    walk = balanced_walk(features, problem.target, 12, **options)
    selection = SELECTORS["g2is"].select(problem)
    assert selection.rows.tolist() == problem.eligible[walk.rows].tolist()
    assert selection.walk is not None
    np.testing.assert_array_equal(selection.walk.pull, walk.pull)


@pytest.mark.parametrize(
    ("knowledge", "n_walks"), [({"n_components": 3}, 3), ({"nodes": "rows"}, 6), ({"nodes": "mean"}, 1)]
)
def test_g2is_walks_as_the_paper_does_where_the_options_say_so(knowledge: dict[str, Any], n_walks: int):
    problem = replace(random_problem(walk="gradient", no_conflict=False), knowledge=knowledge)
    selection = SELECTORS["g2is"].select(problem)
    assert selection.walk is not None
    assert np.isnan(selection.walk.pull).all()
    assert len(set(selection.walk.component.tolist())) == n_walks


def test_g2is_walks_over_the_kind_of_features_that_the_options_name():
    flipped = replace(HAND, options={"kind": "sgd", "mean_removed": True}, budget=1)
    assert rows("g2is", replace(HAND, budget=1)) == [2]
    assert rows("g2is", flipped) == [5]


def test_without_graph_the_pull_alone_decides():
    problem = random_problem()
    assert rows("g2is_without_graph", problem) == rows("g2is", random_problem(redundancy=0.0, fair=False))
    assert rows("g2is_without_graph", problem) != rows("g2is", problem)


def test_without_gradient_the_same_walk_goes_over_embeddings():
    problem = random_problem()
    walk = balanced_walk(problem.embeddings.values[problem.eligible], problem.target_embeddings, 12)
    assert rows("g2is_without_gradient", problem) == problem.eligible[walk.rows].tolist()


# --- what holds for all of them -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SELECTORS)
def test_a_selector_takes_distinct_eligible_rows_within_the_budget_and_twice_the_same(name: str):
    problem = random_problem()
    selection = SELECTORS[name].select(problem)
    chosen = selection.rows.tolist()
    assert len(set(chosen)) == len(chosen) == len(selection.scores)
    assert set(chosen) <= set(problem.eligible.tolist())
    assert 0 < len(chosen) <= 12 or name == "full"
    assert selection.rows.dtype == np.int64
    assert chosen == rows(name, problem)


@pytest.mark.parametrize("name", sorted(SELECTORS.keys() - {"full", "g2is_reference"}))
def test_a_selector_can_use_its_whole_budget(name: str):
    problem = random_problem()
    everything = replace(problem, budget=len(problem.eligible))
    assert sorted(rows(name, everything)) == problem.eligible.tolist()


@pytest.mark.parametrize("name", sorted(SELECTORS.keys() - {"full"}))
def test_no_budget_takes_no_row(name: str):
    assert rows(name, replace(random_problem(), budget=0)) == []


GRADIENTS = ["less", "less_round_robin", "bids", "gist", "g2is", "g2is_without_graph", "g2is_reference"]


@pytest.mark.parametrize("name", GRADIENTS)
def test_what_needs_gradients_says_so(name: str):
    with pytest.raises(ValueError, match="no gradients of kind 'adam"):
        SELECTORS[name].select(replace(HAND, gradients={}))


@pytest.mark.parametrize("name", ["embedding", "g2is_without_gradient"])
def test_what_needs_embeddings_says_so(name: str):
    with pytest.raises(ValueError, match="no embeddings"):
        SELECTORS[name].select(replace(HAND, embeddings=None))


def test_an_unknown_option_is_refused():
    with pytest.raises(ValidationError, match="reduncancy"):
        SELECTORS["g2is"].select(replace(HAND, options={"reduncancy": 0.1}))


@pytest.mark.parametrize(
    "change",
    [
        {"budget": 6},
        {"budget": -1},
        {"eligible": np.array([1, 0])},
        {"eligible": np.array([0, 1, 9])},
        {"n_response_tokens": np.array([1])},
        {"gradients": {"adam": ArrayFeatures(np.eye(2))}},
        {"sub_tasks": ["one"]},
    ],
)
def test_a_problem_that_does_not_fit_is_refused(change: dict[str, Any]):
    with pytest.raises(ValueError, match="domain 'compass'"):
        replace(HAND, **change)


def test_chosen_features_are_those_rows_under_their_own_numbers():
    values = np.random.default_rng(0).normal(size=(2500, 3)).astype(np.float32)
    chosen = np.array([2400, 3, 1025])
    source = ChosenFeatures(ArrayFeatures(values), chosen)
    np.testing.assert_array_equal(CodedRows(source).matrix, CodedRows(ArrayFeatures(values[chosen])).matrix)
    np.testing.assert_array_equal(source.rows(np.array([2, 0])), values[[1025, 2400]])


def test_folded_features_are_sums_of_entries_that_are_so_far_apart():
    source = FoldedFeatures(ArrayFeatures(np.array([[1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 0, -1]], dtype=np.float16)), 2)
    assert source.shape == (2, 2)
    assert [values.tolist() for _, values in source.blocks()] == [[[9, 12], [0, 0]]]
    assert source.rows(np.array([0])).tolist() == [[9, 12]]
    with pytest.raises(ValueError, match="features of 6 columns cannot be folded to 4"):
        FoldedFeatures(source.source, 4)
