"""The gradient walk: from core knowledge to a subset, exact on the complete instruction graph.

Cosines of the complete graph are never stored. Each step needs the products of all rows with the row just taken, which
are taken for many likely rows at once; a running minimum gives "no conflict" and a running sum gives "consistency" for
all rows.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2is_assets.core.codes import ZERO_NORM
from g2is_assets.core.features import FeatureSource, as_source
from g2is_assets.core.knowledge import allocate_budgets
from g2is_assets.core.rows import cosines_among, unit_rows
from g2is_assets.core.walk_state import CodedRows, Ended, FloatRows, Likely, Record, Refusals, Walk, WalkState

AT_A_TIME: Final = 16
"""Columns of products taken at a time: the row nearest to the one just taken is seldom among many likely ones."""
AHEAD: Final = 1024
"""Rows among which a walk looks ahead, or fewer where their products with each other cost more than a block's."""
Method = Literal["reference", "g2is"]
Consistency = Literal["previous", "best", "anchor"]


@dataclass(frozen=True)
class Rules:
    """What a row must satisfy; see `gradient_walk`."""

    delta: float
    consistency: Consistency
    min_core_cosine: float | None
    no_conflict: bool
    conflicts_across: bool


@dataclass(frozen=True)
class Choice:
    """The next row: its position, what it had most of, and the two sides of consistency."""

    position: int
    score: float
    reached: float
    against: float


def gradient_walk(
    features: ArrayLike | FeatureSource,
    components: ArrayLike,
    budgets: ArrayLike,
    *,
    delta: float = 0.8,
    method: Method = "reference",
    consistency: Consistency = "previous",
    min_core_cosine: float | None = None,
    no_conflict: bool = True,
    conflicts_across: bool = False,
    reallocate: bool = False,
    memory_bytes: int | None = None,
) -> Walk:
    """Walk the mixed gradient graph once per component (G2IS §3.3) and return the rows in the order taken.

    For component K: start at the anchor, the free row with the largest cosine to K. With S the rows taken for K and
    s* the last of them, take the free row z with the largest cos(z, s*) such that cos(z, s) >= 0 for all s in S and
    |cos(sum(S + z), K)| >= delta * |cos(sum(S), K)|. When no row qualifies, the component ends short.
    Deterministic: components in order, ties to the lower row index. With `g2is` cosines are exact integer products of
    codes, brought to float64 in one order: the same in any block, with any number of threads; `reference` multiplies
    float32 rows. Cost: one (n, d) product with a block of likely rows whenever the row taken is not among them, over
    the rows not yet in conflict. Memory: the codes (or float32 rows) once, or a block of them where they exceed
    `memory_bytes`, and some 300 bytes for each row.

    Args:
        features: (n, d) codes, floats, which `g2is` quantises, or a source; zero rows have cosine 0 with everything.
        components: (c, d) float with the signs to use, normalised likewise.
        budgets: (c,) non-negative ints; a component with budget 0 is skipped.
        delta: Consistency threshold in [0, 1].
        method: `reference` is the published walk; `g2is` admits the options below.
        consistency: Measure against the value of the step before (published), the best so far, or the anchor's.
        min_core_cosine: Smallest cosine to K that any row must have, the anchor included; None for no such floor.
        no_conflict: Whether cos(z, s) >= 0 is asked for at all.
        conflicts_across: Also forbid conflict with rows taken for earlier components.
        reallocate: Give what a component could not use to those that used all of theirs, in proportion to their
            budgets, until it is used or every walk has ended short.
        memory_bytes: Most that the features may take; beyond, they are read anew for every block of products. None: no
            limit.

    Raises:
        ValueError: Shapes that do not fit, entries that are not finite, or an option with `method="reference"`.
    """
    source, cores, limits = as_source(features), np.asarray(components), np.asarray(budgets)
    if cores.ndim != 2 or source.shape[1] != cores.shape[1] or limits.shape != (len(cores),):
        raise ValueError(f"features {source.shape}, components {cores.shape} and budgets {limits.shape} do not fit")
    if (limits != np.floor(limits)).any() or (limits < 0).any():
        raise ValueError(f"budgets must be whole and not negative, got {limits}")
    if method not in get_args(Method) or consistency not in get_args(Consistency) or not 0 <= delta <= 1:
        raise ValueError(f"unknown method '{method}' or consistency '{consistency}', or delta {delta} not in [0, 1]")
    options = (consistency, min_core_cosine, no_conflict, conflicts_across, reallocate)
    if method == "reference" and options != ("previous", None, True, False, False):
        raise ValueError("method='reference' takes no options but delta")
    rules = Rules(delta, consistency, min_core_cosine, no_conflict, conflicts_across)
    rows = CodedRows(source, memory_bytes, AT_A_TIME) if method == "g2is" else FloatRows(source, memory_bytes)
    state = WalkState(rows, int(limits.sum()), across=conflicts_across, conflict=no_conflict)
    trace: list[Record] = []
    # Every vector is finite by now, yet some BLAS kernels raise the invalid flag on unused vector lanes.
    with np.errstate(invalid="ignore"):
        walks = [ComponentWalk(n, to_core, state, rules) for n, to_core in enumerate(rows.towards(unit_rows(cores)))]
        for walk, limit in zip(walks, limits, strict=True):
            walk.run(int(limit), trace)
        if reallocate:
            _reallocate(walks, limits, trace)
    return Walk.of(state, trace, [walk.ended for walk in walks], [walk.refusals for walk in walks])


