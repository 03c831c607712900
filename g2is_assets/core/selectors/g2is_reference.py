"""The published walk."""

from g2is_assets.core.selectors.problem import Problem, Selection
from g2is_assets.core.selectors.walking import select_by_walk
from g2is_assets.settings.config import KnowledgeSettings, SelectionSettings


def select(problem: Problem) -> Selection:
    """The paper's walk from centred principal directions that explain half of the variance, over the Adam mix."""
    settings = SelectionSettings(method="reference", memory_gb=problem.settings.memory_gb)
    return select_by_walk(problem, problem.gradient_features("adam"), settings, KnowledgeSettings())
