"""The map: the same for the same rows, whatever the direction's sign, with groups apart that are apart."""

import numpy as np
import pytest

from g2is_assets.core.features import ArrayFeatures
from g2is_assets.core.graph import build_graph, sampled_cosines
from g2is_assets.core.layout import N_AMONG, layout, place_among, principal_places


def two_groups(n: int = 40, d: int = 16) -> np.ndarray:
    """(2 n, d) float32: the even rows about one direction, the odd ones about its opposite."""
    random = np.random.default_rng(1)
    rows = 0.2 * random.standard_normal((2 * n, d))
    rows[0::2, 0] += 1
    rows[1::2, 0] -= 1
    return rows.astype(np.float32)


def map_of(features: np.ndarray, seed: int = 0) -> np.ndarray:
    neighbors = build_graph(features, 4, 0).neighbors
    return layout(ArrayFeatures(features), neighbors, seed)


def test_two_groups_lie_apart() -> None:
    places = map_of(two_groups())
    one, other = places[0::2], places[1::2]
    between = np.linalg.norm(one.mean(axis=0) - other.mean(axis=0))
    within = max(np.linalg.norm(group - group.mean(axis=0), axis=1).max() for group in (one, other))
    assert between > 2 * within
    assert np.isfinite(places).all()
    assert places.dtype == np.float32
    assert places.mean(axis=0) == pytest.approx([0, 0], abs=1e-4)


def test_the_same_rows_give_the_same_bytes_and_another_seed_other_places() -> None:
    features = two_groups()
    assert map_of(features).tobytes() == map_of(features).tobytes()
    assert map_of(features).tobytes() != map_of(features, seed=1).tobytes()


def test_the_sign_of_the_directions_is_fixed_by_the_largest_entry() -> None:
    places = principal_places(ArrayFeatures(two_groups()))
    largest = places[np.abs(places).argmax(axis=0), [0, 1]]
    assert (largest > 0).all()
    assert abs(np.corrcoef(places[:, 0], [1, -1] * 40)[0, 1]) > 0.99


@pytest.mark.parametrize("features", [np.ones((2, 3)), np.zeros((3, 2)), np.eye(5)], ids=["equal", "zero", "apart"])
def test_rows_without_any_structure_have_finite_places(features: np.ndarray) -> None:
    places = map_of(features.astype(np.float32))
    assert places.shape == (len(features), 2)
    assert np.isfinite(places).all()


def test_sampled_cosines_are_those_of_every_pair_once() -> None:
    rows = np.array([[1, 0], [0, 2], [-3, 0]], dtype=np.float32)
    assert sampled_cosines(ArrayFeatures(rows)).tolist() == [0.0, -1.0, 0.0]
    assert sampled_cosines(ArrayFeatures(rows), n_sampled=2).tolist() == [0.0]


def test_another_row_stands_amid_the_rows_that_are_nearest_to_it_whatever_their_blocks_and_norms() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.eye(2, 8), 20, axis=0) + 0.1 * rng.standard_normal((40, 8))
    places = np.concatenate([rng.normal(-5, 0.5, (20, 2)), rng.normal(5, 0.5, (20, 2))]).astype(np.float32)
    own = 7 * np.eye(2, 8, dtype=np.float32)
    found = place_among(own, ArrayFeatures(groups), places)
    assert found.shape == (2, 2)
    assert (found[0] < -3).all()
    assert (found[1] > 3).all()
    cosines = groups @ own[0] / np.linalg.norm(groups, axis=1)
    nearest = np.argsort(-cosines, kind="stable")[:N_AMONG]
    np.testing.assert_allclose(found[0], np.median(places[nearest], axis=0))
