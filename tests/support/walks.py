"""Problems for the paper's walk, and the walk by its definition: brute force in float64, candidate by candidate."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from g2is_assets.core.codes import quantise
from g2is_assets.core.knowledge import allocate_budgets
from g2is_assets.core.walk import gradient_walk
from g2is_assets.core.walk_state import Walk

MARGIN = 1e-6
"""Problems in which a decision of the definition is closer than this are not drawn: float32 may decide otherwise."""

bounded = settings(max_examples=50, deadline=None, derandomize=True)

OPTIONS: list[dict[str, Any]] = [
    {"consistency": "previous"},
    {"consistency": "best"},
    {"consistency": "anchor"},
    {"min_core_cosine": 0.1},
    {"no_conflict": False},
    {"conflicts_across": True},
    {"consistency": "best", "min_core_cosine": -0.1, "conflicts_across": True},
    {"reallocate": True},
    {"reallocate": True, "consistency": "anchor", "conflicts_across": True},
]


@dataclass(frozen=True)
class Problem:
    features: np.ndarray
    components: np.ndarray
    budgets: list[int]
    delta: float


@st.composite
def problems(draw: st.DrawFn, mean: float | None = None) -> Problem:
    """Continuous random rows with a shared mean (the larger, the fewer conflicts) and any norms."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d, c = rng.integers(1, 41), rng.integers(2, 13), rng.integers(1, 5)
    shift = mean if mean is not None else draw(st.sampled_from([0.0, 0.3, 1.0]))
    scale = rng.uniform(0.01, 100, size=(n, 1))
    return Problem(
        quantise((rng.normal(size=(n, d)) + shift) * scale),
        rng.normal(size=(c, d)).astype(np.float32),
        rng.integers(0, 13, size=c).tolist(),
        draw(st.sampled_from([0.0, 0.5, 0.8, 0.95, 1.0])),
    )


def units(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cosine(vector: np.ndarray, direction: np.ndarray) -> float:
    norms = np.linalg.norm(vector) * np.linalg.norm(direction)
    return float(vector @ direction / norms) if norms > 1e-10 else 0.0


def brute_force(
    problem: Problem,
    consistency: str = "previous",
    min_core_cosine: float | None = None,
    no_conflict: bool = True,
    conflicts_across: bool = False,
    reallocate: bool = False,
) -> tuple[list[tuple[int, int]], float, list[float]]:
    """(component, row) in the order taken, candidate by candidate; how close the closest decision was; and margins."""
    allowed_then: list[tuple[int, dict[int, float]]] = []
    rows, cores = units(problem.features), units(problem.components)
    matrix = (rows @ rows.T).tolist()
    taken: list[tuple[int, int]] = []
    margins = [np.inf]
    chosen: list[list[int]] = [[] for _ in cores]
    reached: list[list[float]] = [[] for _ in cores]

    def at_least(value: float, bound: float) -> bool:
        margins.append(abs(value - bound))
        return value >= bound

    def take_one(component: int) -> bool:
        core, own, values = cores[component], chosen[component], reached[component]
        scores: dict[int, float] = {}
        for z in set(range(len(rows))) - {row for _, row in taken}:
            to_core = cosine(rows[z], core)
            if min_core_cosine is not None and not at_least(to_core, min_core_cosine):
                continue
            rivals = [row for _, row in taken] if conflicts_across else own
            if no_conflict and not all(at_least(matrix[z][s], 0.0) for s in rivals):
                continue
            if own:
                against = {"previous": values[-1], "best": max(values), "anchor": values[0]}[consistency]
                if not at_least(abs(cosine(rows[[*own, z]].sum(axis=0), core)), problem.delta * against):
                    continue
            scores[z] = matrix[z][own[-1]] if own else to_core
        if not scores:
            return False
        best = max(scores, key=lambda z: scores[z])
        margins.extend(scores[best] - score for z, score in scores.items() if z != best)
        own.append(best)
        allowed_then.append((best, scores))
        taken.append((component, best))
        values.append(abs(cosine(rows[own].sum(axis=0), core)))
        return True

    def take(component: int, n_rows: int) -> bool:
        return all(take_one(component) for _ in range(n_rows))

    able = [take(component, budget) and budget > 0 for component, budget in enumerate(problem.budgets)]
    while reallocate and any(able) and (short := sum(problem.budgets) - len(taken)):
        numbers = [component for component, can in enumerate(able) if can]
        shares = allocate_budgets(short, [problem.budgets[component] for component in numbers])
        for component, more in zip(numbers, shares.tolist(), strict=True):
            able[component] = take(component, more)
    never = set(range(len(rows))) - {row for _, row in taken}
    stands_by = [min((then[row] - then[z] for z in then.keys() & never), default=np.nan) for row, then in allowed_then]
    return taken, min(margins), stands_by


def walk_of(problem: Problem, **options: Any) -> Walk:
    return gradient_walk(problem.features, problem.components, problem.budgets, delta=problem.delta, **options)


def pairs(walk: Walk) -> list[tuple[int, int]]:
    return list(zip(walk.component.tolist(), walk.rows.tolist(), strict=True))


def arrays(walk: Walk) -> list[np.ndarray]:
    return [getattr(walk, f.name) for f in fields(walk) if f.name not in ("ended", "refusals")]


def assert_equal(first: Walk, second: Walk) -> None:
    """The same rows for the same reasons, bit for bit."""
    for one, other in zip(arrays(first), arrays(second), strict=True):
        np.testing.assert_array_equal(one, other)
    assert first.ended == second.ended


PLANE = np.array([[7, -24], [3, 4], [1, 0], [4, 3]])
"""Cosines to (1, 0): .28, .6, 1, .8; row 0 conflicts with 1 and 3; 2 - 3 - 1 is the coherent way."""
EAST = np.array([[1.0, 0.0]])
