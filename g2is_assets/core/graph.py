"""The stored part of the instruction graph: nearest and most conflicting edges, row statistics, duplicate groups.

The complete graph is implicit in the features. What is kept here is what people look at and what prunes. Every pair of
blocks of rows is multiplied once, as integers, and serves both; a graph that is known already is only extended.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from g2is_assets.core.codes import in_threads
from g2is_assets.core.codes import products as products_of
from g2is_assets.core.edges import N_SPARE, Edges, Ranked
from g2is_assets.core.features import FeatureSource, as_source
from g2is_assets.core.rows import Terms, codes_of, cosines_to, real_rows, sum_of, terms_of

BLOCK_ROWS: Final = 1024
"""Rows of a block: 8 MB of codes at 8,192 columns, and as much of cosines of two blocks."""
MapBlocks = Callable[[Callable[[], Callable[[tuple[int, int]], "Block"]], Iterable[tuple[int, int]]], Iterator["Block"]]
"""How pairs of blocks are worked off, such as `Engine.map`, by any threads; results come in the order of the pairs."""


@dataclass(frozen=True)
class Graph:
    """Edges and statistics of all n rows.

    Attributes:
        neighbors: (n, k) int64, the k rows with the largest cosine, descending; never the row itself.
        neighbor_cosines: (n, k) float64.
        conflicts: (n, c) int64, the c rows with the smallest cosine below 0, ascending; -1 where there are no more.
        conflict_cosines: (n, c) float64; infinite likewise.
        n_negative: (n,) int64, how many of the other rows have a negative cosine.
        mean_cosine: (n,) float64, mean cosine to the other rows.
        in_degree: (n,) int64, how many rows list this one among their nearest.
        duplicates: (m, 2) int64, pairs with a cosine of at least `duplicate_cosine`, the lower index first, sorted.
        near, far: The same lists with their spare edges.
    """

    neighbors: NDArray[np.int64]
    neighbor_cosines: NDArray[np.float64]
    conflicts: NDArray[np.int64]
    conflict_cosines: NDArray[np.float64]
    n_negative: NDArray[np.int64]
    mean_cosine: NDArray[np.float64]
    in_degree: NDArray[np.int64]
    duplicates: NDArray[np.int64]
    near: Ranked
    far: Ranked

    @property
    def conflict_share(self) -> NDArray[np.float64]:
        """(n,) share of the other rows with a negative cosine."""
        return self.n_negative / (len(self.n_negative) - 1)


@dataclass(frozen=True)
class Known:
    """Rows whose edges to all other rows but the new ones are known, as far as their lists go.

    Attributes:
        rows: (m,) int64, these rows; indices are today's.
        is_new: (n,) bool, rows that they have not met yet.
        near, far: Their lists (m, ...).
        n_negative: (m,) int64.
        duplicates: (p, 2) int64, pairs among rows that are not new.
    """

    rows: NDArray[np.int64]
    is_new: NDArray[np.bool_]
    near: Ranked
    far: Ranked
    n_negative: NDArray[np.int64]
    duplicates: NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """What one pair of blocks tells: of the rows of either side edges and counts (no second side on the diagonal)."""

    sides: list[tuple[Edges, Edges, NDArray[np.int64]]]
    duplicates: NDArray[np.int64]


@dataclass
class BlockWorker:
    """Multiplies pairs of blocks, several at the same time; holds the codes of the block that they have in common.

    Attributes:
        order: (n,) int64, rows in the order in which they are cut into blocks.
        whole: (n,) bool, rows that need all their edges.
        is_new: (n,) bool, rows that the others have not met.
        widths: Edges kept of each row, near and far.
        worst: (n,) each, what an edge near or far needs to be of use. Within the caller's process they are the lists'
            own and rise with them; elsewhere they stay, and more is found than is of use.
    """

    source: FeatureSource
    terms: Terms
    order: NDArray[np.int64]
    widths: tuple[int, int]
    duplicate_cosine: float
    block_rows: int
    whole: NDArray[np.bool_]
    is_new: NDArray[np.bool_]
    worst: tuple[NDArray[np.float64], NDArray[np.float64]]

    def __post_init__(self) -> None:
        self.held: tuple[int, NDArray[np.int8]] | None = None
        self.partly = not self.whole.all()

    def __call__(self, pair: tuple[int, int]) -> Block:
        """Candidates and counts of one pair of blocks."""
        first, second = pair
        held = self.held
        if held is None or held[0] != first:
            held = self.held = first, self.load(first)
        rows = held[1]
        columns = rows if first == second else self.load(second)
        here, there = self.numbers(first), self.numbers(second)
        products = products_of(rows, columns, len(self.source.weights))
        cosines = self.terms.at(here).cosines(products, self.terms.at(there))
        if first == second:
            np.fill_diagonal(cosines, np.nan)  # which is above or below nothing
        sides = [self.side(cosines, here, there, axis=1)]
        if first != second:
            sides.append(self.side(cosines, there, here, axis=0))
        alike = places(cosines >= self.duplicate_cosine)
        pairs = np.sort(np.stack([here[alike[0]], there[alike[1]]], axis=1), axis=1)
        return Block(sides, np.unique(pairs, axis=0))

    def side(
        self, cosines: NDArray[np.float64], rows: NDArray[np.int64], columns: NDArray[np.int64], axis: int
    ) -> tuple[Edges, Edges, NDArray[np.int64]]:
        """What cosines tell `rows`, whose own lie along the axis: edges near and far, and how many are negative."""
        if self.partly:
            news = self.whole[rows][:, None] | self.is_new[columns][None, :]
            cosines = np.where(news if axis == 1 else news.T, cosines, np.nan)
        negative = np.count_nonzero(cosines < 0, axis=axis)
        near = self.candidates(cosines, rows, columns, axis, np.full(len(rows), len(columns)), far=False)
        return near, self.candidates(cosines, rows, columns, axis, negative, far=True), negative

    def candidates(
        self,
        cosines: NDArray[np.float64],
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        axis: int,
        n_most: NDArray[np.integer],
        *,
        far: bool,
    ) -> Edges:
        """Edges strong enough to be of use to their row, which has at most `n_most`."""
        worst, width = self.worst[far][rows], self.widths[far]
        if not width:
            return Edges(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        # Until a list is full, every edge is of use; where these are many, only the strongest are looked at.
        unmet = np.flatnonzero(np.isneginf(worst) & (n_most > width))
        if len(unmet):
            some = cosines[unmet] if axis == 1 else cosines[:, unmet].T
            strengths = np.where(np.isnan(some), -np.inf, -some if far else some)
            worst[unmet] = np.partition(strengths, -width, axis=1)[:, -width]
        bound = np.minimum(-worst, -np.finfo(np.float64).tiny) if far else worst
        compare = np.less_equal if far else np.greater_equal
        found = places(compare(cosines, bound[:, None] if axis == 1 else bound))
        return Edges(found[1 - axis], columns[found[axis]], cosines[found])

    def numbers(self, block: int) -> NDArray[np.int64]:
        """The rows of a block."""
        return self.order[block * self.block_rows : (block + 1) * self.block_rows]

    def load(self, block: int) -> NDArray[np.int8]:
        """(rows, d) codes of a block."""
        numbers = self.numbers(block)
        return codes_of(numbers, self.source.rows(numbers), self.source)


def places(holds: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns (m,) each at which something holds; of few in many faster than `np.nonzero`."""
    return np.divmod(np.flatnonzero(holds), holds.shape[1])


