"""LESS with the rows shared out evenly: no validation row goes without."""

from g2is_assets.core.selectors.problem import Problem, Selection
from g2is_assets.core.selectors.ranking import cosines, in_turn
from g2is_assets.core.vectors import unit_rows


def select(problem: Problem) -> Selection:
    """Each validation row in turn takes the free row whose Adam mix has the largest cosine to its gradient.

    The round robin of Ivison et al. 2025 over the features of LESS.
    """
    source, own = problem.gradient_features("adam")
    return in_turn(problem, cosines(source, unit_rows(own)))
