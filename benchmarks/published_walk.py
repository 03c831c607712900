"""The gradient walk as its description has it: on a complete sorted graph, candidate by candidate.

Written from the description for comparison only, on NumPy arrays and with every convenience that costs nothing: the
adjacency comes from blocked matrix products, anchors from one product, and a vector's cosine from one dot product.
"""

import numpy as np
from numpy.typing import NDArray

from g2is_assets.core.rows import ZERO_NORM, unit_rows

Adjacency = tuple[NDArray[np.int32], NDArray[np.float32]]


def sorted_adjacency(unit: NDArray[np.float32], block_rows: int = 256) -> Adjacency:
    """For every row all other rows by descending cosine, and these cosines: the input of the published walk.

    Args:
        unit: (n, d) float32, unit rows.
        block_rows: Rows that are sorted at a time; only limits the working memory.

    Returns:
        (n, n - 1) int32 indices and (n, n - 1) float32 cosines. Equal cosines: the lower index first.
    """
    n = len(unit)
    neighbors, cosines = np.empty((n, n - 1), np.int32), np.empty((n, n - 1), np.float32)
    for start in range(0, n, block_rows):
        block = unit[start : start + block_rows] @ unit.T
        here = slice(start, start + len(block))
        order = np.argsort(-block, axis=1, kind="stable")
        others = order != np.arange(start, start + len(block))[:, None]
        neighbors[here] = order[others].reshape(len(block), n - 1)
        cosines[here] = np.take_along_axis(block, neighbors[here], axis=1)
    return neighbors, cosines


def published_walk(
    unit: NDArray[np.float32],
    adjacency: Adjacency,
    components: NDArray[np.float32],
    budgets: NDArray[np.int64],
    delta: float = 0.8,
) -> list[int]:
    """Rows in the order taken; per component an anchor, then the first acceptable neighbour of the last row.

    Args:
        unit: (n, d) float32, unit rows.
        adjacency: From `sorted_adjacency`.
        components: (c, d) with the signs to use.
        budgets: (c,) rows per component.
        delta: Consistency threshold.
    """
    taken = np.zeros(len(unit), dtype=bool)
    rows: list[int] = []
    for core, budget in zip(unit_rows(components), budgets, strict=True):
        chosen: list[int] = []
        if budget and not taken.all():
            chosen.append(int(np.where(taken, -np.inf, unit @ core).argmax()))
            taken[chosen[0]] = True
        while chosen and len(chosen) < budget:
            found = _next_row(unit, adjacency, taken, chosen, core, delta)
            if found is None:
                break
            chosen.append(found)
            taken[found] = True
        rows += chosen
    return rows


def _next_row(
    unit: NDArray[np.float32],
    adjacency: Adjacency,
    taken: NDArray[np.bool_],
    chosen: list[int],
    core: NDArray[np.float32],
    delta: float,
) -> int | None:
    before = _consistency(unit[chosen], core)
    neighbors, cosines = adjacency[0][chosen[-1]], adjacency[1][chosen[-1]]
    for candidate, cosine in zip(neighbors.tolist(), cosines.tolist(), strict=True):
        if cosine < 0:
            return None  # all that follow are in conflict with the last row
        if taken[candidate] or any(unit[candidate] @ unit[row] < 0 for row in chosen):
            continue
        if _consistency(unit[[*chosen, candidate]], core) >= delta * before:
            return candidate
    return None


def _consistency(rows: NDArray[np.float32], core: NDArray[np.float32]) -> float:
    total = rows.sum(axis=0)
    norm = np.linalg.norm(total)
    return abs(float(total @ core) / float(norm)) if norm > ZERO_NORM else 0.0
