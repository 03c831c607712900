"""Core knowledge: a PCA worked by hand, its rules, orientation and refusals; what is near; shares of a budget."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.core.features import ArrayFeatures
from g2is_assets.core.knowledge import allocate_budgets, core_knowledge, domain_nodes, measure_home, strongest_pulls

CROSS = np.array([[5.0, 1.0], [-1.0, 1.0], [2.0, 2.0], [2.0, 0.0]])
"""Mean (2, 1); deviations ±3 along the first axis and ±1 along the second: variances 18 and 2 of 20."""


def random_rows(seed: int, v: int = 12, d: int = 7, mean: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(v, d)) * np.linspace(3, 1, d) + mean


def test_the_directions_of_a_cross_are_its_axes():
    knowledge = core_knowledge(CROSS, n_components=2)
    np.testing.assert_allclose(knowledge.components, np.eye(2), atol=1e-7)
    np.testing.assert_allclose(knowledge.shares, [0.9, 0.1], atol=1e-12)
    np.testing.assert_allclose(knowledge.weights, [0.9, 0.1], atol=1e-12)
    assert knowledge.components.dtype == np.float32


def test_weights_are_normalised_over_the_kept_and_shares_cover_all():
    knowledge = core_knowledge(CROSS, n_components=1)
    assert knowledge.weights.tolist() == [1.0]
    np.testing.assert_allclose(knowledge.shares, [0.9, 0.1], atol=1e-12)


def test_without_centring_the_mean_direction_stays_in():
    # The rows (3, 1), (3, -1) have the second moment diag(18, 2) and the variance diag(0, 2).
    rows = [[3.0, 1.0], [3.0, -1.0]]
    np.testing.assert_allclose(np.abs(core_knowledge(rows, n_components=1).components), [[0.0, 1.0]], atol=1e-7)
    uncentred = core_knowledge(rows, n_components=2, centered=False)
    np.testing.assert_allclose(uncentred.components, [[1.0, 0.0], [0.0, 1.0]], atol=1e-7)
    np.testing.assert_allclose(uncentred.shares, [0.9, 0.1], atol=1e-12)


def test_components_are_the_eigenvectors_of_the_covariance():
    rows = random_rows(1)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    knowledge = core_knowledge(rows, n_components=7)
    np.testing.assert_allclose(knowledge.shares, values[::-1] / values.sum(), atol=1e-12)
    cosines = np.abs(np.einsum("cd,dc->c", knowledge.components.astype(np.float64), vectors[:, ::-1]))
    np.testing.assert_allclose(cosines, 1.0, atol=1e-6)


@pytest.mark.parametrize(("share", "n"), [(0.05, 1), (0.5, 1), (0.89, 1), (0.91, 2), (0.99, 2)])
def test_directions_are_kept_until_the_share_is_passed(share: float, n: int):
    assert len(core_knowledge(CROSS, explained_variance=share).components) == n


def test_a_share_that_is_met_exactly_is_not_yet_above():
    rows = random_rows(2)
    reached = np.cumsum(core_knowledge(rows).shares)
    for n in (1, 2, 3):
        assert len(core_knowledge(rows, explained_variance=reached[n - 1]).components) == n + 1
        assert len(core_knowledge(rows, explained_variance=np.nextafter(reached[n - 1], 0)).components) == n


def test_a_share_beyond_the_last_direction_keeps_them_all():
    knowledge = core_knowledge(random_rows(3, v=4, d=9), explained_variance=np.nextafter(1.0, 0))
    assert 3 <= len(knowledge.components) <= 4


@pytest.mark.parametrize(
    ("v", "d", "fraction", "n"),
    [
        (11, 50, 0.5, 5),
        (12, 50, 0.5, 6),  # 5.5 rounded up
        (50, 6, 0.5, 3),
        (11, 50, 1.0, 10),
        (11, 50, 0.01, 1),
        (101, 120, 0.07, 7),  # 0.07 * 100 is 7.000000000000001 in floating point
        (26, 30, 0.28, 7),  # likewise 0.28 * 25
    ],
)
def test_a_fraction_counts_of_v_minus_1_or_d_rounded_up(v: int, d: int, fraction: float, n: int):
    assert len(core_knowledge(random_rows(4, v=v, d=d), component_fraction=fraction).components) == n


@given(seed=st.integers(0, 10_000), mean=st.sampled_from([-2.0, 0.0, 0.5]), centered=st.booleans())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_every_direction_points_towards_the_mean_and_they_are_orthonormal(seed: int, mean: float, centered: bool):
    rows = random_rows(seed, mean=mean)
    knowledge = core_knowledge(rows, n_components=7, centered=centered)
    components = knowledge.components.astype(np.float64)
    assert (components @ rows.mean(axis=0) >= -1e-6).all()
    np.testing.assert_allclose(components @ components.T, np.eye(7), atol=1e-6)
    assert knowledge.weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert (np.diff(knowledge.shares) <= 1e-12).all()


def test_turning_all_rows_turns_all_directions():
    rows = random_rows(5)
    towards, away = core_knowledge(rows, n_components=7), core_knowledge(-rows, n_components=7)
    np.testing.assert_allclose(away.components, -towards.components, atol=1e-6)
    np.testing.assert_allclose(away.weights, towards.weights, atol=1e-12)


def test_the_order_of_the_rows_does_not_turn_a_direction():
    rows = random_rows(6)
    order = np.random.default_rng(0).permutation(len(rows))
    first, second = core_knowledge(rows, n_components=5), core_knowledge(rows[order], n_components=5)
    np.testing.assert_allclose(first.components, second.components, atol=1e-6)


def test_the_record_of_turned_directions_gives_back_the_sign_of_the_svd():
    rows = random_rows(7)
    knowledge = core_knowledge(rows, n_components=7)
    _, _, directions = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    signs = np.where(knowledge.flipped, -1, 1)[:, None]
    np.testing.assert_allclose(knowledge.components * signs, directions, atol=1e-6)
    assert 0 < knowledge.flipped.sum() < 7, "the example should have both kinds"


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_direction_at_right_angles_to_the_mean_keeps_its_largest_entry_positive(sign: float):
    # Deviations along (-0.6, 0.8, 0), mean along the third axis.
    rows = np.array([[-0.6, 0.8, 1.0], [0.6, -0.8, 1.0]]) * [sign, sign, 1.0]
    np.testing.assert_allclose(core_knowledge(rows, n_components=1).components, [[-0.6, 0.8, 0.0]], atol=1e-6)


def test_two_rows_in_many_dimensions_have_one_direction_their_difference():
    rows = np.random.default_rng(8).normal(size=(2, 8192))
    knowledge = core_knowledge(rows)
    difference = rows[0] - rows[1]
    cosine = knowledge.components[0] @ difference / np.linalg.norm(difference)
    assert knowledge.components.shape == (1, 8192)
    assert abs(cosine) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(knowledge.shares, [1.0, 0.0], atol=1e-12)


def test_scaling_all_features_changes_nothing():
    rows = random_rows(9)
    for factor in (1e-6, 1e6):
        knowledge = core_knowledge(rows * factor, n_components=3)
        np.testing.assert_allclose(knowledge.components, core_knowledge(rows, n_components=3).components, atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((1, 4)), r"v >= 2, d\) array, got shape \(1, 4\)"),
        (np.ones(4), "got shape"),
        (np.array([[1.0, np.nan], [0.0, 1.0]]), "finite"),
        (np.array([[1.0, np.inf], [0.0, 1.0]]), "finite"),
        (np.full((5, 4), 0.1), "all equal"),
        (np.zeros((3, 4)), "all equal"),
    ],
)
def test_features_without_directions_are_refused(rows: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        core_knowledge(rows)


def test_rows_of_zeros_are_refused_without_centring_too():
    with pytest.raises(ValueError, match="all equal"):
        core_knowledge(np.zeros((3, 4)), centered=False)


@pytest.mark.parametrize("rule", [{"n_components": 0}, {"n_components": 8}, {"n_components": -1}])
def test_a_number_of_directions_that_there_are_not_is_refused(rule: dict[str, Any]):
    with pytest.raises(ValueError, match=r"is not in 1\.\.7 for 12 rows"):
        core_knowledge(random_rows(0), **rule)


def test_two_rules_at_once_are_refused():
    with pytest.raises(ValueError, match="not both"):
        core_knowledge(random_rows(0), n_components=2, component_fraction=0.5)


@pytest.mark.parametrize("n_rows", [2, 3, 64, 10_000])
def test_from_two_rows_to_ten_thousand_the_directions_are_orthonormal(n_rows: int):
    rows = np.random.default_rng(n_rows).normal(size=(n_rows, 48)) * np.geomspace(1, 1e-6, 48)
    found = core_knowledge(rows, component_fraction=1.0)
    assert len(found.components) == min(n_rows - 1, 48)
    gram = found.components.astype(np.float64) @ found.components.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-6)
    assert (found.components @ rows.mean(axis=0) >= -1e-7).all()
    assert found.shares.sum() == pytest.approx(1.0)


# --- other nodes --------------------------------------------------------------------------------------------------


def test_rows_are_nodes_of_equal_weight():
    nodes = domain_nodes([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]], "rows")
    np.testing.assert_allclose(nodes.components, [[1, 0], [0, 1], [0.5**0.5, 0.5**0.5]], atol=1e-7)
    assert nodes.weights.tolist() == [1 / 3] * 3


def test_the_mean_of_the_unit_rows_is_one_node():
    nodes = domain_nodes([[2.0, 0.0], [0.0, 30.0]], "mean")
    np.testing.assert_allclose(nodes.components, [[0.5**0.5, 0.5**0.5]], atol=1e-7)
    assert nodes.weights.tolist() == [1.0]


def test_equal_rows_have_no_principal_directions_and_yet_a_mean():
    assert len(domain_nodes([[1.0, 2.0], [1.0, 2.0]], "mean").components) == 1


@pytest.mark.parametrize(("rows", "nodes"), [([[1.0, 0.0], [-1.0, 0.0]], "mean"), ([[1.0, 0.0], [0.0, 0.0]], "rows")])
def test_a_node_without_direction_is_refused(rows: list[list[float]], nodes: str):
    with pytest.raises(ValueError, match="it has no direction"):
        domain_nodes(rows, nodes)


EAST, NORTH = [1.0, 0.0], [0.0, 1.0]
POOL = ArrayFeatures(np.array([EAST] * 3 + [NORTH] * 97))


def test_the_cosines_of_subset_random_rows_and_top_rows_are_those_of_their_mean_features() -> None:
    home = measure_home(POOL, np.array([0, 50]), [EAST, EAST])
    assert home.subset == pytest.approx(0.5**0.5)  # one row east, one north
    assert home.top == pytest.approx(1.0)  # two rows east
    assert home.random < 0.5  # hardly ever a row east


def test_the_norm_of_a_row_does_not_matter() -> None:
    scaled = ArrayFeatures(POOL.values * np.arange(1, 101)[:, None])
    assert measure_home(scaled, np.array([0, 50]), [[5.0, 0.0]]).subset == pytest.approx(0.5**0.5)


def test_a_subset_that_cancels_out_has_cosine_zero() -> None:
    pool = ArrayFeatures(np.array([EAST, [-1.0, 0.0], NORTH]))
    assert measure_home(pool, np.array([0, 1]), [EAST]).subset == 0.0


def test_validation_rows_that_a_subset_does_not_help_are_counted() -> None:
    pool = ArrayFeatures(np.array([EAST, EAST, [-3, 4]]))
    own = [EAST, EAST, EAST, NORTH, [-1.0, 0.4]]
    # The plain ranking takes both rows east: nothing north, and against the last. With row 2 only the last is left out.
    home = measure_home(pool, np.array([0, 2]), own)
    assert (home.unserved, home.unserved_top) == (1, 2)
    assert measure_home(pool, np.array([2]), own).unserved == 3


def test_an_empty_subset_is_refused() -> None:
    with pytest.raises(ValueError, match="empty subset"):
        measure_home(POOL, np.array([], dtype=np.int64), [EAST])


def test_the_same_seed_draws_the_same_random_subsets() -> None:
    first, second = (measure_home(POOL, np.arange(10), [EAST], seed=3) for _ in range(2))
    assert first == second
    assert measure_home(POOL, np.arange(10), [EAST], seed=4) != first


def test_the_strongest_pulls_are_the_validation_rows_with_the_largest_cosines_of_equals_the_lower() -> None:
    own = [[0.0, 2.0], [5.0, 0.0], [3.0, 4.0], [0.0, 1.0]]
    numbers, cosines = strongest_pulls(POOL, np.array([50, 0]), own)
    assert numbers.tolist() == [[0, 3, 2], [1, 2, 0]]
    np.testing.assert_allclose(cosines, [[1.0, 1.0, 0.8], [1.0, 0.6, 0.0]], atol=1e-7)
    assert strongest_pulls(POOL, np.array([0]), own[:1])[0].tolist() == [[0]]
    assert strongest_pulls(POOL, np.array([], dtype=np.int64), own)[0].shape == (0, 3)


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
@settings(max_examples=50, deadline=None, derandomize=True)
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
