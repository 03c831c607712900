"""The balanced walk with a word for long responses: what the length of a row adds to its pull."""

import numpy as np

from g2is_assets.core.balance import mean_feature
from g2is_assets.core.selectors.problem import Problem, Selection
from g2is_assets.core.selectors.ranking import cosines
from g2is_assets.core.vectors import unit_rows


def select(problem: Problem) -> Selection:
    """As `g2is`, with each row's pull times the square root of its response length over the median length.

    A row's mean loss is taken over its tokens: the noise in its gradient shrinks with the root of their number.
    """
    settings = problem.settings
    source, own = problem.gradient_features(settings.kind, settings.mean_removed)
    lengths = problem.n_response_tokens[problem.eligible]
    weights = np.sqrt(lengths / np.median(lengths))
    pull = weights * cosines(source, mean_feature(own)[None])[:, 0]
    to_taken, free = np.zeros(len(pull)), np.ones(len(pull), dtype=bool)
    taken, scores = [], []
    for n in range(problem.budget):
        score = np.where(free, pull - settings.redundancy / (n + 1) * to_taken, -np.inf)
        row = int(score.argmax())
        taken.append(row)
        scores.append(score[row])
        free[row] = False
        to_taken += cosines(source, unit_rows(source.rows(np.array([row]))))[:, 0]
    return Selection(problem.eligible[np.array(taken, dtype=np.int64)], np.array(scores, dtype=np.float64))
