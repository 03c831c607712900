"""How near a subset stays to its domain, on pools worked by hand."""

import numpy as np
import pytest

from g2is_assets.core.home import measure_home, strongest_pulls
from g2is_assets.core.rows import ArrayFeatures

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
    pool = ArrayFeatures(np.array([EAST, EAST, [-0.6, 0.8]]))
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
