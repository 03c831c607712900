"""Hash samples and the paired bootstrap."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy import stats

from g2is_assets.core.sampling import (
    hash_sample,
    mean_paired_difference,
    paired_difference,
)

IDS = [f"row{i:04d}" for i in range(200)]


def over_seeds(first: ArrayLike, second: ArrayLike, **options: int) -> tuple[float, float, float]:
    return mean_paired_difference([(first, second)], **options)  # type: ignore[arg-type]


def test_a_sample_is_the_first_rows_by_the_hash_of_salt_and_id():
    ranked = sorted(IDS, key=lambda row: hashlib.sha256(f"warmup/{row}".encode()).hexdigest())
    assert hash_sample(IDS, 20, "warmup") == ranked[:20]


def test_the_order_of_the_ids_does_not_matter():
    assert hash_sample(IDS[::-1], 20, "a") == hash_sample(IDS, 20, "a")


def test_a_larger_sample_contains_the_smaller():
    assert hash_sample(IDS, 50, "a")[:20] == hash_sample(IDS, 20, "a")


def test_other_salts_give_other_samples_with_no_more_in_common_than_chance():
    first, second = set(hash_sample(IDS, 100, "a")), set(hash_sample(IDS, 100, "b"))
    # Hypergeometric: 50 in common are expected, with a standard deviation of 3.5.
    assert abs(len(first & second) - 50) < 4 * 3.5


def test_every_row_is_drawn_about_equally_often():
    n_salts = 300
    drawn = [row for salt in range(n_salts) for row in hash_sample(IDS, 50, f"salt{salt}")]
    counts = np.array([drawn.count(row) for row in IDS])
    assert counts.sum() == 50 * n_salts
    deviation = np.sqrt(n_salts * 0.25 * 0.75)
    assert np.abs(counts - n_salts * 0.25).max() < 4.5 * deviation
    assert 0.7 * deviation < counts.std() < 1.3 * deviation


@given(n=st.integers(1, 60), share=st.floats(0, 1), new=st.text(min_size=1, max_size=8))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_row_that_joins_the_pool_displaces_at_most_one_other(n: int, share: float, new: str):
    ids, n_rows = IDS[:n], round(share * n)
    before, after = set(hash_sample(ids, n_rows, "s")), set(hash_sample([*ids, f"new {new}"], n_rows, "s"))
    assert len(before - after) == len(after - before) <= 1
    assert after - before <= {f"new {new}"}


def test_all_rows_and_no_rows_may_be_drawn():
    assert sorted(hash_sample(IDS, 200, "s")) == IDS
    assert hash_sample(IDS, 0, "s") == []


@pytest.mark.parametrize("n_rows", [-1, 201])
def test_more_rows_than_there_are_or_fewer_than_none_are_refused(n_rows: int):
    with pytest.raises(ValueError, match=f"cannot draw {n_rows} of 200"):
        hash_sample(IDS, n_rows, "s")


def scores(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    first = rng.normal(size=n) * 5
    return first, first - rng.normal(loc=0.3, scale=1.0, size=n)


@pytest.mark.parametrize(("confidence", "quantile"), [(0.95, 1.960), (0.8, 1.282)])
def test_the_interval_of_normal_differences_is_that_of_their_mean(confidence: float, quantile: float):
    first, second = scores()
    mean, low, high = paired_difference(first, second, confidence=confidence, n_resamples=4000)
    differences = first - second
    half = quantile * differences.std(ddof=1) / np.sqrt(len(differences))
    assert mean == pytest.approx(differences.mean(), abs=1e-12)
    assert low == pytest.approx(mean - half, abs=0.1 * half)
    assert high == pytest.approx(mean + half, abs=0.1 * half)


def test_rows_are_paired_so_that_what_both_models_share_does_not_widen_the_interval():
    first, second = scores()
    _, low, high = paired_difference(first, second)
    _, wide_low, wide_high = paired_difference(first, np.random.default_rng(1).permutation(second))
    assert (high - low) * 4 < wide_high - wide_low


def test_the_other_way_round_the_interval_is_mirrored():
    first, second = scores()
    mean, low, high = paired_difference(first, second)
    mirrored = paired_difference(second, first)
    assert mirrored == pytest.approx((-mean, -high, -low), rel=0.05)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    first, second = scores(50)
    assert paired_difference(first, second, seed=1) == paired_difference(first, second, seed=1)
    assert paired_difference(first, second, seed=1) != paired_difference(first, second, seed=2)


def test_a_constant_difference_is_its_own_interval():
    assert paired_difference([1.5, 2.5, 3.5], [1.0, 2.0, 3.0]) == (0.5, 0.5, 0.5)


def test_equal_scores_differ_by_nothing():
    assert paired_difference([1.0, 2.0], [1.0, 2.0]) == (0.0, 0.0, 0.0)


def test_most_intervals_cover_the_true_difference():
    rng = np.random.default_rng(2)
    covered = 0
    for seed in range(100):
        differences = rng.normal(loc=0.2, size=60)
        _, low, high = paired_difference(differences, np.zeros(60), n_resamples=500, seed=seed)
        covered += low <= 0.2 <= high
    # 95 of 100 are expected; the percentile interval of 60 rows covers a little less.
    assert 87 <= covered <= 99


# --- over seeds -----------------------------------------------------------------------------------------------------


def test_with_one_seed_the_interval_is_that_of_the_binomial():
    # 60 of 200 rows differ by 1: a draw's mean is binomial over 200, whose quantiles are known.
    first = np.zeros((1, 200))
    first[0, :60] = 1.0
    mean, low, high = over_seeds(first, np.zeros((1, 200)), n_resamples=20_000)
    expected = stats.binom.ppf([0.025, 0.975], 200, 0.3) / 200
    assert mean == pytest.approx(0.3)
    assert [low, high] == pytest.approx(expected, abs=0.0051)  # one step of the grid


def test_the_same_row_in_every_seed_counts_as_one_row():
    row = np.random.default_rng(0).normal(size=300)
    once = over_seeds(row[None], np.zeros((1, 300)))
    often = over_seeds(np.tile(row, (20, 1)), np.zeros((20, 300)))
    assert often[2] - often[1] == pytest.approx(once[2] - once[1], rel=0.05)


def test_rows_and_seeds_both_widen_the_interval_as_their_variances_say():
    # Effects of rows with standard deviation 1, of seeds with 0.5: the mean's is sqrt(1/400 + 0.25/50).
    rng = np.random.default_rng(3)
    rows, seeds = (stats.zscore(rng.normal(size=n)) for n in (400, 50))
    scores = rows[None, :] + 0.5 * seeds[:, None] + 0.2
    mean, low, high = over_seeds(scores, np.zeros_like(scores), n_resamples=20_000)
    half = stats.norm.ppf(0.975) * np.sqrt(1 / 400 + 0.25 / 50)
    assert mean == pytest.approx(0.2)
    assert [low, high] == pytest.approx([0.2 - half, 0.2 + half], abs=0.05 * half)


def test_pairing_takes_out_what_both_share():
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(3, 100)) * 10
    mean, low, high = over_seeds(shared + 0.1, shared)
    assert [mean, low, high] == pytest.approx([0.1] * 3)


def test_with_other_numbers_of_seeds_the_seeds_of_each_vary_by_themselves():
    # Seeds alone differ: 20 of one, 50 of the other, so the mean's variance is the sum of both.
    rng = np.random.default_rng(4)
    few, many = (stats.zscore(rng.normal(size=n)) for n in (20, 50))
    first, second = np.tile(few[:, None] + 0.3, 6), np.tile(0.5 * many[:, None], 6)
    mean, low, high = over_seeds(first, second, n_resamples=20_000)
    half = stats.norm.ppf(0.975) * np.sqrt(1 / 20 + 0.25 / 50)
    assert mean == pytest.approx(0.3)
    assert [low, high] == pytest.approx([0.3 - half, 0.3 + half], abs=0.05 * half)


def test_a_model_without_seeds_is_set_against_every_seed():
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(3, 100)), rng.normal(size=(1, 100))
    against_copies = over_seeds(first, np.tile(second, (3, 1)))
    assert over_seeds(first, second) == pytest.approx(against_copies, abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.zeros((0, 5)), np.zeros((0, 5))),
        (np.zeros((2, 1)), np.zeros((2, 1))),
        (np.zeros((2, 5)), np.zeros((2, 4))),
        (np.zeros(5), np.zeros(5)),
        (np.full((1, 5), np.nan), np.zeros((1, 5))),
    ],
)
def test_scores_that_are_not_paired_over_seeds_are_refused(first: np.ndarray, second: np.ndarray):
    with pytest.raises(ValueError, match="paired scores"):
        over_seeds(first, second)


def test_over_domains_the_difference_is_the_mean_of_theirs_and_errors_shrink_with_their_number():
    rng = np.random.default_rng(0)
    domains = [(rng.normal(size=(2, 50)), rng.normal(size=(2, 50))) for _ in range(4)]
    mean, low, high = mean_paired_difference(domains)
    assert mean == pytest.approx(np.mean([np.mean(one - other) for one, other in domains]))
    alone = [over_seeds(*pair) for pair in domains]
    width = np.mean([interval[2] - interval[1] for interval in alone])
    assert 0.35 < (high - low) / width < 0.65
    assert mean_paired_difference(domains[:1]) == alone[0]


def test_domains_may_have_other_numbers_of_rows_and_seeds():
    mean, low, high = mean_paired_difference([(np.ones((1, 3)), np.zeros((1, 3))), (np.ones((3, 5)), np.ones((3, 5)))])
    assert (mean, low, high) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="no domain"):
        mean_paired_difference([])
