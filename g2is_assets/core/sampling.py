"""Random subsets by hash order, and the paired comparison of two models' scores."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def hash_sample(row_ids: Sequence[str], n_rows: int, salt: str) -> list[str]:
    """The first `n_rows` of the row ids ordered by SHA-256 of salt and id.

    A simple random sample that depends on nothing but the salt and the ids themselves: a row that joins the pool
    displaces at most one other. Different salts give independent samples.

    Raises:
        ValueError: More rows are asked for than there are.
    """
    if not 0 <= n_rows <= len(row_ids):
        raise ValueError(f"cannot draw {n_rows} of {len(row_ids)} rows")
    return sorted(row_ids, key=lambda row_id: hashlib.sha256(f"{salt}/{row_id}".encode()).digest())[:n_rows]


def paired_difference(
    first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of first - second with its percentile bootstrap interval over rows.

    Args:
        first: (n,) scores, n >= 2.
        second: (n,) scores of the same rows in the same order.
        confidence: Of the interval.
        n_resamples: Bootstrap draws.
        seed: Of the draws.

    Returns:
        (mean, low, high). It covers the choice of rows only, not seeds of training or of the random subset.

    Raises:
        ValueError: Shapes differ, there are fewer than 2 rows, or a score is not finite.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape or len(one) < 2 or not np.isfinite([one, other]).all():
        raise ValueError(
            f"paired scores need two equal, finite vectors of 2 rows or more, got {one.shape}, {other.shape}"
        )
    differences = one - other
    mean = float(differences.mean())
    if np.ptp(differences) == 0:  # the bootstrap of a constant is that constant
        return mean, mean, mean
    interval = stats.bootstrap(
        (differences,),
        np.mean,
        confidence_level=confidence,
        n_resamples=n_resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return mean, float(interval.low), float(interval.high)
