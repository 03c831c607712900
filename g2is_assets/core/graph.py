"""The stored part of the instruction graph: nearest and most conflicting edges, row statistics, duplicate groups.

The complete graph is implicit in the features. What is kept here is what people look at and what prunes. Every pair of
blocks of rows is multiplied once and serves both; a graph that is known already is only extended.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from g2is_assets.core.blocks import BLOCK_ROWS, BlockWorker, MapBlocks, Side, map_in_process
from g2is_assets.core.rows import FeatureSource, as_source
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
        n_negative: (n,) int64, how many of the other rows have a negative cosine.
        in_degree: (n,) int64, how many rows list this one among their nearest.
        duplicates: (m, 2) int64, pairs with a cosine of at least `duplicate_cosine`, the lower index first, sorted.
    """

    neighbors: NDArray[np.int64]
    neighbor_cosines: NDArray[np.float32]
    conflicts: NDArray[np.int64]
    conflict_cosines: NDArray[np.float32]
    mean_cosine: NDArray[np.float64]
    n_negative: NDArray[np.int64]
    in_degree: NDArray[np.int64]
    duplicates: NDArray[np.int64]

    @property
    def conflict_share(self) -> NDArray[np.float64]:
        """(n,) share of the other rows with a negative cosine."""
        return self.n_negative / (len(self.n_negative) - 1)


@dataclass(frozen=True)
class Known:
    """Rows whose edges to all other rows but the new ones are known; indices are today's.

    Attributes:
        rows: (m,) int64, these rows.
        is_new: (n,) bool, rows that they have not met yet.
        neighbors, neighbor_cosines, conflicts, conflict_cosines: As in `Graph`, of `rows`, each with all entries that a
            row can have without the new ones.
        n_negative: (m,) int64, of `rows`, without the new ones.
        duplicates: (p, 2) int64, pairs among rows that are not new.
    """

    rows: NDArray[np.int64]
    is_new: NDArray[np.bool_]
    neighbors: NDArray[np.int64]
    neighbor_cosines: NDArray[np.float32]
    conflicts: NDArray[np.int64]
    conflict_cosines: NDArray[np.float32]
    n_negative: NDArray[np.int64]
    duplicates: NDArray[np.int64]


