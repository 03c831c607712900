"""The balanced walk: rows that a domain pulls, less what they repeat of the rows taken.

The gradient walk with another idea of the next row. Rules of the paper's walk can be switched on on top.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2is_assets.core.codes import ZERO_NORM, n_threads
from g2is_assets.core.edges import EdgeRows
from g2is_assets.core.features import FeatureSource, as_source
from g2is_assets.core.rows import real_rows, unit_rows
from g2is_assets.core.walk import ComponentWalk, Consistency, Rules
from g2is_assets.core.walk_state import CodedRows, Likely, Record, Walk, WalkState

if TYPE_CHECKING:
    from scipy.sparse import csr_array

PART_ROWS: Final = 16_384
"""Rows whose pull one thread takes at a time."""


def balanced_walk(
    features: ArrayLike | FeatureSource,
    validation: ArrayLike,
    budget: int,
    *,
    redundancy: float = 0.25,
    fair: bool = True,
    factors: ArrayLike | None = None,
    delta: float = 0.0,
    consistency: Consistency = "previous",
    min_core_cosine: float | None = None,
    no_conflict: bool = False,
    memory_bytes: int | None = None,
    edges: "csr_array | None" = None,
) -> Walk:
    """Take, again and again, the free row z with the largest <z, t> - redundancy / (n + 1) * sum_{s in S} cos(z, s).

    S are the n rows taken, t is a mean of the domain's unit validation features, not normalised again: the more alike
    these are, the longer it is, and the more the walk concentrates. The first term is the row's pull, the second its
    redundancy. If the walk is not fair, t is the plain mean; then redundancy 0 is the ranking by mean cosine (LESS, Xia
    et al. 2024), and 1 is kernel herding with the cosine as kernel (Chen, Welling and Smola 2010), which makes the
    subset's mean approach t.
    In a fair walk t is a weighted mean, its weights 1 / (1 + max(0, x)) for the validation row v that is served
    x = sum_{s in S} cos(s, v), to a sum of 1, new at every step: the row that was served least pulls most. With
    redundancy 0 it follows the gradient of a sum over validation rows, of log(1 + x), or of x where that is below 0:
    proportional fairness (Kelly, Maulloo and Tan 1998).
    With `edges`, cos(z, s) in the second term is the cosine of the edge between the two, and 0 where there is none: of
    a row that has more rows like it than its list holds, and than list it, redundancy is understated. All else is as
    without, the pull too; so is the row that one resembles most, of those it has an edge with (an edge of 0 is none).
    The paper's rules hold on top where asked for, with the plain mean as the only component.
    Deterministic, as `gradient_walk` with `g2is`: ties go to the lower row index. Cost: one (n, d) product with a block
    of likely rows whenever the row taken is not among them. Memory: as `gradient_walk`, and if fair 8 n v bytes, which
    `memory_bytes` leaves out.

    Args:
        features: (n, d) codes, floats, which are quantised, or a source of them; zero rows have pull and cosine 0.
        validation: (v, d) float, v >= 1, normalised here.
        budget: Rows to take.
        redundancy: In [0, 1].
        fair: Whether validation rows that were served least pull most; else all alike.
        factors: (n,) positive, of each row's pull; None: 1 for all.
        delta: Consistency threshold in [0, 1], as in `gradient_walk`; 0 is no rule.
        consistency: What it is measured against, as in `gradient_walk`.
        min_core_cosine: Smallest cosine to the plain mean that a row must have; None for no such floor.
        no_conflict: Forbid negative cosines between rows taken.
        memory_bytes: Most that the codes may take; beyond, they are read anew for every block. None: no limit.
        edges: (n, n) symmetric, as `edges.edge_matrix` gives them; admits neither delta nor `no_conflict`.

    Returns:
        The walk of component 0, without predecessors.

    Raises:
        ValueError: Shapes that do not fit, entries that are not finite, a mean of zero, or a setting out of bounds.
    """
    source, own = as_source(features), np.asarray(validation)
    if own.ndim != 2 or not len(own) or source.shape[1] != own.shape[1] or budget < 0:
        raise ValueError(f"features {source.shape}, validation {own.shape} and budget {budget} do not fit")
    scale = np.ones(source.shape[0]) if factors is None else np.asarray(factors, dtype=np.float64)
    if scale.shape != source.shape[:1] or not (scale > 0).all() or not np.isfinite(scale).all():
        raise ValueError(f"factors must be {source.shape[0]} positive numbers")
    if not 0 <= redundancy <= 1 or not 0 <= delta <= 1:
        raise ValueError(f"redundancy {redundancy} or delta {delta} is not in [0, 1]")
    if edges is not None and (delta or no_conflict):
        raise ValueError("a walk on edges knows too few cosines for delta or no_conflict")
    mean, nodes = mean_feature(own), nodes_of(own, fair)
    rules = Rules(delta, consistency, min_core_cosine, no_conflict, conflicts_across=False)
    kind: type[BalancedWalk] = BalancedWalk
    rows: Any = None
    if edges is None:
        rows = CodedRows(source, memory_bytes)
    else:
        rows, kind = EdgeRows(source, edges), EdgeWalk
    state = WalkState(rows, budget, across=False, conflict=no_conflict, compact=False)
    trace: list[Record] = []
    to_core, *_ = to_both = rows.towards(np.concatenate([unit_rows(mean[None]), nodes]))  # in one pass
    with ThreadPoolExecutor(n_threads()) as threads:
        walk = kind(
            0,
            to_core,
            state,
            rules,
            to_nodes=to_both[1:],
            gram=np.einsum("kd,ld->kl", nodes, nodes),
            factors=scale,
            redundancy=redundancy,
            threads=threads,
        )
        walk.run(budget, trace)
    return Walk.of(state, trace, [walk.ended], [walk.refusals])


def mean_feature(validation: ArrayLike) -> NDArray[np.float64]:
    """(d,) mean of the unit validation features.

    Raises:
        ValueError: It is zero, or a feature is not finite.
    """
    mean = unit_rows(validation).mean(axis=0, dtype=np.float64)
    if np.linalg.norm(mean) <= ZERO_NORM:
        raise ValueError("the mean of the validation features is zero: they cancel out, the domain has no direction")
    return mean


def nodes_of(validation: ArrayLike, fair: bool) -> NDArray[np.float64]:
    """(k, d) what pulls: each of the unit validation features in a fair walk, else their mean alone."""
    return unit_rows(validation).astype(np.float64) if fair else mean_feature(validation)[None]


def node_weights(served: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., k) weights of nodes, to a sum of 1, that were served so much (..., k): sums of cosines to the rows taken.

    Each is as 1 / (1 + what the node was served, where that is positive).
    """
    weights = 1 / (1 + np.maximum(served, 0))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


