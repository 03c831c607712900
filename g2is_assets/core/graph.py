"""The stored part of the instruction graph: nearest and most conflicting edges, row statistics, duplicate groups.

The complete graph is implicit in the features. What is kept here is what people look at and what prunes. Every pair of
blocks of rows is multiplied once and serves both; a graph that is known already is only extended.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from g2is_assets.core.rows import FeatureSource, as_source, unit_rows

BLOCK_ROWS: Final = 2048
"""Rows of a block: 64 MB of float32 at 8,192 columns, and large enough that products run at the processor's peak."""

MapBlocks = Callable[[Callable[[], Callable[[tuple[int, int]], "Block"]], Iterable[tuple[int, int]]], Iterator["Block"]]
"""How pairs of blocks are worked off, such as `Engine.map`; results come in the order of the pairs."""


@dataclass(frozen=True)
class Lists:
    """Strongest edges of m rows, and how many are negative; of a pair of blocks, what it tells the rows of one of them.

    Attributes:
        neighbors: (m, k) int64, the k rows with the largest cosine, descending; never the row itself.
        neighbor_cosines: (m, k) float32.
        conflicts: (m, c) int64, the c rows with the smallest cosine, ascending.
        conflict_cosines: (m, c) float32; entries >= 0 are no conflicts and are not stored as edges.
        n_negative: (m,) int64, how many of the other rows have a negative cosine.
    """

    neighbors: NDArray[np.int64]
    neighbor_cosines: NDArray[np.float32]
    conflicts: NDArray[np.int64]
    conflict_cosines: NDArray[np.float32]
    n_negative: NDArray[np.int64]

    def merge(self, rows: NDArray[np.int64], other: "Lists") -> None:
        """Let some rows know of more edges, in place."""
        self.n_negative[rows] += other.n_negative
        _keep_best(self.neighbors, self.neighbor_cosines, rows, other.neighbors, other.neighbor_cosines, largest=True)
        _keep_best(self.conflicts, self.conflict_cosines, rows, other.conflicts, other.conflict_cosines, largest=False)


@dataclass(frozen=True)
class Graph(Lists):
    """Edges and statistics of all n rows.

    Attributes:
        mean_cosine: (n,) float64, mean cosine to the other rows.
        in_degree: (n,) int64, how many rows list this one among their nearest.
        duplicates: (m, 2) int64, pairs with a cosine of at least `duplicate_cosine`, the lower index first, sorted.
    """

    mean_cosine: NDArray[np.float64]
    in_degree: NDArray[np.int64]
    duplicates: NDArray[np.int64]

    @property
    def conflict_share(self) -> NDArray[np.float64]:
        """(n,) share of the other rows with a negative cosine."""
        return self.n_negative / (len(self.n_negative) - 1)


@dataclass(frozen=True)
class Known(Lists):
    """Rows whose edges to all other rows but the new ones are known, each with all that it can have without these.

    Attributes:
        rows: (m,) int64, these rows; indices are today's.
        is_new: (n,) bool, rows that they have not met yet.
        duplicates: (p, 2) int64, pairs among rows that are not new.
    """

    rows: NDArray[np.int64]
    is_new: NDArray[np.bool_]
    duplicates: NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """What one pair of blocks tells: the rows of the first, those of the second (None on the diagonal), duplicates."""

    first: Lists
    second: Lists | None
    duplicates: NDArray[np.int64]


