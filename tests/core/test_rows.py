"""Unit rows: the convention that graph and walk share."""

import numpy as np
import pytest

from g2is_assets.core.rows import unit_rows


def test_rows_get_norm_one_and_keep_their_direction():
    np.testing.assert_allclose(unit_rows([[3.0, 4.0], [0.0, -2.0]]), [[0.6, 0.8], [0.0, -1.0]], rtol=1e-7)


def test_a_norm_up_to_1e_10_counts_as_zero():
    assert unit_rows([[1e-10, 0.0], [0.0, 0.0]]).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert unit_rows([[2e-10, 0.0]]).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_any_number_type_becomes_contiguous_float32(dtype: type):
    given = np.array([[3, 4], [1, 0]], dtype=dtype).T[::-1].T
    unit = unit_rows(given)
    assert unit.dtype == np.float32
    assert unit.flags.c_contiguous
    np.testing.assert_allclose(unit, [[0.8, 0.6], [0.0, 1.0]], rtol=1e-6)


def test_the_rows_given_are_not_changed():
    given = np.array([[3.0, 4.0]], dtype=np.float32)
    unit_rows(given)
    assert given.tolist() == [[3.0, 4.0]]
