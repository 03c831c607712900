"""The plain pull alone, without the walk: neither fairness to validation rows nor redundancy among those taken."""

from g2is_assets.core.balance import mean_feature
from g2is_assets.core.selectors.problem import Problem, Selection
from g2is_assets.core.selectors.ranking import cosines, largest


def select(problem: Problem) -> Selection:
    """The rows with the largest mean cosine to the validation rows, over the features that `g2is` walks."""
    settings = problem.settings
    source, own = problem.gradient_features(settings.kind, settings.mean_removed)
    return largest(problem, cosines(source, mean_feature(own)[None])[:, 0])
