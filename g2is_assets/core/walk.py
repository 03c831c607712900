"""The gradient walk: from core knowledge to a subset, exact on the complete instruction graph.

Cosines of the complete graph are never stored. Each step needs one matrix-vector product with the row just taken;
a running minimum gives "no conflict" and a running sum gives "consistency" for all rows at once.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2is_assets.core.knowledge import allocate_budgets
from g2is_assets.core.rows import ZERO_NORM, FeatureSource, UnitRows, as_source, exact_rows, unit_rows
from g2is_assets.core.walk_state import TIE, Ended, Record, Refusals, Walk, WalkState

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
    exact: bool


@dataclass(frozen=True)
class Choice:
    """The next row: its position, what it had most of and by how much, and the two sides of consistency."""

    position: int
    score: float
    margin: float
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
    Deterministic: components in order, ties to the lower row index; with `g2is`, decisions within 1e-5 of a tie or a
    threshold are taken in float64 in a fixed order. Cost: one (n, d) matrix-vector product per row taken, over the
    rows not yet in conflict. Memory: the float32 features once, or a block of them where they exceed `memory_bytes`,
    and some 30 bytes for each row and component.

    Args:
        features: (n, d) float or a source of them, normalised here; zero rows have cosine 0 with everything.
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
        memory_bytes: Most that the float32 features may take; beyond, they are converted at every step. None: no limit.

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
    exact = method == "g2is"
    rules = Rules(delta, consistency, min_core_cosine, no_conflict, conflicts_across, exact)
    state = WalkState(UnitRows(source, memory_bytes), across=conflicts_across, conflict=no_conflict, exact=exact)
    trace: list[Record] = []
    # Every vector is finite by now, yet some BLAS kernels raise the invalid flag on unused vector lanes.
    with np.errstate(invalid="ignore"):
        walks = [ComponentWalk(number, core, state, rules) for number, core in enumerate(unit_rows(cores))]
        for walk, limit in zip(walks, limits, strict=True):
            walk.run(int(limit), trace)
        if reallocate:
            _reallocate(walks, limits, trace)
    return Walk.of(trace, [walk.ended for walk in walks], [walk.refusals for walk in walks])


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
    core: NDArray[np.float32]
    state: WalkState
    rules: Rules
    ended: Ended = "no budget"
    refusals: Refusals | None = None
    taken: list[int] = field(default_factory=list)
    reached: list[float] = field(default_factory=list)
    n_choices: int = 0

    def __post_init__(self) -> None:
        rows = self.state.rows  # all of them still, in their own order
        self.exact_core = exact_rows(self.core[None])[0]
        self.core_cosine = rows.products(self.core)
        self.above_floor = np.ones(rows.n_rows, dtype=bool)
        floor = self.rules.min_core_cosine
        if floor is not None:
            self.above_floor = self.core_cosine >= floor
            if self.rules.exact:
                near = np.flatnonzero(np.abs(self.core_cosine - floor) <= TIE)
                self.above_floor[near] = self.state.dots(near, self.exact_core) >= floor
        self.n_inconsistent = np.zeros(rows.n_rows, dtype=np.int32)
        self.sum: NDArray[Any] = np.zeros(len(self.core), dtype=np.float64 if self.rules.exact else np.float32)
        self.core_dot = 0.0

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
        for step, number in enumerate(self.taken):
            self._absorb(step, number)  # going on: the rows' knowledge of this walk is made again

    def _choose(self) -> Choice | None:
        """The next row; if there is none, `ended` says why."""
        state = self.state
        free = state.free[state.rows.index]
        unblocked = free & (state.minimum >= 0)
        candidates = unblocked & self.allowed
        if not self.taken:
            best = self._best(candidates)
            reached, against = np.abs(self.to_core), np.nan
        else:
            reached, against = self._consistency(), self._against()
            enough = self._enough(candidates, reached, self.rules.delta * against)
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
        position, score, margin = best
        return Choice(position, score, margin, float(reached[position]), against)

    def _against(self) -> float:
        """The value that consistency is measured against."""
        if self.rules.consistency == "previous":
            return self.reached[-1]
        return max(self.reached) if self.rules.consistency == "best" else self.reached[0]

    def _enough(
        self, candidates: NDArray[np.bool_], reached: NDArray[np.floating], threshold: float
    ) -> NDArray[np.bool_]:
        """Which active rows keep the consistency."""
        enough = reached >= threshold
        if self.rules.exact:
            near = np.flatnonzero(candidates & (np.abs(reached - threshold) <= TIE))
            enough[near] = self._exact_consistency(near) >= threshold
        return enough

    def _best(self, candidates: NDArray[np.bool_]) -> tuple[int, float, float] | None:
        """The candidate with the largest score, that score, and its lead over the next (NaN if there is no other).

        Ties go to the lower row index.
        """
        if not candidates.any():
            return None
        score = self._score()
        allowed = score[candidates]
        second = np.partition(allowed, -2)[-2] if len(allowed) > 1 else allowed[0]
        near = np.flatnonzero(candidates & (score >= second - (TIE if self.rules.exact else 0.0)))
        near = near[np.argsort(self.state.rows.index[near])]
        values = self._exact_score(near) if self.rules.exact else score[near]
        first = int(values.argmax())  # the first maximum
        others = np.delete(values, first)
        margin = float(values[first] - others.max()) if len(others) else np.nan
        return int(near[first]), float(values[first]), margin

    def _score(self) -> NDArray[np.floating]:
        """What the next row has most of, for every active row: coherence, or nearness to K for the anchor."""
        return self.state.to_last if self.taken else self.to_core

    def _exact_score(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        towards = exact_rows(self.state.vectors[self.taken[-1]][None])[0] if self.taken else self.exact_core
        return self.state.dots(positions, towards)

    def _exact_consistency(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        dots = self.state.dots
        squared = self.sum @ self.sum + 2 * dots(positions, self.sum) + self.state.squared_now()[positions]
        return _cosine(self.core_dot + dots(positions, self.exact_core), squared)

    def _consistency(self) -> NDArray[np.floating]:
        """|cosine(sum(S + z), K)| for every active row z: closed form from running dot products."""
        squared = np.float32(self.sum @ self.sum) + 2 * self.state.to_sum + self.state.squared_now()
        return _cosine(np.float32(self.core_dot) + self.to_core, squared)

    def _take(self, choice: Choice, trace: list[Record]) -> None:
        state, step, position, reached = self.state, len(self.taken), choice.position, choice.reached
        number, vector = int(state.rows.index[position]), state.rows.vector(position)
        core_cosine = float(self.to_core[position])
        coherence = float(state.to_last[position]) if self.taken else np.nan
        min_row = int(state.minimum_row[position])
        min_cosine = float(state.minimum[position]) if min_row >= 0 else np.nan
        if self.rules.exact:
            here = np.array([position])
            reached = float(self._exact_consistency(here)[0])
            core_cosine = float(state.dots(here, self.exact_core)[0])
            coherence = float(self._exact_score(here)[0]) if self.taken else np.nan
            if min_row >= 0:
                min_cosine = float(state.dots(here, exact_rows(state.vectors[min_row][None])[0])[0])
        record = {
            "rows": number,
            "component": self.number,
            "step": step,
            "predecessor": self.taken[-1] if self.taken else -1,
            "predecessor_cosine": coherence,
            "min_cosine": min_cosine,
            "min_cosine_row": min_row,
            "core_cosine": core_cosine,
            "consistency_before": choice.against,
            "consistency": reached,
            "score": choice.score,
            "margin": choice.margin,
        }
        trace.append(record | self._more(position))
        self.sum = self.sum + (exact_rows(vector[None])[0] if self.rules.exact else vector)
        self.core_dot += core_cosine
        self.taken.append(number)
        self.reached.append(reached)
        state.free[number] = False
        state.vectors[number] = vector
        self._absorb(step, number)

    def _more(self, position: int) -> dict[str, float]:
        """What a kind of walk records otherwise, or besides, of the row that it takes."""
        return {}

    def _absorb(self, step: int, number: int) -> None:
        kept = self.state.absorb(step, number)
        if kept is not None:
            self.to_core, self.allowed = self.to_core[kept], self.allowed[kept]

    def _close(self) -> None:
        state = self.state
        rank = np.full(state.rows.n_rows, -1, dtype=np.int32)
        left = np.flatnonzero(state.free[state.rows.index] & (state.minimum >= 0) & self.allowed)
        order = np.lexsort((state.rows.index[left], -self._score()[left]))
        rank[state.rows.index[left[order]]] = np.arange(1, len(left) + 1)
        self.refusals = Refusals(
            core_cosine=self.core_cosine,
            n_inconsistent=self.n_inconsistent,
            rank=rank,
            n_choices=self.n_choices,
            **{f"conflict_{name}": array.copy() for name, array in state.first_conflict.items()},
        )


def _cosine(dots: NDArray[np.floating], squared: NDArray[np.floating]) -> NDArray[Any]:
    """|cosine| to a unit vector, from dot products with it and squared norms; 0 for a norm of zero."""
    norm = np.sqrt(np.maximum(squared, 0))
    return np.abs(np.divide(dots, norm, out=np.zeros_like(norm), where=norm > ZERO_NORM))