@dataclass
class BalancedWalk(ComponentWalk):
    """A walk whose next row is the one with the largest pull, of all nodes by their weights, less redundancy."""

    to_nodes: NDArray[np.float64] = field(kw_only=True)
    gram: NDArray[np.float64] = field(kw_only=True)
    factors: NDArray[np.float64] = field(kw_only=True)
    redundancy: float = field(kw_only=True)
    threads: ThreadPoolExecutor = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        n_rows = self.state.rows.n_rows
        # No row leaves the active ones, so positions are row numbers.
        self.served = np.zeros(len(self.to_nodes))
        self.nearest = np.full(n_rows, -np.inf)
        self.nearest_row = np.full(n_rows, -1, dtype=np.int64)

    @property
    def weight(self) -> float:
        """Of the sum of cosines to the rows taken."""
        return self.redundancy / (len(self.taken) + 1)

    def _pull(self) -> NDArray[np.float64]:
        weights, found = node_weights(self.served), np.empty(len(self.factors))

        def pull(part: slice) -> None:
            # einsum, unlike BLAS, adds in one order whatever the number of threads.
            np.einsum("k,kn->n", weights, self.to_nodes[:, part], out=found[part])

        list(self.threads.map(pull, (slice(s, s + PART_ROWS) for s in range(0, len(found), PART_ROWS))))
        found *= self.factors
        return found

    def _score(self) -> NDArray[np.floating]:
        self.pull = self._pull()
        return self.pull - self.weight * self.state.to_sum

    def _path(self, cosines: NDArray[np.float64], rows: NDArray[np.int64], n: int) -> list[int]:
        to_nodes, served, to_sum = self.to_nodes[:, rows], self.served.copy(), self.state.to_sum[rows]
        free, path = np.ones(len(rows), dtype=bool), [0]
        while len(path) <= min(n, len(rows) - 1):
            free[path[-1]] = False
            served += to_nodes[:, path[-1]]
            to_sum += cosines[path[-1]]
            repeated = self.redundancy / (len(self.taken) + len(path)) * to_sum
            score = self.factors[rows] * (node_weights(served) @ to_nodes) - repeated
            path.append(int(np.where(free, score, -np.inf).argmax()))
        return path[1:]

    def _error(self) -> float:
        return super()._error() * math.sqrt(max(self._squared_direction(), 0.0))

    def _squared_direction(self) -> float:
        """Squared norm of what scores are products with."""
        weights = node_weights(self.served)
        return float(
            weights @ self.gram @ weights - 2 * self.weight * weights @ self.served + self.weight**2 * self.squared
        )

    def _resembling(self) -> NDArray[np.floating]:
        """(n,) how much each row resembles the one taken last."""
        return self.state.to_last

    def _more(self, position: int) -> dict[str, float]:
        nearest = int(self.nearest_row[position])
        record = {
            "predecessor": -1,
            "predecessor_cosine": np.nan,
            "pull": float(self.pull[position]),
            "redundancy": self.weight * float(self.state.to_sum[position]),
        }
        return record | ({"nearest_row": nearest, "nearest_cosine": self.nearest[position]} if nearest >= 0 else {})

    def _absorb(self, step: int, number: int, likely: Likely) -> None:
        super()._absorb(step, number, likely)
        self.served += self.to_nodes[:, number]
        closer = (alike := self._resembling()) > self.nearest
        self.nearest[closer], self.nearest_row[closer] = alike[closer], number

    def _close(self) -> None:
        super()._close()
        assert self.refusals
        self.refusals = replace(
            self.refusals,
            pull=self._pull().astype(np.float32),
            redundancy=(self.weight * self.state.to_sum).astype(np.float32),
            nearest_row=self.nearest_row,
            nearest_cosine=np.where(self.nearest_row < 0, np.nan, self.nearest).astype(np.float32),
        )


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
