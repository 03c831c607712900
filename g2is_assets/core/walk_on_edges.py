"""The balanced walk on the stored graph: of redundancy it sees the stored edges alone, so no row meets all others.

A hundred domains over one pool then cost one pass each, for their pull.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from g2is_assets.core.balance import BalancedWalk, node_weights
from g2is_assets.core.rows import FeatureSource, cosines_to, real_rows, terms_of
from g2is_assets.core.walk_state import Likely


def edge_matrix(
    rows: NDArray[np.integer], others: NDArray[np.integer], cosines: NDArray[np.floating], n: int
) -> csr_array:
    """(n, n) symmetric cosines of edges (m,) among n rows; an edge counts for both ends, whichever of them lists it."""
    first, second = np.concatenate([rows, others]).astype(np.int64), np.concatenate([others, rows]).astype(np.int64)
    _, once = np.unique(first * n + second, return_index=True)
    values = np.concatenate([cosines, cosines]).astype(np.float64)[once]
    return csr_array((values, (first[once], second[once])), shape=(n, n))


class EdgeRows:
    """Rows that know their edges, in the place of `walk_state.CodedRows`; all stay active."""

    def __init__(self, source: FeatureSource, edges: csr_array) -> None:
        """Wrap the edges (n, n) of a source's rows."""
        if edges.shape != (source.shape[0],) * 2:
            raise ValueError(f"edges {edges.shape} are not of {source.shape[0]} rows")
        self.source, self.edges = source, csr_array(edges)
        self.n_rows, self.n_columns = source.shape
        self.index = np.arange(self.n_rows)
        self.alive = terms_of(source).alive.astype(np.float64)

    def reset(self) -> None:
        """Every row is active."""

    def towards(self, directions: NDArray[np.floating]) -> NDArray[np.float64]:
        """(k, n) products with a few directions, of all rows."""
        return np.ascontiguousarray(cosines_to(self.source, directions).T)

    def to_row(self, number: int, likely: Likely) -> NDArray[np.float64]:
        """(n,) cosines of the row's edges, 0 where it has none."""
        found, part = np.zeros(self.n_rows), slice(*self.edges.indptr[number : number + 2])
        found[self.edges.indices[part]] = self.edges.data[part]
        return found


@dataclass
class EdgeWalk(BalancedWalk):
    """A balanced walk whose redundancy, and resemblance to rows taken, are told by edges; its consistency is exact."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.total = np.zeros(self.state.rows.n_columns)

    def _row(self, number: int) -> NDArray[np.float64]:
        source = self.state.rows.source
        return real_rows(source, source.rows(np.array([number])))[0]

    def _with_sum(self, position: int) -> float:
        return float(np.einsum("d,d->", self._row(position), self.total))

    def _absorb(self, step: int, number: int, likely: Likely) -> None:
        super()._absorb(step, number, likely)
        self.total += self._row(number)

    def _resembling(self) -> NDArray[np.floating]:
        return np.where(self.state.to_last != 0, self.state.to_last, -np.inf)

    def _squared_direction(self) -> float:
        # Edges of a row to those taken are few and nearly at right angles: at most, all of them.
        weights = node_weights(self.served)
        return float(weights @ self.gram @ weights) + self.weight**2 * len(self.taken)
