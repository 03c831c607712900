"""The balanced walk with a word for long responses: what the length of a row adds to its pull."""

import numpy as np

from g2is_assets.core.balance import balanced_walk
from g2is_assets.core.selectors.problem import Problem, Selection


def select(problem: Problem) -> Selection:
    """As `g2is`, with each row's pull times the square root of its response length over the median length.

    A row's mean loss is taken over its tokens: the noise in its gradient shrinks with the root of their number.
    """
    settings = problem.settings
    source, own = problem.gradient_features(settings.kind, settings.mean_removed)
    lengths = problem.n_response_tokens[problem.eligible]
    walk = balanced_walk(
        source,
        own,
        problem.budget,
        redundancy=settings.redundancy,
        fair=settings.fair,
        factors=np.sqrt(lengths / np.median(lengths)),
        memory_bytes=int(1e9 * settings.memory_gb),
    )
    return Selection(problem.eligible[walk.rows], walk.score, walk)
