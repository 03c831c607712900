"""Lists of each row's strongest edges: how they are merged, how far they are whole, what is left when rows go.

Edges of equal strength stand by the lower other end, so that a list is the same in whatever order edges are found. A
walk on the stored graph reads the edges of single rows.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from g2is_assets.core.features import FeatureSource
from g2is_assets.core.rows import cosines_to, terms_of

if TYPE_CHECKING:
    from scipy.sparse import csr_array

N_SPARE: Final = 8
"""Edges kept of each row beyond those that are shown, of either kind: so many may go before its list is made anew."""


@dataclass(frozen=True)
class Edges:
    """Some edges: rows, other ends and cosines, arrays (m,); the rows are places in a block until they are merged."""

    rows: NDArray[np.int64]
    others: NDArray[np.int64]
    cosines: NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """The strongest edges of one kind of n rows, those of equal strength by the lower other end.

    Attributes:
        sign: 1 for the largest cosines, -1 for the smallest ones; strength is the cosine times the sign.
        others: (n, k) int64, -1 where there is none.
        strengths: (n, k) float64, descending; -inf where there is none.
        floor: (n,) float64, down to where a list knows all edges: of weaker ones it may lack some. -inf: it lacks none.
        floor_other: (n,) int64, the other end of the edge at the floor.
        worst: (n,) float64, what an edge needs to be of use, as far as is known.
    """

    sign: int
    others: NDArray[np.int64]
    strengths: NDArray[np.float64]
    floor: NDArray[np.float64]
    floor_other: NDArray[np.int64]
    worst: NDArray[np.float64]

    @classmethod
    def empty(cls, sign: int, n: int, k: int) -> "Ranked":
        """Nothing known."""
        lowest = np.full(n, -np.inf)
        others, strengths = np.full((n, k), -1), np.full((n, k), -np.inf)
        return cls(sign, others, strengths, lowest, np.full(n, -1), np.full(n, -np.inf if k else np.inf))

    @property
    def cosines(self) -> NDArray[np.float64]:
        """(n, k) cosines; infinite where there is no edge."""
        return self.strengths * self.sign

    @property
    def n_known(self) -> NDArray[np.int64]:
        """(n,) edges of each row."""
        return (self.others >= 0).sum(axis=1)

    def at(self, rows: NDArray[np.int64]) -> "Ranked":
        """Of some rows."""
        others, strengths = self.others[rows], self.strengths[rows]
        return Ranked(self.sign, others, strengths, self.floor[rows], self.floor_other[rows], self.worst[rows])

    def merge(self, rows: NDArray[np.int64], found: Edges) -> None:
        """Let rows (m,), in which the edges found have their places, know of these."""
        k, which, strengths = self.others.shape[1], rows[found.rows], found.cosines * self.sign
        above = strengths > self.floor[which]
        above |= (strengths == self.floor[which]) & (found.others < self.floor_other[which])
        above |= np.isneginf(self.floor[which])
        order = np.flatnonzero(above)
        order = order[np.argsort(found.rows[order], kind="stable")]
        places, counts = np.unique(found.rows[order], return_counts=True)
        if not len(places):
            return
        rows = rows[places]
        more = np.full((len(places), counts.max()), -np.inf)
        ends = np.full(more.shape, -1)
        where = (
            np.repeat(np.arange(len(places)), counts),
            np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts),
        )
        more[where], ends[where] = strengths[order], found.others[order]
        values = np.concatenate([self.strengths[rows], more], axis=1)
        both = np.concatenate([self.others[rows], ends], axis=1)
        best = np.argsort(-values, axis=1, kind="stable")[:, : k + 1]
        values, both = _ties_to_the_lower(values, both, best)
        self.strengths[rows], self.others[rows] = values[:, :k], both[:, :k]
        self.worst[rows] = np.maximum(self.worst[rows], values[:, k - 1])

    def first(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Other ends and cosines (n, k) of the strongest."""
        return self.others[:, :k], self.cosines[:, :k]

    def without(
        self, today: NDArray[np.int64], n_shown: int, n_all: NDArray[np.int64]
    ) -> tuple["Ranked", NDArray[np.bool_]]:
        """What is left of each list once rows have another index or are gone (-1), and whether it will do.

        Args:
            today: (n,) index of every row today.
            n_shown: Edges that have to be known.
            n_all: (n,) how many edges of this kind each row has: a list with all of them has no floor.
        """
        if not self.others.shape[1]:
            return self, n_all == 0 if n_shown else np.ones(len(today), dtype=bool)
        whole = self.n_known == n_all
        others = np.where(self.others >= 0, today[self.others], -1)
        order = np.argsort(others < 0, axis=1, kind="stable")
        others, strengths = np.take_along_axis(others, order, 1), np.take_along_axis(self.strengths, order, 1)
        strengths[others < 0] = -np.inf
        n_left = (others >= 0).sum(axis=1)
        last = np.arange(len(others)), np.maximum(n_left - 1, 0)
        floor = np.where(whole | (n_left == 0), -np.inf, strengths[last])
        left = Ranked(self.sign, others, strengths, floor, others[last], floor.copy())
        return left, whole | (n_left >= n_shown)


def _ties_to_the_lower(
    values: NDArray[np.float64], others: NDArray[np.int64], best: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The entries in the order `best`, of equal ones those of the lower other end first."""
    sorted_values = np.take_along_axis(values, best, 1)
    tied = ((sorted_values[:, 1:] == sorted_values[:, :-1]) & np.isfinite(sorted_values[:, 1:])).any(axis=1)
    for row in np.flatnonzero(tied):
        best[row] = np.lexsort((others[row], -values[row]))[: best.shape[1]]
    return np.take_along_axis(values, best, 1), np.take_along_axis(others, best, 1)


def edge_matrix(
    rows: NDArray[np.integer], others: NDArray[np.integer], cosines: NDArray[np.floating], n: int
) -> "csr_array":
    """(n, n) symmetric cosines of edges (m,) among n rows; an edge counts for both ends, whichever of them lists it."""
    from scipy.sparse import csr_array

    first, second = np.concatenate([rows, others]).astype(np.int64), np.concatenate([others, rows]).astype(np.int64)
    _, once = np.unique(first * n + second, return_index=True)
    values = np.concatenate([cosines, cosines]).astype(np.float64)[once]
    return csr_array((values, (first[once], second[once])), shape=(n, n))


class EdgeRows:
    """Rows that know their edges, in the place of `walk_state.CodedRows`; all stay active."""

    def __init__(self, source: FeatureSource, edges: "csr_array") -> None:
        """Wrap the edges (n, n) of a source's rows."""
        if edges.shape != (source.shape[0],) * 2:
            raise ValueError(f"edges {edges.shape} are not of {source.shape[0]} rows")
        self.source, self.edges = source, edges.tocsr()
        self.n_rows, self.n_columns = source.shape
        self.index = np.arange(self.n_rows)
        self.alive = terms_of(source).alive.astype(np.float64)

    def reset(self) -> None:
        """Every row is active."""

    def towards(self, directions: NDArray[np.floating]) -> NDArray[np.float64]:
        """(k, n) products with a few directions, of all rows."""
        return np.ascontiguousarray(cosines_to(self.source, directions).T)

    def to_row(self, number: int, likely: object = None) -> NDArray[np.float64]:
        """(n,) cosines of the row's edges, 0 where it has none."""
        found, part = np.zeros(self.n_rows), slice(*self.edges.indptr[number : number + 2])
        found[self.edges.indices[part]] = self.edges.data[part]
        return found
