"""What a walk knows of every row while it goes on: conflicts, coherence and sums, for all rows at once."""

from typing import Final

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
