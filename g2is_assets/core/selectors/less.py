"""LESS: the rows whose gradients are nearest to the domain's on average."""

import numpy as np

from g2is_assets.core.selectors.problem import Problem, Selection
from g2is_assets.core.selectors.ranking import cosines, largest
from g2is_assets.core.vectors import unit_rows


def select(problem: Problem) -> Selection:
    """Largest mean cosine of the Adam mix to the validation gradients of a sub-task, of its nearest sub-task.

    Xia et al. 2024, with one checkpoint: max over sub-tasks of the mean over its rows; without sub-tasks, one mean.
    """
    source, own = problem.gradient_features("adam")
    names = np.array(problem.sub_tasks if problem.sub_tasks is not None else [""] * len(own))
    unit = unit_rows(own).astype(np.float64)
    means = np.array([unit[names == name].mean(axis=0) for name in np.unique(names)])
    return largest(problem, cosines(source, means).max(axis=1))
