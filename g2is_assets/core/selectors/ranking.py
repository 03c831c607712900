"""What several selectors share: cosines to directions, the largest scores, and choosing in turn."""

import numpy as np
from numpy.typing import NDArray

from g2is_assets.core.rows import FeatureSource, exact_rows, unit_rows
from g2is_assets.core.selectors.problem import Problem, Selection


def cosines(source: FeatureSource, directions: NDArray[np.floating]) -> NDArray[np.float32]:
    """(n, v) dot products of unit rows with directions, in float64, rounded to float32.

    Equal rows then have equal scores, so that ties can go to the lower row.
    """
    found = np.empty((source.shape[0], len(directions)), dtype=np.float32)
    towards = directions.astype(np.float64).T
    for numbers, values in source.blocks():
        found[numbers] = exact_rows(unit_rows(values)) @ towards
    return found


def largest(problem: Problem, scores: NDArray[np.floating]) -> Selection:
    """The eligible rows with the largest scores, (e,), ties to the lower row."""
    order = np.argsort(-scores, kind="stable")[: problem.budget]
    return Selection(problem.eligible[order], scores[order].astype(np.float64))


def in_turn(problem: Problem, scores: NDArray[np.float32]) -> Selection:
    """Each validation row in turn takes the free row with its largest score, until the budget is used.

    Args:
        problem: The problem.
        scores: (e, v) of every eligible row for every validation row; ties to the lower row.
    """
    # No validation row looks further down its list than the budget.
    lists = np.argsort(-scores, axis=0, kind="stable")[: problem.budget].T
    places, free, taken, found = [0] * len(lists), np.ones(len(scores), dtype=bool), [], []
    for turn in range(problem.budget):
        own = turn % len(lists)
        while not free[lists[own][places[own]]]:
            places[own] += 1
        row = int(lists[own][places[own]])
        free[row] = False
        taken.append(row)
        found.append(scores[row, own])
    return Selection(problem.eligible[np.array(taken, dtype=np.int64)], np.array(found, dtype=np.float64))
