"""Nearest embeddings: similarity without gradients."""

from g2is_assets.core.selectors.problem import Problem, Selection
from g2is_assets.core.selectors.ranking import cosines, in_turn
from g2is_assets.core.vectors import unit_rows


def select(problem: Problem) -> Selection:
    """RDS+ (Ivison et al. 2025): each validation row in turn takes the free row whose embedding has the largest cosine.

    The embeddings are those of `training.embed`.
    """
    source, own = problem.embedding_features()
    return in_turn(problem, cosines(source, unit_rows(own)))
