"""The stored part of the instruction graph: nearest and most conflicting edges, row statistics, duplicate groups.

The complete graph is implicit in the features. What is kept here is what people look at and what prunes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from g2is_assets.core.vectors import unit_rows


@dataclass(frozen=True)
class Graph:
    """Edges and statistics of n rows.

    Attributes:
        neighbors: (n, k) int64, the k rows with the largest cosine, descending; never the row itself.
        neighbor_cosines: (n, k) float32.
        conflicts: (n, c) int64, the c rows with the smallest cosine, ascending.
        conflict_cosines: (n, c) float32; entries >= 0 are no conflicts and are not stored as edges.
        mean_cosine: (n,) float64, mean cosine to the other rows.
        conflict_share: (n,) float64, share of the other rows with a negative cosine.
        in_degree: (n,) int64, how many rows list this one among their nearest.
        duplicate_group: (n,) int64, the lowest index among the rows that it nearly equals, itself included.
    """

    neighbors: NDArray[np.int64]
    neighbor_cosines: NDArray[np.float32]
    conflicts: NDArray[np.int64]
    conflict_cosines: NDArray[np.float32]
    mean_cosine: NDArray[np.float64]
    conflict_share: NDArray[np.float64]
    in_degree: NDArray[np.int64]
    duplicate_group: NDArray[np.int64]


def build_graph(
    features: ArrayLike,
    n_neighbors: int,
    n_conflicts: int,
    duplicate_cosine: float = 0.999,
    block_rows: int = 1024,
    progress: Callable[[int], None] = lambda n_rows: None,
) -> Graph:
    """Exact nearest and most conflicting rows by blocked matrix products.

    Memory: the float32 features and one (block_rows, n) block. Rows that are linked by cosines of at least
    `duplicate_cosine`, directly or through others, form one duplicate group. Equal cosines may list either row.

    Args:
        features: (n, d) float, n >= 2, normalised here.
        n_neighbors: k >= 1; at most n - 1 are returned.
        n_conflicts: c >= 0; at most n - 1 are returned.
        duplicate_cosine: Cosine from which two rows count as near-duplicates.
        block_rows: Rows of one block.
        progress: Called with the number of rows done after each block.

    Raises:
        ValueError: Fewer than 2 rows.
    """
    rows = torch.from_numpy(unit_rows(features))
    n = len(rows)
    if n < 2:
        raise ValueError(f"a graph needs at least 2 rows, got {n}")
    near_count, far_count = min(n_neighbors, n - 1), min(n_conflicts, n - 1)
    near, near_cos = np.empty((n, near_count), np.int64), np.empty((n, near_count), np.float32)
    far, far_cos = np.empty((n, far_count), np.int64), np.empty((n, far_count), np.float32)
    mean, negative = np.empty(n), np.empty(n)
    pairs: list[NDArray[np.int64]] = []
    for start in range(0, n, block_rows):
        stop = min(start + block_rows, n)
        here = slice(start, stop)
        cosines = rows[here] @ rows.T
        own = (torch.arange(stop - start), torch.arange(start, stop))
        cosines[own] = 0.0
        mean[here] = cosines.double().sum(dim=1).numpy() / (n - 1)
        negative[here] = (cosines < 0).double().sum(dim=1).numpy() / (n - 1)
        cosines[own] = -torch.inf
        top = torch.topk(cosines, near_count, dim=1)
        near[here], near_cos[here] = top.indices.numpy(), top.values.numpy()
        pairs.append(torch.nonzero(cosines >= duplicate_cosine).numpy() + np.array([[start, 0]]))
        cosines[own] = torch.inf
        bottom = torch.topk(cosines, far_count, dim=1, largest=False)
        far[here], far_cos[here] = bottom.indices.numpy(), bottom.values.numpy()
        progress(stop - start)
    return Graph(
        neighbors=near,
        neighbor_cosines=near_cos,
        conflicts=far,
        conflict_cosines=far_cos,
        mean_cosine=mean,
        conflict_share=negative,
        in_degree=np.bincount(near.ravel(), minlength=n),
        duplicate_group=_groups(np.concatenate(pairs), n),
    )


def _groups(pairs: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    links = coo_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, label = connected_components(links, directed=False)
    first = np.full(label.max() + 1, n, dtype=np.int64)
    np.minimum.at(first, label, np.arange(n))
    return first[label]
