"""Unit rows: the one convention that graph, core knowledge and walk share."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

ZERO_NORM: Final = 1e-10
"""A norm up to this counts as zero: its row has cosine 0 with everything (as in the published code)."""


def unit_rows(vectors: ArrayLike) -> NDArray[np.float32]:
    """Rows divided by their Euclidean norm; rows of norm <= 1e-10 become zero.

    Args:
        vectors: (n, d) of any float type; converted to float32 first.

    Returns:
        (n, d) float32, C-contiguous, every row of norm 1 or 0.

    Raises:
        ValueError: An entry is not finite, or so large that a norm overflows float32.
    """
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        bad = int((~np.isfinite(norms)).argmax())
        raise ValueError(f"row {bad} is not finite or overflows float32")
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > ZERO_NORM)
