"""The gradient walk: from core knowledge to a subset, exact on the complete instruction graph.

Cosines of the complete graph are never stored. Each step needs one matrix-vector product with the row just taken;
a running minimum gives "no conflict" and a running sum gives "consistency" for all rows at once.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2is_assets.core.vectors import ZERO_NORM, unit_rows

Method = Literal["reference", "g2is"]
Consistency = Literal["previous", "best", "anchor"]


@dataclass(frozen=True)
class Walk:
    """The rows taken, in order, with the reason for each. All arrays have one entry per row taken.

    Attributes:
        rows: int64, indices into the features.
        component: int64, the component for which the row was taken.
        step: int64, 0 for the component's anchor, then 1, 2, ...
        predecessor: int64, the row taken just before for the same component, -1 for an anchor.
        predecessor_cosine: float64, coherence: cosine to the predecessor, NaN for an anchor.
        min_cosine: float64, smallest cosine to any row that could conflict, NaN where there is none.
        min_cosine_row: int64, the row with that smallest cosine, -1 where there is none.
        core_cosine: float64, cosine to the component.
        consistency_before: float64, the value that consistency was measured against, NaN for an anchor.
        consistency: float64, |cosine to the component| of the sum of its rows, this one included.
    """

    rows: NDArray[np.int64]
    component: NDArray[np.int64]
    step: NDArray[np.int64]
    predecessor: NDArray[np.int64]
    predecessor_cosine: NDArray[np.float64]
    min_cosine: NDArray[np.float64]
    min_cosine_row: NDArray[np.int64]
    core_cosine: NDArray[np.float64]
    consistency_before: NDArray[np.float64]
    consistency: NDArray[np.float64]


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


def gradient_walk(
    features: ArrayLike,
    components: ArrayLike,
    budgets: ArrayLike,
    *,
    delta: float = 0.8,
    method: Method = "reference",
    consistency: Consistency = "previous",
    min_core_cosine: float | None = None,
    conflicts_across: bool = False,
) -> Walk:
    """Walk the mixed gradient graph once per component (G2IS §3.3) and return the rows in the order taken.

    For component K: start at the anchor, the free row with the largest cosine to K. With S the rows taken for K and
    s* the last of them, take the free row z with the largest cos(z, s*) such that cos(z, s) >= 0 for all s in S and
    |cos(sum(S + z), K)| >= delta * |cos(sum(S), K)|. When no row qualifies, the component ends short.
    Deterministic: components in order, ties to the lower row index. Cost: one (n, d) matrix-vector product per row
    taken, over the rows not yet in conflict. Memory: the float32 features, at most half of them twice, and a few
    vectors of length n.

    Args:
        features: (n, d) float, normalised here to float32 unit rows; zero rows have cosine 0 with everything.
        components: (c, d) float with the signs to use, normalised likewise.
        budgets: (c,) non-negative ints; a component with budget 0 is skipped.
        delta: Consistency threshold in [0, 1].
        method: `reference` is the published walk; `g2is` admits the options below.
        consistency: Measure against the value of the step before (published), the best so far, or the anchor's.
        min_core_cosine: Smallest cosine to K that any row must have, the anchor included; None for no such floor.
        conflicts_across: Also forbid conflict with rows taken for earlier components.

    Raises:
        ValueError: Shapes that do not fit, entries that are not finite, or an option with `method="reference"`.
    """
    rows, cores = np.asarray(features), np.asarray(components)
    limits = np.asarray(budgets)
    if rows.ndim != 2 or cores.ndim != 2 or rows.shape[1] != cores.shape[1] or limits.shape != (len(cores),):
        raise ValueError(f"features {rows.shape}, components {cores.shape} and budgets {limits.shape} do not fit")
    if (limits != np.floor(limits)).any() or (limits < 0).any():
        raise ValueError(f"budgets must be whole and not negative, got {limits}")
    if method not in get_args(Method) or consistency not in get_args(Consistency) or not 0 <= delta <= 1:
        raise ValueError(f"unknown method '{method}' or consistency '{consistency}', or delta {delta} not in [0, 1]")
    if method == "reference" and (consistency, min_core_cosine, conflicts_across) != ("previous", None, False):
        raise ValueError("method='reference' takes no options but delta")
    state = _State(unit_rows(rows), conflicts_across)
    trace = _Trace()
    # Every vector is finite by now, yet some BLAS kernels raise the invalid flag on unused vector lanes.
    with np.errstate(invalid="ignore"):
        for component, (core, limit) in enumerate(zip(unit_rows(cores), limits, strict=True)):
            if limit == 0:
                continue
            _walk_component(state, trace, component, core, int(limit), delta, consistency, min_core_cosine)
            if not state.free.any():
                break
    return trace.finish()


def _walk_component(
    state: "_State",
    trace: "_Trace",
    component: int,
    core: NDArray[np.float32],
    limit: int,
    delta: float,
    consistency: Consistency,
    floor: float | None,
) -> None:
    """Take up to `limit` rows for one component; every row taken leaves `state` and enters `trace`."""
    to_core = state.begin(core)
    allowed = np.ones(len(to_core), dtype=bool) if floor is None else to_core >= floor
    last, last_row, best, anchor = -1, -1, 0.0, 0.0
    previous = 0.0
    for step in range(limit):
        candidates = state.unblocked() & allowed
        if step == 0:
            score = to_core
            reached = np.abs(to_core)
        else:
            score = state.to_last
            reached = state.consistency_with(to_core)
            against = {"previous": previous, "best": best, "anchor": anchor}[consistency]
            candidates &= reached >= delta * against
        if not candidates.any():
            return
        # argmax returns the first maximum: ties go to the lower row index.
        row = int(np.where(candidates, score, -np.inf).argmax())
        min_cosine, min_row = state.smallest_cosine(row)
        trace.add(
            rows=int(state.index[row]),
            component=component,
            step=step,
            predecessor=last_row,
            predecessor_cosine=float(state.to_last[row]) if last >= 0 else np.nan,
            min_cosine=min_cosine,
            min_cosine_row=min_row,
            core_cosine=float(to_core[row]),
            consistency_before=np.nan if step == 0 else float(against),
            consistency=float(reached[row]),
        )
        previous = float(reached[row])
        anchor = previous if step == 0 else anchor
        best = max(best, previous)
        last, last_row = row, int(state.index[row])
        kept = state.take(row, float(to_core[row]))
        if kept is not None:
            to_core, allowed = to_core[kept], allowed[kept]


class _State:
    """What the walk knows of every row that it may still take; positions are into `index`, which only shrinks."""

    def __init__(self, features: NDArray[np.float32], across: bool) -> None:
        self.all_features = features
        self.all_squared = np.einsum("nd,nd->n", features, features)  # 1, or 0 for a zero row
        self.across = across
        self.free = np.ones(len(features), dtype=bool)
        self._everything()

    def _everything(self) -> None:
        self.index = np.arange(len(self.free))
        self.features, self.squared = self.all_features, self.all_squared
        self.minimum = np.full(len(self.index), np.inf, dtype=np.float32)
        self.minimum_row = np.full(len(self.index), -1, dtype=np.int64)

    def begin(self, core: NDArray[np.float32]) -> NDArray[np.float32]:
        """Start a component: forget conflicts unless they count across components; return cosines to `core`."""
        if not self.across:
            self._everything()
        self.to_last = np.zeros(len(self.index), dtype=np.float32)
        self.to_sum = np.zeros(len(self.index), dtype=np.float32)
        self.core = core
        self.sum = np.zeros(len(core), dtype=np.float32)
        self.core_dot = 0.0
        return self.features @ core

    def unblocked(self) -> NDArray[np.bool_]:
        """Rows that are free and in conflict with none of the rows taken."""
        return self.free[self.index] & (self.minimum >= 0)

    def consistency_with(self, to_core: NDArray[np.float32]) -> NDArray[np.float32]:
        """|cosine(sum(S + z), K)| for every row z: closed form from running dot products."""
        squared = np.float32(self.sum @ self.sum) + 2 * self.to_sum + self.squared
        norm = np.sqrt(np.maximum(squared, 0))
        return np.abs(np.divide(self.core_dot + to_core, norm, out=np.zeros_like(norm), where=norm > ZERO_NORM))

    def smallest_cosine(self, row: int) -> tuple[float, int]:
        """Smallest cosine of a row to those taken, and which it was."""
        taken = int(self.minimum_row[row])
        return (float(self.minimum[row]), taken) if taken >= 0 else (np.nan, -1)

    def take(self, row: int, core_cosine: float) -> NDArray[np.bool_] | None:
        """Take a row; returns which positions stay when rows in conflict were dropped from the arrays, else None."""
        vector, taken = self.features[row], int(self.index[row])
        self.free[taken] = False
        self.sum = self.sum + vector
        self.core_dot += core_cosine
        self.to_last = self.features @ vector
        self.to_sum += self.to_last
        lower = self.to_last < self.minimum
        self.minimum[lower] = self.to_last[lower]
        self.minimum_row[lower] = taken
        kept = self.unblocked()
        if 2 * kept.sum() > len(kept):
            return None  # copying the features costs as much as two products; only a half is worth it
        self.index, self.features = self.index[kept], self.features[kept]
        for name in ("squared", "minimum", "minimum_row", "to_last", "to_sum"):
            setattr(self, name, getattr(self, name)[kept])
        return kept


@dataclass
class _Trace:
    """Collects one record per row taken."""

    records: list[dict[str, float]] = field(default_factory=list)

    def add(self, **record: float) -> None:
        self.records.append(record)

    def finish(self) -> Walk:
        whole = {"rows", "component", "step", "predecessor", "min_cosine_row"}
        columns: dict[str, Any] = {
            f.name: np.array([r[f.name] for r in self.records], dtype=np.int64 if f.name in whole else np.float64)
            for f in fields(Walk)
        }
        return Walk(**columns)
