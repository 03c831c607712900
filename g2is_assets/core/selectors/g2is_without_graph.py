"""The pull alone: what the walk adds to it is the graph's part."""

from g2is_assets.core.balance import mean_feature
from g2is_assets.core.selectors.problem import Problem, Selection
from g2is_assets.core.selectors.ranking import cosines, largest


def select(problem: Problem) -> Selection:
    """The rows with the largest dot product with the domain's mean feature, over the features that `g2is` walks."""
    settings = problem.settings
    source, own = problem.gradient_features(settings.kind, settings.mean_removed)
    return largest(problem, cosines(source, mean_feature(own)[None])[:, 0])
