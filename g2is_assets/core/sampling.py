"""Random subsets by hash order, and the paired comparison of two models' scores."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
    """Mean of first - second, (n,) scores of the same rows, with its percentile bootstrap interval over rows.

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
    from scipy import stats  # takes as long to import as half of the code location, and every command loads that

    interval = stats.bootstrap(
        (differences,),
        np.mean,
        confidence_level=confidence,
        n_resamples=n_resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return mean, float(interval.low), float(interval.high)


def mean_paired_difference(
    pairs: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean of first less mean of second, over domains, with its percentile bootstrap interval over rows and seeds.

    Each draw takes rows and, independently, training seeds with replacement (the pigeonhole bootstrap, Owen 2007): a
    row stays whole over its seeds, a seed over its rows, for both are causes that scores share. It leans to the wide
    side by the part that is neither row's nor seed's. Rows are drawn for both at once; seeds too where both have as
    many, else for each apart. One seed does not vary. With two or three, the few values that a draw of seeds can take
    make it too narrow in the seeds' part, by about (s - 1) / s in variance; that is said where results are quoted.
    Every domain has rows and seeds of its own; the domains are not drawn.

    The pairs are per domain (s, n) scores of one and (t, n) of the other, s and t >= 1 seeds, n >= 2 rows, of the same
    rows in the same order; with t = s, of the same seeds too. s, t and n may differ between domains.

    Returns:
        (mean, low, high).

    Raises:
        ValueError: There is no domain; or in one shapes differ, there are fewer than 2 rows or no seed, or a score is
            not finite.
    """
    if not pairs:
        raise ValueError("there is no domain to compare in")
    rng, means, draws = np.random.default_rng(seed), [], []
    for first, second in pairs:
        one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
        fits = one.ndim == other.ndim == 2 and one.shape[1] == other.shape[1] >= 2 and min(len(one), len(other)) >= 1
        if not fits or not (np.isfinite(one).all() and np.isfinite(other).all()):
            raise ValueError(
                "paired scores need two finite (seeds, rows >= 2) arrays of the same rows, got "
                f"{one.shape}, {other.shape}"
            )
        rows = _shares(rng, one.shape[1], n_resamples)
        seeds = _shares(rng, len(one), n_resamples)
        others = seeds if len(one) == len(other) else _shares(rng, len(other), n_resamples)
        draws.append(((rows @ one.T) * seeds).sum(axis=1) - ((rows @ other.T) * others).sum(axis=1))
        means.append(one.mean() - other.mean())
    low, high = np.quantile(np.mean(draws, axis=0), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(np.mean(means)), float(low), float(high)


def _shares(rng: np.random.Generator, n: int, n_resamples: int) -> NDArray[np.float64]:
    """(n_resamples, n) draws with replacement: each one's share of its draw."""
    return rng.multinomial(n, np.full(n, 1 / n), size=n_resamples) / n
