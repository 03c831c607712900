"""What a walk knows of every row while it goes on, and what it leaves: why each row was taken, or not."""

from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from g2is_assets.core.rows import UnitRows, exact_rows

TIE: Final = 1e-5
"""Decisions of method `g2is` that float32 leaves closer than this are taken again in float64. Float32 products of unit
rows of 8,192 entries are off by about 1e-7, so nothing outside this band can turn."""


class WalkState:
    """What the walk knows of every row that it may still take; positions are into the active rows."""

    def __init__(self, rows: UnitRows, *, across: bool, conflict: bool, exact: bool, compact: bool = True) -> None:
        """Start with every row free.

        Args:
            rows: All of them, active.
            across: Whether conflicts count across components.
            conflict: Whether conflicts count at all.
            exact: Whether what is near a threshold is decided in float64.
            compact: Whether rows that can no longer be taken may leave the active ones.
        """
        self.rows, self.across, self.conflict, self.exact, self.compact = rows, across, conflict, exact, compact
        self.free = np.ones(rows.n_rows, dtype=bool)
        self.vectors: dict[int, NDArray[np.float32]] = {}
        self._forget()

    def begin(self, component: int) -> None:
        """Start a component: forget conflicts, unless they count across components."""
        self.component = component
        if not self.across:
            self._forget()
        self.to_last = np.zeros(len(self.rows.index), dtype=np.float32)
        self.to_sum: NDArray[np.floating] = np.zeros(
            len(self.rows.index), dtype=np.float64 if self.exact else np.float32
        )

    def _forget(self) -> None:
        n = self.rows.n_rows
        self.rows.reset()
        self.minimum = np.full(n, np.inf, dtype=np.float32)
        self.minimum_row = np.full(n, -1, dtype=np.int64)
        self.first_component = np.full(n, -1, dtype=np.int32)
        self.first_step = np.full(n, -1, dtype=np.int32)
        self.first_row = np.full(n, -1, dtype=np.int64)
        self.first_cosine = np.full(n, np.nan, dtype=np.float32)

    def squared_now(self) -> NDArray[np.float32]:
        """(n_active,) squared norm of the active rows: 1, or 0 for a zero row."""
        return self.rows.squared[self.rows.index]

    def dots(self, positions: NDArray[np.int64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """Dot products of some active rows with a vector, in float64 and in a fixed order."""
        parts = [positions[start : start + 256] for start in range(0, len(positions), 256)]
        # einsum, unlike BLAS, adds in one order whatever the alignment and the number of threads.
        found = [np.einsum("nd,d->n", self.rows.exact(part), vector) for part in parts]
        return np.concatenate(found) if found else np.empty(0)

    def smallest_cosine(self, position: int) -> tuple[float, int]:
        """Smallest cosine of a row to those taken, and which it was."""
        taken = int(self.minimum_row[position])
        return (float(self.minimum[position]), taken) if taken >= 0 else (np.nan, -1)

    def absorb(self, step: int, number: int, vector: NDArray[np.float32]) -> NDArray[np.int64] | None:
        """Let all active rows know of a row taken; old positions of those that stay if many dropped out, else None."""
        self.to_last = self.rows.products(vector)
        if self.conflict:
            self._note_conflicts(step, number, vector)
        self.to_sum += self.to_last
        kept = self.free[self.rows.index] & (self.minimum >= 0)
        if not self.compact or 2 * kept.sum() > len(kept):
            return None  # moving rows costs as much as two products; only a half is worth it
        stay = self.rows.keep(kept)
        for name in ("minimum", "minimum_row", "to_last", "to_sum"):
            setattr(self, name, getattr(self, name)[stay])
        return stay

    def _note_conflicts(self, step: int, number: int, vector: NDArray[np.float32]) -> None:
        if self.exact:
            open_ = self.free[self.rows.index] & (self.minimum >= 0)
            near = np.flatnonzero(open_ & (np.abs(self.to_last) <= TIE))
            self.to_last[near] = self.dots(near, exact_rows(vector[None])[0])
        turned = np.flatnonzero((self.minimum >= 0) & (self.to_last < 0) & self.free[self.rows.index])
        first = self.rows.index[turned]
        self.first_component[first], self.first_step[first] = self.component, step
        self.first_row[first], self.first_cosine[first] = number, self.to_last[turned]
        lower = self.to_last < self.minimum
        self.minimum[lower] = self.to_last[lower]
        self.minimum_row[lower] = number


Ended = Literal["budget", "no free row", "core cosine", "conflict", "consistency", "no budget"]
"""Why a component's walk ended: its budget was used, or which rule refused the last rows left."""

_WHOLE: Final = frozenset({"rows", "component", "step", "predecessor", "min_cosine_row", "nearest_row"})


@dataclass(frozen=True)
class Refusals:
    """What one component's walk saw of every row of the pool; entries of rows that were taken mean nothing.

    Attributes:
        first_conflict_component: (n,) int32, the component whose row was the first in conflict: another one only where
            conflicts count across components; -1 where none was.
        first_conflict_step: (n,) int32, its step, -1 where none was.
        first_conflict_row: (n,) int64, that row, -1 where none was.
        first_conflict_cosine: (n,) float32, the cosine to it, NaN where none was.
        n_inconsistent: (n,) int32, at how many choices consistency refused the row while it was without conflict.
        n_choices: How many choices consistency judged: the steps after the anchor, a last vain one included.
        rank: (n,) int32, place by the next step's score, 1 the first in line, among the rows left without conflict;
            -1 elsewhere.
        core_cosine: (n,) float32, cosine to the component.
        pulls: What a balanced walk saw of them besides; None of other walks.
    """

    first_conflict_component: NDArray[np.int32]
    first_conflict_step: NDArray[np.int32]
    first_conflict_row: NDArray[np.int64]
    first_conflict_cosine: NDArray[np.float32]
    n_inconsistent: NDArray[np.int32]
    n_choices: int
    rank: NDArray[np.int32]
    core_cosine: NDArray[np.float32]
    pulls: "Pulls | None" = None


@dataclass(frozen=True)
class Pulls:
    """What a balanced walk knew of every row of the pool when it ended.

    Attributes:
        pull: (n,) float32, mean cosine to the validation rows, as the next step would weigh them.
        redundancy: (n,) float32, what the next step would have taken off.
        nearest_row: (n,) int64, the row taken that it resembles most, the lower step of equals.
        nearest_cosine: (n,) float32, the cosine to it.
    """

    pull: NDArray[np.float32]
    redundancy: NDArray[np.float32]
    nearest_row: NDArray[np.int64]
    nearest_cosine: NDArray[np.float32]


@dataclass(frozen=True)
class Walk:
    """The rows taken, in order, with the reason for each; arrays have one entry per row taken.

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
        score: float64, what it had most of: coherence (an anchor: cosine to the component), or pull less redundancy.
        margin: float64, how far the score of the next best row allowed lay behind, NaN where there was none.
        pull: float64, balanced walk: mean cosine to the validation rows, as weighed then; NaN in other walks.
        redundancy: float64, balanced walk: what was taken off for resembling the rows taken before.
        nearest_row: int64, balanced walk: the row taken before that it resembles most, -1 for the first.
        nearest_cosine: float64, the cosine to it.
        ended: Per component, why its walk ended.
        refusals: Per component, what it saw of every row; None where it had no budget.
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
    score: NDArray[np.float64]
    margin: NDArray[np.float64]
    pull: NDArray[np.float64]
    redundancy: NDArray[np.float64]
    nearest_row: NDArray[np.int64]
    nearest_cosine: NDArray[np.float64]
    ended: list[Ended]
    refusals: list[Refusals | None]


@dataclass
class Trace:
    """Collects one record per row taken."""

    records: list[dict[str, float]] = field(default_factory=list)

    def add(self, **record: float) -> None:
        """Record one row."""
        self.records.append(record)

    def finish(self, ended: list[Ended], refusals: list[Refusals | None]) -> Walk:
        """The walk as arrays."""
        columns: dict[str, Any] = {}
        for name in (f.name for f in fields(Walk) if f.name not in ("ended", "refusals")):
            missing, dtype = (-1, np.int64) if name in _WHOLE else (np.nan, np.float64)
            columns[name] = np.array([record.get(name, missing) for record in self.records], dtype=dtype)
        return Walk(**columns, ended=ended, refusals=refusals)