@dataclass
class BlockWorker:
    """Multiplies pairs of blocks; holds two blocks of unit rows and their product.

    Attributes:
        order: (n,) int64, rows in the order in which they are cut into blocks.
        whole: (n,) bool, rows that need all their edges.
        is_new: (n,) bool, rows that the others have not met.
    """

    source: FeatureSource
    order: NDArray[np.int64]
    n_neighbors: int
    n_conflicts: int
    duplicate_cosine: float
    block_rows: int
    whole: NDArray[np.bool_]
    is_new: NDArray[np.bool_]

    def __post_init__(self) -> None:
        self.held: tuple[int, Tensor] | None = None

    def __call__(self, pair: tuple[int, int]) -> Block:
        """Candidates and counts of one pair of blocks."""
        first, second = pair
        if self.held is None or self.held[0] != first:
            self.held = (first, self.load(first))
        rows = self.held[1]
        columns = rows if first == second else self.load(second)
        cosines = rows @ columns.T
        here, there = self.numbers(first), self.numbers(second)
        duplicate = torch.nonzero(cosines >= self.duplicate_cosine).numpy()
        pairs = np.sort(np.stack([here[duplicate[:, 0]], there[duplicate[:, 1]]], axis=1), axis=1)
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
        return Block(
            self.side(cosines, here, there),
            None if first == second else self.side(cosines.T.contiguous(), there, here),
            np.unique(pairs, axis=0),
        )

    def side(self, cosines: Tensor, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Lists:
        """What `cosines` (len(rows), len(columns)) tells `rows`."""
        news = torch.from_numpy(self.whole[rows][:, None] | self.is_new[columns][None, :])
        news &= torch.from_numpy(rows[:, None] != columns[None, :])
        near, far = min(self.n_neighbors, len(columns)), min(self.n_conflicts, len(columns))
        largest = torch.topk(torch.where(news, cosines, -torch.inf), near, dim=1)
        smallest = torch.topk(torch.where(news, cosines, torch.inf), far, dim=1, largest=False)
        return Lists(
            neighbors=columns[largest.indices.numpy()],
            neighbor_cosines=largest.values.numpy(),
            conflicts=columns[smallest.indices.numpy()],
            conflict_cosines=smallest.values.numpy(),
            n_negative=((cosines < 0) & news).sum(dim=1).numpy(),
        )

    def numbers(self, block: int) -> NDArray[np.int64]:
        """The rows of a block."""
        return self.order[block * self.block_rows : (block + 1) * self.block_rows]

    def load(self, block: int) -> Tensor:
        """(rows, d) float32 unit rows of a block."""
        return torch.from_numpy(unit_rows(self.source.rows(self.numbers(block))))


def build_graph(
    features: ArrayLike | FeatureSource,
    n_neighbors: int,
    n_conflicts: int,
    duplicate_cosine: float = 0.999,
    block_rows: int = BLOCK_ROWS,
    *,
    known: Known | None = None,
    map_blocks: MapBlocks = lambda make_worker, pairs: map(make_worker(), pairs),
    progress: Callable[[int], None] = lambda n_rows: None,
) -> Graph:
    """Exact nearest and most conflicting rows by blocked matrix products, each pair of blocks once.

    Features are (n, d) float or a source, normalised here; of neighbours (k >= 1) and conflicts (c >= 0) at most
    n - 1 are returned. From `duplicate_cosine` on, two rows count as near-duplicates. Memory: the result, two blocks of
    float32 rows and their product. Equal cosines may list either row. Of rows known already only what is missing is
    multiplied; such a graph agrees with one made anew up to rounding of float32 products. `progress` is called after
    each pair with the number of rows that it stands for; they sum to n.

    Raises:
        ValueError: Fewer than 2 rows.
    """
    source = as_source(features)
    n = source.shape[0]
    if n < 2:
        raise ValueError(f"a graph needs at least 2 rows, got {n}")
    near, far = (n, min(n_neighbors, n - 1)), (n, min(n_conflicts, n - 1))
    lists = Lists(
        neighbors=np.zeros(near, np.int64),
        neighbor_cosines=np.full(near, -np.inf, np.float32),
        conflicts=np.zeros(far, np.int64),
        conflict_cosines=np.full(far, np.inf, np.float32),
        n_negative=np.zeros(n, dtype=np.int64),
    )
    whole, is_new = np.ones(n, dtype=bool), np.ones(n, dtype=bool)
    if known is not None:
        whole[known.rows], is_new = False, known.is_new
        lists.merge(known.rows, known)
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
        **vars(lists),
        mean_cosine=mean_cosines(source),
        in_degree=np.bincount(lists.neighbors.ravel(), minlength=n),
        duplicates=np.unique(found, axis=0),
    )


def known_rows(previous: Graph, today: NDArray[np.int64], n: int, n_negative_gone: NDArray[np.int64]) -> Known:
    """What a previous graph tells about today's n rows; rows that listed one that is gone are not known.

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


def _keep_best(
    ends: NDArray[np.int64],
    cosines: NDArray[np.float32],
    rows: NDArray[np.int64],
    more_ends: NDArray[np.int64],
    more_cosines: NDArray[np.float32],
    *,
    largest: bool,
) -> None:
    """Let the lists of some rows, in place, have the strongest of their entries and more, sorted."""
    values = torch.from_numpy(np.concatenate([cosines[rows], more_cosines], axis=1))
    top = torch.topk(values, cosines.shape[1], dim=1, largest=largest)
    both = np.concatenate([ends[rows], more_ends], axis=1)
    ends[rows], cosines[rows] = np.take_along_axis(both, top.indices.numpy(), 1), top.values.numpy()


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
