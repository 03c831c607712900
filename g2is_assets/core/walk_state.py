"""What a walk reads of every row and knows while it goes on, and what it leaves: why each row was taken, or not."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from g2is_assets.core.codes import products
from g2is_assets.core.features import BLOCK_ROWS, FeatureSource
from g2is_assets.core.rivals import Rivals
from g2is_assets.core.rows import codes_of, cosines_to, naming_the_row, real_rows, terms_of, unit_rows

Likely = Callable[[int], NDArray[np.int64]]
"""Names up to so many rows that the walk is likely to take next."""

AT_A_TIME: Final = 64
"""Columns of products taken at a time: one costs nearly as much, for the rows have to be read."""
AT_A_TIME_STREAMED: Final = 128
"""The same where they have to be read from disk."""
HELD: Final = 256
"""Columns of products held: 1 KB for each row."""


class ActiveRows(ABC):
    """Rows with a set of active ones, which only shrinks until it is reset.

    In memory, rows that drop out are moved behind the active ones, so that products read only what is active and no
    second copy exists. Streamed, every product reads all rows again, until the active ones fit.
    """

    dtype: type[Any]
    """Of the matrix."""

    def __init__(self, source: FeatureSource, memory_bytes: int | None = None) -> None:
        """Read the rows if they fit in `memory_bytes` (None: they do)."""
        self.source = source
        self.memory_bytes = memory_bytes
        self.n_rows, self.n_columns = source.shape
        self.index = np.arange(self.n_rows)
        self.matrix: NDArray[Any] | None = None
        self.order = self.index.copy()
        self.streamed = not self._fits(self.n_rows)
        if not self.streamed:
            self.matrix = self._read(self.index)

    @abstractmethod
    def form(self, numbers: NDArray[np.int64], values: NDArray[Any]) -> NDArray[Any]:
        """What the matrix holds of a source's values."""

    @abstractmethod
    def dot(self, rows: NDArray[Any], vectors: NDArray[Any]) -> NDArray[Any]:
        """(n, k) dot products of the matrix's rows (n, d) and vectors (k, d); of codes (parts, n, k)."""

    def reset(self) -> None:
        """Make every row active."""
        if self.streamed:
            self.matrix, self.order = None, np.arange(self.n_rows)
        self.index = self.order[: self.n_rows].copy()

    def keep(self, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Keep some of the active rows; returns the positions that they had, in their new order."""
        if self.matrix is None:
            positions = np.flatnonzero(kept)
            self.index = self.index[positions]
            if self._fits(len(positions)):
                self.matrix = self._read(self.index)
                self.order = self.index.copy()
            return positions
        n_kept = int(kept.sum())
        positions = np.arange(len(kept))
        holes = np.flatnonzero(~kept[:n_kept])
        movers = n_kept + np.flatnonzero(kept[n_kept:])
        for start in range(0, len(holes), BLOCK_ROWS):
            hole, mover = holes[start : start + BLOCK_ROWS], movers[start : start + BLOCK_ROWS]
            self.matrix[hole], self.matrix[mover] = self.matrix[mover], self.matrix[hole]
        for array in (positions, self.order):
            array[holes], array[movers] = array[movers], array[holes]
        self.index = self.order[:n_kept].copy()
        return positions[:n_kept]

    def products(self, vectors: NDArray[Any]) -> NDArray[Any]:
        """(k, n_active) dot products with vectors (k, d), as they are; of codes (parts, k, n_active)."""
        if self.matrix is not None:
            n = len(self.index)
            parts = (self.matrix[start : min(start + BLOCK_ROWS, n)] for start in range(0, n, BLOCK_ROWS))
            found = [self.dot(part, vectors).swapaxes(-1, -2) for part in parts]
            return np.concatenate(found or [self.dot(self.matrix[:0], vectors).swapaxes(-1, -2)], axis=-1)
        every = np.empty((len(vectors), 0))
        for numbers, values in self.source.blocks():
            part = self.dot(self.form(numbers, values), vectors).swapaxes(-1, -2)
            if not every.size:
                every = np.empty((*part.shape[:-1], self.n_rows), dtype=part.dtype)
            every[..., numbers] = part
        return every if len(self.index) == self.n_rows else every[..., self.index]

    def at(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """The matrix's rows with these numbers, active or not."""
        if self.streamed or self.matrix is None:
            return self.form(numbers, self.source.rows(numbers))
        place = np.empty(self.n_rows, dtype=np.int64)
        place[self.order] = np.arange(self.n_rows)
        return np.asarray(self.matrix[place[numbers]])

    def _read(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        matrix = np.empty((len(numbers), self.n_columns), dtype=self.dtype)
        if len(numbers) == self.n_rows:  # in their order
            for some, values in self.source.blocks():
                matrix[some] = self.form(some, values)
            return matrix
        for start in range(0, len(numbers), BLOCK_ROWS):
            some = numbers[start : start + BLOCK_ROWS]
            matrix[start : start + len(some)] = self.form(some, self.source.rows(some))
        return matrix

    def _fits(self, n_rows: int) -> bool:
        n_bytes = np.dtype(self.dtype).itemsize * n_rows * self.n_columns
        return self.memory_bytes is None or n_bytes <= self.memory_bytes


class CodedRows(ActiveRows):
    """Codes: cosines are exact products, brought to float64 in one order."""

    dtype = np.int8

    def __init__(self, source: FeatureSource, memory_bytes: int | None = None, at_a_time: int | None = None) -> None:
        """Read the rows if they fit, and what makes cosines of their products, of which so many are taken at a time."""
        self.terms = terms_of(source)
        super().__init__(source, memory_bytes)
        self.at_a_time = AT_A_TIME_STREAMED if self.streamed else at_a_time or AT_A_TIME
        self.alive = self.terms.alive.astype(np.float64)
        self._forget()

    def _forget(self) -> None:
        """Columns of products that are held are of the active rows before."""
        self.held: list[tuple[dict[int, int], NDArray[np.integer]]] = []
        self.active = self.terms.at(self.index)

    def form(self, numbers: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.int8]:
        """The codes."""
        return codes_of(numbers, values, self.source)

    def dot(self, rows: NDArray[np.int8], vectors: NDArray[np.int8]) -> NDArray[np.integer]:
        """Exact."""
        return products(rows, vectors, len(self.source.weights))

    def towards(self, directions: NDArray[np.floating]) -> NDArray[np.float64]:
        """(k, n) products with a few directions, of all rows."""
        return np.ascontiguousarray(cosines_to(self.source, directions, self.terms).T)

    def to_row(self, number: int, likely: Likely) -> NDArray[np.float64]:
        """(n_active,) cosines with a row; `likely` ones, asked for next, share the reading of all rows."""
        if not any(number in places for places, _ in self.held):
            wanted = [int(row) for row in likely(self.at_a_time - 1) if not any(row in held for held, _ in self.held)]
            numbers = np.unique(np.array([*wanted, number], dtype=np.int64))
            self.held = self.held[: HELD // self.at_a_time - 1]  # room first: these are large
            columns = self.products(self.at(numbers))
            self.held.insert(0, ({int(row): place for place, row in enumerate(numbers)}, columns))
        column = next(columns[..., places[number], :, None] for places, columns in self.held if number in places)
        return self.active.cosines(column, self.terms.at([number]))[:, 0]

    def keep(self, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Keep some of the active rows, and of the columns held what is of these."""
        stay = super().keep(kept)
        self.held = [(places, columns[..., stay]) for places, columns in self.held]
        self.active = self.terms.at(self.index)
        return stay

    def reset(self) -> None:
        """Make every row active."""
        super().reset()
        self._forget()


class FloatRows(ActiveRows):
    """Float32 unit rows, multiplied as the published code does."""

    dtype = np.float32

    def __init__(self, source: FeatureSource, memory_bytes: int | None = None) -> None:
        """Read the rows if they fit, and which of them are zero."""
        super().__init__(source, memory_bytes)
        self.alive = np.empty(self.n_rows, dtype=np.float32)
        held = None if self.matrix is None else [(self.index, self.matrix)]
        for numbers, rows in held or ((some, self.form(some, values)) for some, values in source.blocks()):
            self.alive[numbers] = np.einsum("nd,nd->n", rows, rows) > 0

    def form(self, numbers: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.float32]:
        """Unit rows."""
        if len(self.source.weights) > 1:
            return real_rows(self.source, values).astype(np.float32)
        unit = naming_the_row(numbers, unit_rows, values)
        return unit if self.source.mean is None else unit_rows(unit - self.source.mean.astype(np.float32))

    def dot(self, rows: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rounded."""
        return rows @ vectors.T

    def towards(self, directions: NDArray[np.floating]) -> NDArray[np.float32]:
        """(k, n) products with a few directions, of all rows."""
        return self.products(directions.astype(np.float32))

    def to_row(self, number: int, likely: Likely) -> NDArray[np.float32]:
        """(n_active,) cosines with a row."""
        return self.products(self.at(np.array([number])))[0]


class WalkState:
    """What the walk knows of every row that it may still take; positions are into the active rows."""

    def __init__(
        self, rows: CodedRows | FloatRows, budget: int, *, across: bool, conflict: bool, compact: bool = True
    ) -> None:
        """Start with every row free and active.

        Conflicts count across components, or at all, where so said; `compact` lets rows that can no longer be taken
        leave the active ones.
        """
        self.rivals = Rivals(budget)
        self.rows, self.across, self.conflict, self.compact = rows, across, conflict, compact
        self.free = np.ones(rows.n_rows, dtype=bool)
        self._forget()

    def begin(self, component: int) -> None:
        """Start a component: forget conflicts, unless they count across components."""
        self.component = component
        if not self.across:
            self._forget()
        self.to_last: NDArray[np.floating] = np.zeros(len(self.rows.index), dtype=self.rows.alive.dtype)
        self.to_sum = np.zeros_like(self.to_last)

    def _forget(self) -> None:
        n = self.rows.n_rows
        self.rows.reset()
        self.minimum = np.full(n, np.inf, dtype=self.rows.alive.dtype)
        self.minimum_row = np.full(n, -1, dtype=np.int64)
        self.first_conflict: dict[str, NDArray[Any]] = {
            "component": np.full(n, -1, dtype=np.int32),
            "step": np.full(n, -1, dtype=np.int32),
            "row": np.full(n, -1, dtype=np.int64),
            "cosine": np.full(n, np.nan, dtype=np.float32),
        }

    def squared_now(self) -> NDArray[np.floating]:
        """(n_active,) squared norm of the active rows: 1, or 0 for a zero row."""
        return self.rows.alive[self.rows.index]

    def absorb(self, step: int, number: int, likely: Likely) -> NDArray[np.int64] | None:
        """Let all active rows know of a row taken; old positions of those that stay if many dropped out, else None."""
        self.to_last = self.rows.to_row(number, likely)
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
    error: NDArray[np.float64]
    pull: NDArray[np.float64]
    redundancy: NDArray[np.float64]
    nearest_row: NDArray[np.int64]
    nearest_cosine: NDArray[np.float64]
    ended: list[Ended]
    refusals: list[Refusals | None]

    @classmethod
    def of(
        cls, state: WalkState, records: Sequence[Record], ended: list[Ended], refusals: list[Refusals | None]
    ) -> "Walk":
        """The walk of these records, one per row taken."""
        columns: dict[str, Any] = {}
        for name in (f.name for f in fields(cls) if f.name not in ("ended", "refusals")):
            missing, dtype = (-1, np.int64) if name in _WHOLE else (np.nan, np.float64)
            columns[name] = np.array([record.get(name, missing) for record in records], dtype=dtype)
        columns["margin"] = state.rivals.margins(columns["rows"], columns["score"], state.rows.n_rows)
        return cls(**columns, ended=ended, refusals=refusals)
