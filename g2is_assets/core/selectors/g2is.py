"""This project's walk."""

from g2is_assets.core.selectors.problem import Problem, Selection
from g2is_assets.core.selectors.walking import select_by_walk


def select(problem: Problem) -> Selection:
    """The balanced walk with the default settings, each of which `options` may override (also the walk itself)."""
    settings = problem.settings
    features = problem.gradient_features(settings.kind, settings.mean_removed)
    return select_by_walk(problem, features, settings, problem.knowledge_settings)
