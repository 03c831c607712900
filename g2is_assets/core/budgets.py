"""How many rows each direction of a domain may take."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def allocate_budgets(total: int, weights: ArrayLike) -> NDArray[np.int64]:
    """Split a budget by weight with the largest-remainder rule.

    Args:
        total: Number of rows to give out, >= 0.
        weights: (c,) non-negative, not all 0; normalised here.

    Returns:
        (c,) int64 that sums to `total`. Equal remainders: the higher component (lower index) first.

    Raises:
        ValueError: A negative total, or weights that are negative, not finite or all 0.
    """
    shares = np.asarray(weights, dtype=np.float64)
    if total < 0 or shares.ndim != 1 or not np.isfinite(shares).all() or (shares < 0).any() or shares.sum() <= 0:
        raise ValueError(f"cannot split {total} rows by weights {shares}")
    exact = total * shares / shares.sum()
    budgets = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - budgets), kind="stable")
    budgets[order[: total - budgets.sum()]] += 1
    return budgets
