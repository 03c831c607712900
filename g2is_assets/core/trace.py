"""What a walk did and why: a record for every row taken, and for every row that it left."""

from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

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
