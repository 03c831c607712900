"""Codes: what quantising loses, and that products of codes are whole numbers, the same in any order."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.core.codes import (
    LARGEST,
    MOST_COLUMNS,
    by_float32,
    from_bytes,
    int_products,
    joined,
    kernel_is_exact,
    planes_of,
    quantise,
    to_bytes,
)

bounded = settings(max_examples=40, deadline=None, derandomize=True)


def units(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def drawn(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-128, 128, (n, d), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


@given(seed=st.integers(0, 2**32 - 1), bits=st.sampled_from([8, 4]))
@bounded
def test_a_code_is_at_most_half_a_step_from_its_entry(seed: int, bits: int):
    rows = np.random.default_rng(seed).normal(size=(5, 40)).astype(np.float32)
    codes = quantise(rows, bits)
    assert np.abs(codes).max() <= LARGEST[bits]
    if bits == 8:  # with fewer bits a row may be cut
        step = np.abs(rows).max(axis=1, keepdims=True) / 127
        assert (np.abs(codes * step - rows) <= step * 0.5001).all()


@pytest.mark.parametrize(("bits", "bound"), [(8, 0.012), (4, 0.14)])
def test_quantising_is_unbiased_within_its_bound(bits: int, bound: float):
    # A cosine's error is the sum of 2 d errors of entries: of mean 0, within the error of a mean of so many pairs.
    rng = np.random.default_rng(3)
    rows = (rng.normal(size=(400, 1024)) + 0.3 * rng.normal(size=1024)).astype(np.float32)
    codes, true = units(quantise(rows, bits)), units(rows)
    lost = np.linalg.norm(codes - true, axis=1)
    assert lost.max() < bound
    pairs = np.triu_indices(len(rows), 1)
    errors = (codes @ codes.T - true @ true.T)[pairs]
    # Lengths are taken of the codes, so a cosine c shrinks by at most c times the squared error of the two directions.
    shrunk = (true @ true.T)[pairs].mean() * np.square(lost).mean()
    assert abs(errors.mean()) < shrunk + 4 * errors.std() / np.sqrt(len(rows))
    assert errors.std() < 2 * lost.mean() / np.sqrt(1024)


def test_with_four_bits_the_share_cut_is_the_one_that_keeps_the_direction_best():
    row = np.concatenate([np.random.default_rng(0).normal(size=500), [30.0]]).astype(np.float32)[None]
    uncut = np.rint(row * (7 / 30))
    kept = [float((units(codes) @ units(row).T)[0, 0]) for codes in (quantise(row, 4), uncut)]
    assert kept[0] > kept[1]


def test_only_the_direction_counts_and_codes_stay_codes():
    rows = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
    np.testing.assert_array_equal(quantise(rows), quantise(rows * np.float32(1024)))
    np.testing.assert_array_equal(quantise(quantise(rows, 4), 8), quantise(rows, 4))


def test_a_norm_up_to_1e_10_counts_as_zero_and_what_is_not_finite_is_refused():
    assert quantise(np.array([[1e-10, 0.0], [2e-10, 0.0]])).tolist() == [[0, 0], [127, 0]]
    for bad in (np.nan, np.inf, 3e38):
        with pytest.raises(ValueError, match="row 1 is not finite or overflows float32"):
            quantise(np.array([[1.0, 0.0], [bad, bad]]))


@pytest.mark.parametrize(("bits", "n_bytes"), [(8, 4), (4, 2)])
def test_codes_come_back_from_bytes(bits: int, n_bytes: int):
    codes = np.array([[-7, 7, 0, -1], [1, -7, 3, 5]], dtype=np.int8)
    stored = to_bytes(codes, bits)
    assert [len(row) for row in stored] == [n_bytes] * 2
    np.testing.assert_array_equal(from_bytes(stored, bits), codes)
    assert len(from_bytes(to_bytes(codes[:0], bits), bits)) == 0


@given(n=st.integers(1, 70), d=st.integers(1, 3000), k=st.integers(1, 40), seed=st.integers(0, 99))
@bounded
def test_products_are_those_of_whole_numbers(n: int, d: int, k: int, seed: int):
    rows, others = drawn(n, d, seed), drawn(k, d, seed + 1)
    expected = rows.numpy().astype(np.int64) @ others.numpy().astype(np.int64).T
    np.testing.assert_array_equal(int_products(rows, others).numpy(), expected)
    np.testing.assert_array_equal(by_float32(rows, others).numpy(), expected)


def test_products_do_not_depend_on_threads_blocks_or_the_order_of_columns():
    rows, others, before = drawn(300, 2048), drawn(64, 2048, 1), torch.get_num_threads()
    one = int_products(rows, others)
    order = torch.randperm(2048, generator=torch.Generator().manual_seed(2))
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        assert torch.equal(int_products(rows, others), one)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.cat([int_products(part, others) for part in rows.split(7)]), one)
    assert torch.equal(int_products(rows[:, order], others[:, order]), one)


def test_the_largest_codes_do_not_saturate_whatever_kernel_this_machine_has(monkeypatch: pytest.MonkeyPatch):
    rows, others = torch.full((20, 9000), 127, dtype=torch.int8), torch.full((3, 9000), -128, dtype=torch.int8)
    assert (int_products(rows, others) == -127 * 128 * 9000).all()
    # A kernel that saturates at 16 bits, as those of processors without VNNI may, is found out and not used.
    kernel_is_exact.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.int() @ b.int()).clamp(-(2**15), 2**15 - 1))
    try:
        assert not kernel_is_exact("cpu")
        assert (int_products(rows, others) == -127 * 128 * 9000).all()
    finally:
        kernel_is_exact.cache_clear()


def test_products_too_large_for_32_bits_are_summed_in_64():
    rows = torch.full((2, 2 * MOST_COLUMNS), 127, dtype=torch.int8)
    assert (int_products(rows, rows) == 127 * 127 * 2 * MOST_COLUMNS).all()


def test_a_few_vectors_are_as_near_as_float32_and_multiplied_as_integers():
    rng = np.random.default_rng(0)
    few, rows = np.concatenate([rng.normal(size=(4, 500)), np.zeros((1, 500))]), drawn(6, 500)
    planes, steps = planes_of(few)
    products = int_products(rows, torch.from_numpy(planes.reshape(-1, 500))).numpy()
    np.testing.assert_allclose(joined(products) * steps, rows.numpy() @ few.T, atol=1e-3, rtol=0)