def build_graph(
    features: ArrayLike | FeatureSource,
    n_neighbors: int,
    n_conflicts: int,
    duplicate_cosine: float = 0.999,
    block_rows: int = BLOCK_ROWS,
    *,
    known: Known | None = None,
    map_blocks: MapBlocks = lambda make_worker, pairs: in_threads(make_worker(), pairs),
    progress: Callable[[int], None] = lambda n_rows: None,
) -> Graph:
    """Exact nearest and most conflicting rows by blocked products of codes, each pair of blocks once.

    Features are (n, d) codes, floats, which are quantised, or a source; of neighbours (k >= 1) and conflicts (c >= 0)
    at most n - 1 are returned, ties going to the lower index. From `duplicate_cosine` on, two rows count as
    near-duplicates. Memory: the result, and of each thread the codes of two blocks and their cosines. Of rows known
    already only what is missing is multiplied. The same to the bit in blocks of any size, with any number of threads,
    made anew or extended. `progress` is called after each pair with the number of rows that it stands for; they sum
    to n.

    Raises:
        ValueError: Fewer than 2 rows.
    """
    source = as_source(features)
    n = source.shape[0]
    if n < 2:
        raise ValueError(f"a graph needs at least 2 rows, got {n}")
    widths = min(n_neighbors + N_SPARE, n - 1), min(n_conflicts + N_SPARE, n - 1) if n_conflicts else 0
    near, far = Ranked.empty(1, n, widths[0]), Ranked.empty(-1, n, widths[1])
    n_negative, terms = np.zeros(n, dtype=np.int64), terms_of(source)
    whole, is_new = np.ones(n, dtype=bool), np.ones(n, dtype=bool)
    if known is not None:
        whole[known.rows], is_new = False, known.is_new
        n_negative[known.rows] = known.n_negative
        for lists, before in ((near, known.near), (far, known.far)):
            width = min(lists.others.shape[1], before.others.shape[1])
            for name in ("others", "strengths"):
                getattr(lists, name)[known.rows, :width] = getattr(before, name)[:, :width]
            for name in ("floor", "floor_other", "worst"):
                getattr(lists, name)[known.rows] = getattr(before, name)
    order = np.concatenate([np.flatnonzero(whole), np.flatnonzero(~whole)])
    n_blocks, n_whole = -(-n // block_rows), int(whole.sum())
    pairs = [(i, j) for i in range(n_blocks) if i * block_rows < n_whole for j in range(i, n_blocks)]
    worst = near.worst, far.worst
    make_worker = partial(BlockWorker, source, terms, order, widths, duplicate_cosine, block_rows, whole, is_new, worst)
    duplicates = [np.empty((0, 2), dtype=np.int64) if known is None else known.duplicates]
    for number, (pair, block) in enumerate(zip(pairs, map_blocks(make_worker, pairs), strict=True)):
        for which, (nearest, farthest, negative) in zip(pair, block.sides, strict=False):
            rows = order[which * block_rows : (which + 1) * block_rows]
            near.merge(rows, nearest)
            far.merge(rows, farthest)
            n_negative[rows] += negative
        duplicates.append(block.duplicates)
        progress(n * (number + 1) // len(pairs) - n * number // len(pairs))
    neighbors, neighbor_cosines = near.first(n_neighbors)
    conflicts, conflict_cosines = far.first(n_conflicts)
    return Graph(
        neighbors,
        neighbor_cosines,
        conflicts,
        conflict_cosines,
        n_negative,
        mean_cosine=mean_cosines(source, terms),
        in_degree=np.bincount(neighbors.ravel(), minlength=n),
        duplicates=np.unique(np.concatenate(duplicates), axis=0),
        near=near,
        far=far,
    )


def known_rows(previous: Graph, today: NDArray[np.int64], n: int, n_negative_gone: NDArray[np.int64]) -> Known:
    """What a previous graph tells about today's n rows; rows that lost more edges than they had spare are not known.

    Args:
        previous: The graph before.
        today: (n_previous,) int64, today's index of every row of it, -1 for those that are gone.
        n: Number of rows today.
        n_negative_gone: (n_previous,) int64, how many rows that are gone each one had a negative cosine to.
    """
    n_before = len(today)
    near, near_does = previous.near.without(today, previous.neighbors.shape[1], np.full(n_before, n_before - 1))
    far, far_does = previous.far.without(today, previous.conflicts.shape[1], previous.n_negative)
    kept = np.flatnonzero((today >= 0) & near_does & far_does)
    is_new = np.ones(n, dtype=bool)
    is_new[today[today >= 0]] = False
    pairs = today[previous.duplicates]
    return Known(
        rows=today[kept],
        is_new=is_new,
        near=near.at(kept),
        far=far.at(kept),
        n_negative=(previous.n_negative - n_negative_gone)[kept],
        duplicates=np.sort(pairs[(pairs >= 0).all(axis=1)], axis=1),
    )


def mean_cosines(source: FeatureSource, terms: Terms) -> NDArray[np.float64]:
    """(n,) mean cosine of every row to the others, from the sum of all rows: exact at the cost of two passes."""
    together = cosines_to(source, sum_of(source, terms)[None], terms)[:, 0]
    return (together - terms.alive) / (source.shape[0] - 1)


def count_negative(rows: FeatureSource, others: FeatureSource, block_rows: int = BLOCK_ROWS) -> NDArray[np.int64]:
    """(n,) how many of `others` each of `rows`, of the same store, has a negative cosine to."""
    counts, terms, of_others = np.zeros(rows.shape[0], dtype=np.int64), terms_of(rows), terms_of(others)
    for start in range(0, others.shape[0], block_rows):
        rest = np.arange(start, min(start + block_rows, others.shape[0]))
        block = codes_of(rest, others.rows(rest), others)
        for numbers, values in rows.blocks():
            products = products_of(codes_of(numbers, values, rows), block, len(rows.weights))
            counts[numbers] += (terms.at(numbers).cosines(products, of_others.at(rest)) < 0).sum(axis=1)
    return counts


def sampled_cosines(source: FeatureSource, n_sampled: int = 2000) -> NDArray[np.float64]:
    """Cosines of all pairs among the first `n_sampled` rows; a random sample where ids are hashes and sorted."""
    rows = real_rows(source, source.rows(np.arange(min(n_sampled, source.shape[0]))))
    return (rows @ rows.T)[np.triu_indices(len(rows), 1)]


def duplicate_groups(n: int, pairs: NDArray[Any]) -> NDArray[np.int64]:
    """(n,) the lowest index among the rows that each one is linked to by pairs, directly or through others."""
    links = coo_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, label = connected_components(links, directed=False)
    first = np.full(label.max() + 1, n, dtype=np.int64)
    np.minimum.at(first, label, np.arange(n))
    return first[label]
