"""What a walk knows of every row while it goes on, and what it leaves: why each row was taken, or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
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
        """Start with every row free and active.

        Conflicts count across components, or at all, where so said; `exact` decides near a threshold in float64;
        `compact` lets rows that can no longer be taken leave the active ones.
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
        self.first_conflict: dict[str, NDArray[Any]] = {
            "component": np.full(n, -1, dtype=np.int32),
            "step": np.full(n, -1, dtype=np.int32),
            "row": np.full(n, -1, dtype=np.int64),
            "cosine": np.full(n, np.nan, dtype=np.float32),
        }

    def squared_now(self) -> NDArray[np.float32]:
        """(n_active,) squared norm of the active rows: 1, or 0 for a zero row."""
        return self.rows.squared[self.rows.index]

    def dots(self, positions: NDArray[np.int64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """Dot products of some active rows with a vector, in float64 and in a fixed order."""
        parts = [positions[start : start + 256] for start in range(0, len(positions), 256)]
        # einsum, unlike BLAS, adds in one order whatever the alignment and the number of threads.
        found = [np.einsum("nd,d->n", self.rows.exact(part), vector) for part in parts]
        return np.concatenate(found) if found else np.empty(0)

    def absorb(self, step: int, number: int) -> NDArray[np.int64] | None:
        """Let all active rows know of a row taken; old positions of those that stay if many dropped out, else None."""
        self.to_last = self.rows.products(self.vectors[number])
        if self.conflict:
            self._note_conflicts(step, number)
        self.to_sum += self.to_last
        kept = self.free[self.rows.index] & (self.minimum >= 0)
        if not self.compact or 2 * kept.sum() > len(kept):
            return None  # moving rows costs as much as two products; only a half is worth it
        stay = self.rows.keep(kept)
        for name in ("minimum", "minimum_row", "to_last", "to_sum"):
            setattr(self, name, getattr(self, name)[stay])
        return stay

    def _note_conflicts(self, step: int, number: int) -> None:
        if self.exact:
            open_ = self.free[self.rows.index] & (self.minimum >= 0)
            near = np.flatnonzero(open_ & (np.abs(self.to_last) <= TIE))
            self.to_last[near] = self.dots(near, exact_rows(self.vectors[number][None])[0])
        turned = np.flatnonzero((self.minimum >= 0) & (self.to_last < 0) & self.free[self.rows.index])
        seen = {"component": self.component, "step": step, "row": number, "cosine": self.to_last[turned]}
        for name, value in seen.items():
            self.first_conflict[name][self.rows.index[turned]] = value
        lower = self.to_last < self.minimum
        self.minimum[lower] = self.to_last[lower]
        self.minimum_row[lower] = number


Ended = Literal["budget", "no free row", "core cosine", "conflict", "consistency", "no budget"]
"""Why a component's walk ended: its budget was used, or which rule refused the last rows left."""

Record = Mapping[str, float]
"""What is recorded of a row taken, by the names of `Walk`."""

_WHOLE: Final = frozenset({"rows", "component", "step", "predecessor", "min_cosine_row", "nearest_row"})


@dataclass(frozen=True)
class Refusals:
    """What one component's walk saw of every row of the pool: arrays (n,), whose entries mean nothing of rows taken.

    They are the columns of `contracts.selection.LEFT` with row numbers in the place of ids; where there is none, -1 or
    NaN. Those of a balanced walk only are None of other walks.

    Attributes:
        n_choices: How many choices consistency judged: the steps after the anchor, a last vain one included.
    """

    core_cosine: NDArray[np.float32]
    conflict_component: NDArray[np.int32]
    conflict_step: NDArray[np.int32]
    conflict_row: NDArray[np.int64]
    conflict_cosine: NDArray[np.float32]
    n_inconsistent: NDArray[np.int32]
    rank: NDArray[np.int32]
    n_choices: int
    pull: NDArray[np.float32] | None = None
    redundancy: NDArray[np.float32] | None = None
    nearest_row: NDArray[np.int64] | None = None
    nearest_cosine: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Walk:
    """The rows taken, in order, with the reason for each: arrays (m,), one entry per row taken.

    They are the columns of `contracts.selection.SUBSET`, `row_id` being `rows`, with row numbers (indices into the
    features) in the place of ids; where there is none, -1 or NaN.

    Attributes:
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

    @classmethod
    def of(cls, records: Sequence[Record], ended: list[Ended], refusals: list[Refusals | None]) -> "Walk":
        """The walk of these records, one per row taken."""
        columns: dict[str, Any] = {}
        for name in (f.name for f in fields(cls) if f.name not in ("ended", "refusals")):
            missing, dtype = (-1, np.int64) if name in _WHOLE else (np.nan, np.float64)
            columns[name] = np.array([record.get(name, missing) for record in records], dtype=dtype)
        return cls(**columns, ended=ended, refusals=refusals)
