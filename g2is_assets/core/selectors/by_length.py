"""The longest responses: the plainest of baselines."""

import numpy as np

from g2is_assets.core.selectors.problem import Problem, Selection
from g2is_assets.core.selectors.ranking import largest


def select(problem: Problem) -> Selection:
    """The rows with the most response tokens (Zhao et al. 2024, "Long is more for alignment")."""
    return largest(problem, np.asarray(problem.n_response_tokens)[problem.eligible].astype(np.float64))
