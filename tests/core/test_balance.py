"""The balanced walk against its definition: brute force in float64, its two ends, and examples worked by hand."""

import threading
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from g2is_assets.core.balance import BalancedWalk, balanced_walk, mean_feature
from g2is_assets.core.codes import quantise
from g2is_assets.core.edges import edge_matrix
from g2is_assets.core.graph import build_graph
from g2is_assets.core.walk_state import AT_A_TIME, CodedRows, Walk

MARGIN = 1e-6
"""Problems in which a decision of the definition is closer than this are not drawn."""

bounded = settings(max_examples=50, deadline=None, derandomize=True)

RULES: list[dict[str, Any]] = [
    {},
    {"no_conflict": True},
    {"min_core_cosine": 0.1},
    {"delta": 0.995},
    {"delta": 0.95, "consistency": "best", "no_conflict": True, "min_core_cosine": 0.0},
]


@dataclass(frozen=True)
class Problem:
    features: np.ndarray
    validation: np.ndarray
    budget: int
    redundancy: float
    fair: bool = False


@st.composite
def problems(draw: st.DrawFn, redundancy: float | None = None, fair: bool | None = None) -> Problem:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d, v = rng.integers(1, 41), rng.integers(2, 13), rng.integers(1, 6)
    shift = draw(st.sampled_from([0.0, 0.3, 1.0]))
    return Problem(
        quantise((rng.normal(size=(n, d)) + shift) * rng.uniform(0.01, 100, size=(n, 1))),
        (rng.normal(size=(v, d)) + 0.3).astype(np.float32),
        int(rng.integers(1, 25)),
        draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])) if redundancy is None else redundancy,
        draw(st.booleans()) if fair is None else fair,
    )


