"""The whole pool: what selection saves, and what it may lose."""

import numpy as np

from g2is_assets.core.selectors.problem import Problem, Selection


def select(problem: Problem) -> Selection:
    """Every eligible row in the pool's order; the budget does not count."""
    return Selection(problem.eligible.copy(), np.full(len(problem.eligible), np.nan))