def _reallocate(walks: list["ComponentWalk"], limits: NDArray[np.int64], trace: list[Record]) -> None:
    while True:
        short = int(limits.sum()) - len(trace)
        able = [number for number, walk in enumerate(walks) if walk.ended == "budget"]
        if short == 0 or not able:
            return
        for number, more in zip(able, allocate_budgets(short, limits[able]), strict=True):
            walks[number].run(int(more), trace)


@dataclass
class ComponentWalk:
    """One component's walk; it can go on later from where it ended."""

    number: int
    core_cosine: NDArray[np.floating]
    state: WalkState
    rules: Rules
    ended: Ended = "no budget"
    refusals: Refusals | None = None
    taken: list[int] = field(default_factory=list)
    reached: list[float] = field(default_factory=list)
    n_choices: int = 0
    core_dot: float = 0.0
    squared: float = 0.0

    def __post_init__(self) -> None:
        floor = self.rules.min_core_cosine
        self.above_floor = self.core_cosine >= (-np.inf if floor is None else floor)
        self.n_inconsistent = np.zeros(self.state.rows.n_rows, dtype=np.int32)

    def run(self, n_more: int, trace: list[Record]) -> None:
        """Take up to `n_more` rows; every row taken leaves `state` and enters `trace`."""
        if n_more == 0:
            return
        self._begin()
        for _ in range(n_more):
            choice = self._choose()
            if choice is None:
                break
            self._take(choice, trace)
        else:
            self.ended = "budget"
        self._close()

    def _begin(self) -> None:
        self.state.begin(self.number)
        self.to_core = self.core_cosine[self.state.rows.index]
        self.allowed = self.above_floor[self.state.rows.index]
        again = np.array(self.taken, dtype=np.int64)
        for step, number in enumerate(self.taken):  # going on: the rows' knowledge of this walk is made again
            self._absorb(step, number, lambda n, step=step: again[step : step + n])  # type: ignore[misc]

    def _choose(self) -> Choice | None:
        """The next row; if there is none, `ended` says why."""
        state = self.state
        free = state.free[state.rows.index]
        unblocked = free & (state.minimum >= 0)
        candidates = unblocked & self.allowed
        if not self.taken:
            best, against = self._best(candidates), np.nan
        elif self.rules.delta == 0:
            best, against = self._best(candidates), self._against()
            self.n_choices += 1
        else:
            against = self._against()
            enough = self._consistency() >= self.rules.delta * against
            self.n_choices += 1
            self.n_inconsistent[state.rows.index[candidates & ~enough]] += 1
            best = self._best(candidates & enough)
        if best is None:
            left: list[tuple[Ended, NDArray[np.bool_]]] = [
                ("consistency", candidates),
                ("core cosine", unblocked),
                ("conflict", state.free),
            ]
            self.ended = next((reason for reason, rows in left if rows.any()), "no free row")
            return None
        position, score = best
        here = slice(position, position + 1)
        reached = self._consistency(here) if self.taken else np.abs(self.to_core[here])
        return Choice(position, score, float(reached[0]), against)

    def _against(self) -> float:
        """The value that consistency is measured against."""
        if self.rules.consistency == "previous":
            return self.reached[-1]
        return max(self.reached) if self.rules.consistency == "best" else self.reached[0]

    def _best(self, candidates: NDArray[np.bool_]) -> tuple[int, float] | None:
        """The candidate with the largest score, and that score; ties go to the lower row index."""
        places = np.flatnonzero(candidates)
        if not len(places):
            return None
        scores = self._score()[places]
        self.state.rivals.note(self.state.rows.index[places], scores)
        largest = scores.max()
        first = places[scores == largest]
        position = first[self.state.rows.index[first].argmin()]
        return int(position), float(largest)

    def _likely(self, n: int) -> NDArray[np.int64]:
        """Up to n rows that are likely to be next: those that the walk would take if there were only the best ones now.

        A guess: it minds no consistency.
        """
        state = self.state
        # Of a block with few columns a product costs some four times as much as of a square one.
        wide = min(max(AHEAD, 16 * n), 2 * math.isqrt((n + 1) * len(state.rows.index)))
        places = np.flatnonzero(state.free[state.rows.index] & (state.minimum >= 0) & self.allowed)
        if len(places) > wide:
            places = places[np.argpartition(self._score()[places], -wide)[-wide:]]
        rows = np.append(self.taken[-1], state.rows.index[places])
        assert isinstance(state.rows, CodedRows)
        return rows[self._path(cosines_among(state.rows.at(rows), state.rows.terms.at(rows)), rows, n)]

    def _path(self, cosines: NDArray[np.float64], rows: NDArray[np.int64], n: int) -> list[int]:
        """Places of the next n among these rows, of which the first is the one just taken."""
        free, path = np.ones(len(rows), dtype=bool), [0]
        while len(path) <= n:
            here = cosines[path[-1]]
            free[path[-1]] = False
            if self.state.conflict:
                free &= here >= 0
            if not free.any():
                break
            path.append(int(np.where(free, here, -np.inf).argmax()))
        return path[1:]

    def _score(self) -> NDArray[np.floating]:
        """What the next row has most of, for every active row: coherence, or nearness to K for the anchor."""
        return self.state.to_last if self.taken else self.to_core

    def _with_sum(self, position: int) -> float:
        """Product of an active row and the sum of the rows taken."""
        return float(self.state.to_sum[position])

    def _consistency(self, at: slice = slice(None)) -> NDArray[np.floating]:
        """|cosine(sum(S + z), K)| for every active row z: closed form from running dot products."""
        to_sum = self.state.to_sum[at] if at == slice(None) else np.array([self._with_sum(at.start)])
        squared = self.squared + 2 * to_sum + self.state.squared_now()[at]
        return _cosine(self.core_dot + self.to_core[at], squared)

    def _take(self, choice: Choice, trace: list[Record]) -> None:
        state, step, position = self.state, len(self.taken), choice.position
        number, core_cosine = int(state.rows.index[position]), float(self.to_core[position])
        min_row = int(state.minimum_row[position])
        record = {
            "rows": number,
            "component": self.number,
            "step": step,
            "predecessor": self.taken[-1] if self.taken else -1,
            "predecessor_cosine": float(state.to_last[position]) if self.taken else np.nan,
            "min_cosine": float(state.minimum[position]) if min_row >= 0 else np.nan,
            "min_cosine_row": min_row,
            "core_cosine": core_cosine,
            "consistency_before": choice.against,
            "consistency": choice.reached,
            "score": choice.score,
            "error": self._error(),
        }
        trace.append(record | self._more(position))
        self.squared += 2 * self._with_sum(position) + float(state.rows.alive[number])
        self.core_dot += core_cosine
        self.taken.append(number)
        self.reached.append(choice.reached)
        state.free[number] = False
        self._absorb(step, number, self._likely)

    def _error(self) -> float:
        """Standard error, at most, that the sketch gives a margin.

        Both scores are products with one vector, here of norm 1; two rows at right angles are the root of 2 apart.
        """
        return math.sqrt(2 * len(self.state.rows.source.weights) / self.state.rows.n_columns)

    def _more(self, position: int) -> dict[str, float]:
        """What a kind of walk records otherwise, or besides, of the row that it takes."""
        return {}

    def _absorb(self, step: int, number: int, likely: Likely) -> None:
        kept = self.state.absorb(step, number, likely)
        if kept is not None:
            self.to_core, self.allowed = self.to_core[kept], self.allowed[kept]

    def _close(self) -> None:
        state = self.state
        rank = np.full(state.rows.n_rows, -1, dtype=np.int32)
        left = np.flatnonzero(state.free[state.rows.index] & (state.minimum >= 0) & self.allowed)
        order = np.lexsort((state.rows.index[left], -self._score()[left]))
        rank[state.rows.index[left[order]]] = np.arange(1, len(left) + 1)
        self.refusals = Refusals(
            core_cosine=self.core_cosine.astype(np.float32),
            n_inconsistent=self.n_inconsistent,
            rank=rank,
            n_choices=self.n_choices,
            **{f"conflict_{name}": array.copy() for name, array in state.first_conflict.items()},
        )


def _cosine(dots: NDArray[np.floating], squared: NDArray[np.floating]) -> NDArray[Any]:
    """|cosine| to a unit vector, from dot products with it and squared norms; 0 for a norm of zero."""
    norm = np.sqrt(np.maximum(squared, 0))
    return np.abs(np.divide(dots, norm, out=np.zeros_like(norm), where=norm > ZERO_NORM))