def build_graph(
    features: ArrayLike | FeatureSource,
    n_neighbors: int,
    n_conflicts: int,
    duplicate_cosine: float = 0.999,
    block_rows: int = BLOCK_ROWS,
    *,
    known: Known | None = None,
    map_blocks: MapBlocks = map_in_process,
    progress: Callable[[int], None] = lambda n_rows: None,
) -> Graph:
    """Exact nearest and most conflicting rows by blocked matrix products, each pair of blocks once.

    Memory: the result, two blocks of float32 rows and their product. Equal cosines may list either row. A graph that
    goes on from `known` agrees with one made anew up to the rounding of float32 products.

    Args:
        features: (n, d) float or a source of them, n >= 2, normalised here.
        n_neighbors: k >= 1; at most n - 1 are returned.
        n_conflicts: c >= 0; at most n - 1 are returned.
        duplicate_cosine: Cosine from which two rows count as near-duplicates.
        block_rows: Rows of one block.
        known: Rows whose edges are known but for new rows; only what is missing is multiplied. None: nothing is.
        map_blocks: Where the pairs are worked off.
        progress: Called after each pair with the number of rows that it stands for; they sum to n.

    Raises:
        ValueError: Fewer than 2 rows.
    """
    source = as_source(features)
    n = source.shape[0]
    if n < 2:
        raise ValueError(f"a graph needs at least 2 rows, got {n}")
    lists = _Lists(n, min(n_neighbors, n - 1), min(n_conflicts, n - 1))
    whole, is_new = np.ones(n, dtype=bool), np.ones(n, dtype=bool)
    if known is not None:
        whole[known.rows], is_new = False, known.is_new
        lists.begin(known)
    order = np.concatenate([np.flatnonzero(whole), np.flatnonzero(~whole)])
    n_blocks, n_whole = -(-n // block_rows), int(whole.sum())
    pairs = [(i, j) for i in range(n_blocks) if i * block_rows < n_whole for j in range(i, n_blocks)]
    make_worker = partial(
        BlockWorker, source, order, n_neighbors, n_conflicts, duplicate_cosine, block_rows, whole, is_new
    )
    duplicates = [] if known is None else [known.duplicates]
    for number, ((i, j), block) in enumerate(zip(pairs, map_blocks(make_worker, pairs), strict=True)):
        lists.merge(order[i * block_rows : (i + 1) * block_rows], block.first)
        if block.second is not None:
            lists.merge(order[j * block_rows : (j + 1) * block_rows], block.second)
        duplicates.append(block.duplicates)
        progress(n * (number + 1) // len(pairs) - n * number // len(pairs))
    found = np.concatenate(duplicates) if duplicates else np.empty((0, 2), dtype=np.int64)
    return Graph(
        neighbors=lists.near,
        neighbor_cosines=lists.near_cosines,
        conflicts=lists.far,
        conflict_cosines=lists.far_cosines,
        mean_cosine=mean_cosines(source),
        n_negative=lists.n_negative,
        in_degree=np.bincount(lists.near.ravel(), minlength=n),
        duplicates=np.unique(found, axis=0),
    )


def known_rows(previous: Graph, today: NDArray[np.int64], n: int, n_negative_gone: NDArray[np.int64]) -> Known:
    """What a previous graph tells about today's rows; rows that listed one that is gone are not known.

    Args:
        previous: The graph before; entries of `conflicts` with an infinite cosine stand for no edge.
        today: (n_previous,) int64, today's index of every row of it, -1 for those that are gone.
        n: Number of rows today.
        n_negative_gone: (n_previous,) int64, how many rows that are gone each one had a negative cosine to.
    """
    gone = today < 0
    stale = gone | gone[previous.neighbors].any(axis=1)
    stale |= (gone[previous.conflicts] & np.isfinite(previous.conflict_cosines)).any(axis=1)
    # Products of other shapes round otherwise: a cosine of about 0 may have counted as positive before.
    stale |= previous.n_negative < n_negative_gone
    kept = np.flatnonzero(~stale)
    is_new = np.ones(n, dtype=bool)
    is_new[today[~gone]] = False
    pairs = today[previous.duplicates]
    return Known(
        rows=today[kept],
        is_new=is_new,
        neighbors=today[previous.neighbors[kept]],
        neighbor_cosines=previous.neighbor_cosines[kept],
        conflicts=today[previous.conflicts[kept]],
        conflict_cosines=previous.conflict_cosines[kept],
        n_negative=(previous.n_negative - n_negative_gone)[kept],
        duplicates=np.sort(pairs[(pairs >= 0).all(axis=1)], axis=1),
    )


class _Lists:
    """The best candidates so far of every row."""

    def __init__(self, n: int, n_near: int, n_far: int) -> None:
        self.near, self.near_cosines = np.zeros((n, n_near), np.int64), np.full((n, n_near), -np.inf, np.float32)
        self.far, self.far_cosines = np.zeros((n, n_far), np.int64), np.full((n, n_far), np.inf, np.float32)
        self.n_negative = np.zeros(n, dtype=np.int64)

    def begin(self, known: Known) -> None:
        side = Side(known.neighbors, known.neighbor_cosines, known.conflicts, known.conflict_cosines, known.n_negative)
        self.merge(known.rows, side)

    def merge(self, rows: NDArray[np.int64], side: Side) -> None:
        self.n_negative[rows] += side.n_negative
        self.near[rows], self.near_cosines[rows] = _best(
            (self.near[rows], self.near_cosines[rows]), (side.near, side.near_cosines), largest=True
        )
        self.far[rows], self.far_cosines[rows] = _best(
            (self.far[rows], self.far_cosines[rows]), (side.far, side.far_cosines), largest=False
        )


def _best(
    one: tuple[NDArray[np.int64], NDArray[np.float32]],
    other: tuple[NDArray[np.int64], NDArray[np.float32]],
    largest: bool,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The strongest entries of two lists, as many as the first holds, sorted."""
    values = torch.from_numpy(np.concatenate([one[1], other[1]], axis=1))
    top = torch.topk(values, one[1].shape[1], dim=1, largest=largest)
    return np.take_along_axis(np.concatenate([one[0], other[0]], axis=1), top.indices.numpy(), 1), top.values.numpy()


def mean_cosines(source: FeatureSource) -> NDArray[np.float64]:
    """(n,) mean cosine of every row to the others, from the sum of all rows: exact at the cost of two passes."""
    n, d = source.shape
    total = np.zeros(d)
    for _, values in source.blocks():
        total += unit_rows(values).sum(axis=0, dtype=np.float64)
    means = np.empty(n)
    for numbers, values in source.blocks():
        rows = unit_rows(values).astype(np.float64)
        means[numbers] = (rows @ total - np.einsum("nd,nd->n", rows, rows)) / (n - 1)
    return means


def count_negative(rows: FeatureSource, others: FeatureSource, block_rows: int = BLOCK_ROWS) -> NDArray[np.int64]:
    """(n,) how many of `others` each of `rows` has a negative cosine to."""
    counts = np.zeros(rows.shape[0], dtype=np.int64)
    for numbers, values in rows.blocks():
        block = torch.from_numpy(unit_rows(values))
        for start in range(0, others.shape[0], block_rows):
            rest = np.arange(start, min(start + block_rows, others.shape[0]))
            cosines = block @ torch.from_numpy(unit_rows(others.rows(rest))).T
            counts[numbers] += (cosines < 0).sum(dim=1).numpy()
    return counts


def sampled_cosines(source: FeatureSource, n_sampled: int = 2000) -> NDArray[np.float32]:
    """Cosines of all pairs among the first `n_sampled` rows; a random sample where ids are hashes and sorted."""
    rows = torch.from_numpy(unit_rows(source.rows(np.arange(min(n_sampled, source.shape[0])))))
    pairs = torch.triu_indices(len(rows), len(rows), 1)
    return (rows @ rows.T)[pairs[0], pairs[1]].numpy()


def duplicate_groups(n: int, pairs: NDArray[Any]) -> NDArray[np.int64]:
    """(n,) the lowest index among the rows that each one is linked to by pairs, directly or through others."""
    links = coo_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, label = connected_components(links, directed=False)
    first = np.full(label.max() + 1, n, dtype=np.int64)
    np.minimum.at(first, label, np.arange(n))
    return first[label]