def units(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cosine(vector: np.ndarray, direction: np.ndarray) -> float:
    norms = np.linalg.norm(vector) * np.linalg.norm(direction)
    return float(vector @ direction / norms) if norms > 1e-10 else 0.0


def brute_force(
    problem: Problem,
    delta: float = 0.0,
    consistency: str = "previous",
    min_core_cosine: float | None = None,
    no_conflict: bool = False,
    edges: np.ndarray | None = None,
) -> tuple[list[dict[str, float]], float]:
    """Row, pull, redundancy and margin of every step, candidate by candidate, and the closest decision."""
    allowed_then: list[dict[int, float]] = []
    rows, own = units(problem.features), units(problem.validation)
    mean = own.mean(axis=0)
    alike = rows @ rows.T if edges is None else edges
    steps: list[dict[str, float]] = []
    taken: list[int] = []
    reached: list[float] = []
    decisions = [np.inf]

    def at_least(value: float, bound: float) -> bool:
        decisions.append(abs(value - bound))
        return value >= bound

    def allowed(z: int) -> bool:
        if min_core_cosine is not None and not at_least(cosine(rows[z], mean), min_core_cosine):
            return False
        if no_conflict and not all(at_least(rows[z] @ rows[s], 0.0) for s in taken):
            return False
        if delta and taken:
            against = reached[-1] if consistency == "previous" else max(reached)
            return at_least(abs(cosine(rows[[*taken, z]].sum(axis=0), mean)), delta * against)
        return True

    def weight(v: int) -> float:
        return float(1 / (1 + max(0.0, sum(own[v] @ rows[s] for s in taken)))) if problem.fair else 1.0

    while len(taken) < problem.budget:
        scores = {}
        weights = [weight(v) for v in range(len(own))]
        for z in set(range(len(rows))) - set(taken):
            if allowed(z):
                pull = sum(w * (rows[z] @ v) for w, v in zip(weights, own, strict=True)) / sum(weights)
                redundancy = problem.redundancy / (len(taken) + 1) * sum(alike[z, s] for s in taken)
                scores[z] = (pull - redundancy, pull, redundancy)
        if not scores:
            break
        best = max(scores, key=lambda z: scores[z][0])
        decisions += [scores[best][0] - score[0] for z, score in scores.items() if z != best]
        allowed_then.append({z: score[0] for z, score in scores.items()})
        step = {"row": best, "pull": scores[best][1], "redundancy": scores[best][2]}
        steps.append(step | {"score": scores[best][0]})
        taken.append(best)
        reached.append(abs(cosine(rows[taken].sum(axis=0), mean)))
        steps[-1]["consistency"] = reached[-1]
    for step, then in zip(steps, allowed_then, strict=True):
        never = [score for z, score in then.items() if z not in taken]
        step["margin"] = step["score"] - max(never) if never else np.nan
    return steps, min(decisions)


def walk_of(problem: Problem, **options: Any) -> Walk:
    options |= {"redundancy": problem.redundancy, "fair": problem.fair}
    return balanced_walk(problem.features, problem.validation, problem.budget, **options)


def assert_equal(first: Walk, second: Walk) -> None:
    """The same rows for the same reasons, bit for bit."""
    for name in (f.name for f in fields(Walk) if f.name not in ("ended", "refusals")):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    assert first.ended == second.ended


# --- against the definition ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: "-".join(rules) or "none")
@given(problem=problems())
@bounded
def test_it_is_the_brute_force_walk_with_every_rule_on_top(rules: dict[str, Any], problem: Problem):
    steps, closest = brute_force(problem, **rules)
    assume(closest > MARGIN)
    walk = walk_of(problem, **rules)
    assert walk.rows.tolist() == [step["row"] for step in steps]
    for name in ("pull", "redundancy", "score", "margin"):
        np.testing.assert_allclose(getattr(walk, name), [step[name] for step in steps], atol=1e-6, err_msg=name)


def test_every_rule_changes_some_walk():
    rng = np.random.default_rng(2)
    problem = Problem(quantise(rng.normal(size=(60, 6)) + 0.3), rng.normal(size=(4, 6)) + 0.3, 45, 1.0)
    walks = [walk_of(problem, **rules).rows.tolist() for rules in RULES]
    assert all(walk != other for i, walk in enumerate(walks) for other in walks[:i])


@given(problem=problems(redundancy=0.0, fair=False))
@bounded
def test_redundancy_0_is_the_ranking_by_mean_cosine(problem: Problem):
    mean_cosine = (units(problem.features) @ units(problem.validation).T).mean(axis=1)
    assume(len(mean_cosine) == 1 or np.diff(np.sort(mean_cosine)).min() > MARGIN)
    walk = walk_of(problem)
    assert walk.rows.tolist() == np.argsort(-mean_cosine)[: problem.budget].tolist()
    np.testing.assert_allclose(walk.score, mean_cosine[walk.rows], atol=1e-6)


@given(problem=problems(redundancy=1.0, fair=False))
@bounded
def test_redundancy_1_is_kernel_herding(problem: Problem):
    # Herding keeps a weight vector: w starts at t and, for the row x taken, becomes w + t - x.
    rows, target = units(problem.features), units(problem.validation).mean(axis=0)
    weights, taken, free = target.copy(), [], list(range(len(rows)))
    while free and len(taken) < problem.budget:
        scores = rows[free] @ weights
        assume(len(free) == 1 or np.diff(np.sort(scores))[-1] > 1e-4)
        taken.append(free.pop(int(scores.argmax())))
        weights += target - rows[taken[-1]]
    assert walk_of(problem).rows.tolist() == taken


# --- by hand ------------------------------------------------------------------------------------------------------

EAST_OF_THREE = [[1.0, 0.0, 0.0]]
EAST, NORTH = [[1.0, 0.0]], [0.0, 1.0]


def test_of_two_copies_the_second_gives_way_to_another_direction():
    # t = (1, 0). Pulls 1, 1, 0.6. After row 0 the copy has 1 - 0.5/2 * 1 = 0.75, the other 0.6 - 0.5/2 * 0.6 = 0.45.
    features = [[1, 0], [2, 0], [3, 4]]
    assert balanced_walk(features, EAST, 3, redundancy=0.5).rows.tolist() == [0, 1, 2]
    # t = (0.5, 0.5). Pulls 0.5, 0.5, 0.7. First row 2; then 0.5 - 0.5 * 0.6 = 0.2 for both copies, the lower first;
    # then the copy has 0.5 - 1/3 * (0.6 + 1) < 0 and is taken last.
    walk = balanced_walk(features, [[1.0, 0.0], NORTH], 3, redundancy=1.0, fair=False)
    assert walk.rows.tolist() == [2, 0, 1]
    np.testing.assert_allclose(walk.pull, [0.7, 0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(walk.redundancy, [0.0, 0.3, 1.6 / 3], atol=1e-6)
    np.testing.assert_array_equal(walk.margin, np.full(3, np.nan))  # no row is left out
    # Of two, row 1 is left out: 0.5 behind at first, and no worse than its copy at last.
    walk = balanced_walk(features, [[1.0, 0.0], NORTH], 2, redundancy=1.0, fair=False)
    np.testing.assert_allclose(walk.margin, [0.2, 0.0], atol=1e-6)


def test_a_factor_counts_for_the_pull_and_not_for_the_redundancy():
    # Pulls 1, 1 and 2 * 0.6. After row 2 both copies have 1 - 0.5/2 * 0.6 = 0.85; after row 0 its copy 1 - 0.5/3 * 1.6.
    features = [[1, 0], [2, 0], [3, 4]]
    walk = balanced_walk(features, EAST, 3, redundancy=0.5, factors=[1.0, 1.0, 2.0])
    assert walk.rows.tolist() == [2, 0, 1]
    np.testing.assert_allclose(walk.pull, [1.2, 1.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(walk.score, [1.2, 0.85, 1 - 0.8 / 3], atol=1e-6)


def test_a_fair_walk_goes_to_the_validation_row_that_was_served_least():
    # Two validation rows east, one north: t = (2, 1) / 3, and plain pulls of 2/3, 2/3 (a copy), 1/3.
    features, own = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    assert balanced_walk(features, own, 2, redundancy=0.0, fair=False).rows.tolist() == [0, 1]
    # After row 0 the rows east are served 1 each: weights 1/2, 1/2, 1 of a sum of 2, so both directions pull 1/2, and a
    # tie goes to the lower row. Then weights 1/3, 1/3, 1 of 5/3: the north pulls 3/5.
    walk = balanced_walk(features, own, 3, redundancy=0.0, fair=True)
    assert walk.rows.tolist() == [0, 1, 2]
    np.testing.assert_allclose(walk.pull, [2 / 3, 1 / 2, 3 / 5], atol=1e-6)
    # With less of a pull for the second row east, the north comes before it: 0.96 / 2 < 1 / 2.
    walk = balanced_walk([[1, 0], [24, -7], [0, 1]], own, 2, redundancy=0.0, fair=True)
    assert walk.rows.tolist() == [0, 2]


def test_a_validation_row_that_the_rows_taken_contradict_counts_as_not_served():
    # Served 1 and -1: weights 1/2 and 1 of 3/2, so row 1 pulls 2/3 - 1/3.
    walk = balanced_walk([[1.0, 0.0], [-1.0, 0.0]], [[1.0, 0.0], [-1.0, 0.1]], 2, redundancy=0.0, fair=True)
    assert walk.rows.tolist() == [0, 1]
    np.testing.assert_allclose(walk.pull[1], (2 / np.sqrt(1.01) - 1) / 3, atol=1e-3)


@given(problem=problems(redundancy=0.0))
@bounded
def test_a_fair_walk_over_one_validation_row_is_the_ranking(problem: Problem):
    alone = replace(problem, validation=problem.validation[:1])
    assert walk_of(alone).rows.tolist() == walk_of(replace(alone, fair=not alone.fair)).rows.tolist()


def test_the_trace_names_the_row_taken_before_that_a_row_resembles_most():
    walk = balanced_walk([[1, 0], [3, 4], [0, 1]], EAST, 3, redundancy=0.0)
    assert walk.rows.tolist() == [0, 1, 2]
    assert walk.nearest_row.tolist() == [-1, 0, 1]
    np.testing.assert_allclose(walk.nearest_cosine, [np.nan, 0.6, 0.8], atol=1e-6)
    assert walk.predecessor.tolist() == [-1, -1, -1]
    assert np.isnan(walk.predecessor_cosine).all()


def test_of_a_row_left_it_knows_pull_redundancy_place_in_line_and_nearest_row_taken():
    features = [[1, 0], [3, 4], [4, -3], [-1, 0]]
    seen = balanced_walk(features, EAST, 1, redundancy=0.5).refusals[0]
    assert seen is not None
    left = [1, 2, 3]
    np.testing.assert_allclose(seen.pull[left], [0.6, 0.8, -1.0], atol=1e-6)
    np.testing.assert_allclose(seen.redundancy[left], np.array([0.6, 0.8, -1.0]) / 4, atol=1e-6)
    assert seen.rank[left].tolist() == [2, 1, 3]
    assert seen.nearest_row[left].tolist() == [0, 0, 0]
    np.testing.assert_allclose(seen.nearest_cosine[left], [0.6, 0.8, -1.0], atol=1e-6)


def test_the_error_of_a_margin_is_that_of_products_with_target_less_redundancy():
    rng = np.random.default_rng(0)
    rows, own = quantise(rng.normal(size=(30, 64)) + 0.2), units(rng.normal(size=(4, 64)) + 0.2)
    walk, unit = balanced_walk(rows, own, 6, redundancy=0.5), units(rows)
    for step in range(6):
        taken = unit[walk.rows[:step]].sum(axis=0)
        weights = 1 / (1 + np.maximum(own @ taken, 0))
        direction = weights / weights.sum() @ own - 0.5 / (step + 1) * taken
        assert walk.error[step] == pytest.approx(np.linalg.norm(direction) * np.sqrt(2 / 64), abs=1e-6)


def test_the_target_is_as_long_as_the_validation_rows_are_alike():
    assert np.linalg.norm(mean_feature([[2.0, 0.0], [5.0, 0.0]])) == pytest.approx(1.0)
    np.testing.assert_allclose(mean_feature([[2.0, 0.0], [0.0, 5.0]]), [0.5, 0.5])


def test_equal_rows_go_to_the_lower_index():
    features = np.tile(np.array([[0.3, 0.4, 0.5]]), (7, 1))
    assert balanced_walk(features, [[1.0, 1.0, 1.0]], 7).rows.tolist() == list(range(7))


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: "-".join(rules) or "none")
@given(problem=problems())
@settings(bounded, max_examples=30)
def test_a_walk_by_blocks_of_likely_rows_is_the_walk_row_by_row(rules: dict[str, Any], problem: Problem):
    with pytest.MonkeyPatch.context() as patch:
        walks = []
        for width in (1, 3, 64):
            patch.setattr("g2is_assets.core.walk_state.AT_A_TIME", width)
            walks.append(walk_of(problem, **rules))
    assert_equal(walks[0], walks[1])
    assert_equal(walks[0], walks[2])


def test_a_block_of_likely_rows_serves_as_many_steps_as_it_has_rows(monkeypatch: pytest.MonkeyPatch):
    rng, blocks, multiply = np.random.default_rng(0), [], CodedRows.products

    def counted(self: CodedRows, codes: np.ndarray) -> np.ndarray:
        blocks.append(len(codes))
        return multiply(self, codes)

    monkeypatch.setattr(CodedRows, "products", counted)
    problem = Problem(quantise(rng.normal(size=(300, 24)) + 0.5), rng.normal(size=(5, 24)) + 0.5, 3 * AT_A_TIME, 0.5)
    assert len(walk_of(replace(problem, fair=True)).rows) == 3 * AT_A_TIME
    assert blocks == [AT_A_TIME] * 3


def test_a_walk_leaves_no_thread_behind_also_when_it_fails(monkeypatch: pytest.MonkeyPatch):
    def fail(self: BalancedWalk) -> None:
        raise RuntimeError("on the way")

    monkeypatch.setattr(BalancedWalk, "_close", fail)
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="on the way") as held:
        balanced_walk(np.eye(3), np.ones((1, 3)), 2)
    assert set(threading.enumerate()) <= before, held


def test_a_row_of_zeros_pulls_nothing_and_resembles_nothing():
    walk = balanced_walk([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], EAST, 3)
    assert walk.rows.tolist() == [1, 0, 2]
    assert walk.score.tolist() == pytest.approx([1.0, 0.0, -1.0 + 0.25 / 3])


# --- on stored edges ----------------------------------------------------------------------------------------------


def stored_edges(features: np.ndarray, n_neighbors: int, n_conflicts: int) -> csr_array:
    graph, rows = build_graph(features, n_neighbors, n_conflicts), np.arange(len(features))[:, None]
    others = np.concatenate([graph.neighbors, graph.conflicts], axis=1)
    cosines = np.concatenate([graph.neighbor_cosines, graph.conflict_cosines], axis=1)
    listed = others >= 0
    return edge_matrix((rows + 0 * others)[listed], others[listed], cosines[listed], len(features))


@given(problem=problems(), n_neighbors=st.integers(1, 6), n_conflicts=st.integers(0, 3))
@bounded
def test_a_walk_on_edges_is_the_brute_force_walk_that_knows_these_alone(
    problem: Problem, n_neighbors: int, n_conflicts: int
):
    n, rows = len(problem.features), units(problem.features)
    assume(n > 1)
    cosines, edges = rows @ rows.T, np.zeros((n, n))
    for i in range(n):
        others = sorted(set(range(n)) - {i}, key=lambda j: -cosines[i, j])
        for j in [*others[:n_neighbors], *(j for j in others[::-1][:n_conflicts] if cosines[i, j] < 0)]:
            edges[i, j] = edges[j, i] = cosines[i, j]  # either end may list it
    steps, closest = brute_force(problem, edges=edges)
    assume(closest > MARGIN)
    walk = walk_of(problem, edges=stored_edges(problem.features, n_neighbors, n_conflicts))
    assert walk.rows.tolist() == [step["row"] for step in steps]
    for name in ("pull", "redundancy", "score", "margin", "consistency"):
        np.testing.assert_allclose(getattr(walk, name), [step[name] for step in steps], atol=1e-6, err_msg=name)
    for step, row in enumerate(walk.rows):
        before = [s for s in walk.rows[:step] if edges[row, s]]
        nearest = max(before, key=lambda s: edges[row, s], default=-1)
        assert walk.nearest_row[step] == nearest
        np.testing.assert_allclose(walk.nearest_cosine[step], edges[row, nearest] if before else np.nan, atol=1e-6)


@given(problem=problems())
@bounded
def test_on_a_graph_that_stores_all_edges_it_is_the_exact_walk(problem: Problem):
    n = len(problem.features)
    assume(n > 1)
    assume(brute_force(problem)[1] > MARGIN)
    walk, exact = walk_of(problem, edges=stored_edges(problem.features, n, 0)), walk_of(problem)
    assert walk.rows.tolist() == exact.rows.tolist()
    np.testing.assert_allclose(walk.margin, exact.margin, atol=1e-6)


@pytest.mark.parametrize("rule", [{"delta": 0.5}, {"no_conflict": True}])
def test_edges_admit_no_rule_that_asks_for_all_cosines(rule: dict[str, Any]):
    with pytest.raises(ValueError, match="knows too few cosines"):
        balanced_walk(np.eye(3), EAST_OF_THREE, 2, edges=stored_edges(np.eye(3), 1, 0), **rule)
    with pytest.raises(ValueError, match=r"edges .* are not of 3 rows"):
        balanced_walk(np.eye(3), EAST_OF_THREE, 2, edges=stored_edges(np.eye(4), 1, 0))


# --- how it ends, memory, faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "options", "n_rows", "reason"),
    [
        (2, {}, 2, "budget"),
        (4, {}, 3, "no free row"),
        (3, {"no_conflict": True}, 2, "conflict"),
        (3, {"min_core_cosine": 0.5}, 2, "core cosine"),
        (2, {"delta": 1.0}, 1, "consistency"),
        (0, {}, 0, "no budget"),
    ],
)
def test_a_walk_says_why_it_ended(budget: int, options: dict[str, Any], n_rows: int, reason: str):
    walk = balanced_walk([[1, 0], [3, 4], [-1, 0]], EAST, budget, **options)
    assert (len(walk.rows), walk.ended) == (n_rows, [reason])


@pytest.mark.parametrize("rules", [{}, {"no_conflict": True, "delta": 0.9}])
@given(problem=problems())
@settings(bounded, max_examples=30)
def test_a_walk_with_streamed_features_is_the_walk_in_memory_bit_for_bit(rules: dict[str, Any], problem: Problem):
    assert_equal(walk_of(problem, **rules), walk_of(problem, memory_bytes=0, **rules))


@given(problem=problems(), seed=st.integers(0, 1000))
@bounded
def test_the_order_of_the_pool_and_the_norms_do_not_matter(problem: Problem, seed: int):
    assume(brute_force(problem)[1] > MARGIN)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(problem.features))
    scaled = problem.features[order] * rng.uniform(0.1, 10, size=(len(order), 1))
    other = walk_of(replace(problem, features=scaled, validation=problem.validation * 3))
    assert order[other.rows].tolist() == walk_of(problem).rows.tolist()


@pytest.mark.parametrize(
    ("features", "validation", "budget", "options", "said"),
    [
        (np.eye(2), np.eye(3), 1, {}, "do not fit"),
        (np.eye(2), np.empty((0, 2)), 1, {}, "do not fit"),
        (np.eye(2), np.eye(2), -1, {}, "do not fit"),
        (np.eye(2), np.eye(2), 1, {"redundancy": 1.1}, "redundancy 1.1"),
        (np.eye(2), np.eye(2), 1, {"delta": -0.1}, "delta -0.1"),
        (np.eye(2), np.eye(2), 1, {"factors": [1.0]}, "2 positive numbers"),
        (np.eye(2), np.eye(2), 1, {"factors": [1.0, 0.0]}, "2 positive numbers"),
        (np.eye(2), [[1.0, 0.0], [-1.0, 0.0]], 1, {}, "cancel out"),
        ([[np.nan, 1.0]], np.eye(2), 1, {}, "row 0 is not finite"),
    ],
)
def test_input_that_does_not_fit_is_refused(
    features: Any, validation: Any, budget: int, options: dict[str, Any], said: str
):
    with pytest.raises(ValueError, match=said):
        balanced_walk(features, validation, budget, **options)
