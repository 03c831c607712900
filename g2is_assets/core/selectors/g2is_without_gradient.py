"""The same walk on embeddings: what gradients add to it is their part."""

from g2is_assets.core.selectors.problem import Problem, Selection
from g2is_assets.core.selectors.walking import select_by_walk


def select(problem: Problem) -> Selection:
    """The walk of `g2is` with embeddings in the place of gradient features."""
    return select_by_walk(problem, problem.embedding_features(), problem.settings, problem.knowledge_settings)
