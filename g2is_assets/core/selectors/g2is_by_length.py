"""The balanced walk with a word for long responses: what the length of a row adds to its pull."""

import numpy as np

from g2is_assets.core.balance import node_weights, nodes_of
from g2is_assets.core.rows import exact_rows
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
    nodes = nodes_of(own, settings.fair)
    to_nodes = weights[:, None] * cosines(source, nodes)
    total, free = np.zeros(source.shape[1]), np.ones(len(weights), dtype=bool)
    taken, scores = [], []
    for n in range(problem.budget):
        repeated = cosines(source, total[None])[:, 0]
        score = to_nodes @ node_weights(nodes, total) - settings.redundancy / (n + 1) * repeated
        row = int(np.where(free, score, -np.inf).argmax())
        taken.append(row)
        scores.append(score[row])
        free[row] = False
        total += exact_rows(unit_rows(source.rows(np.array([row]))))[0]
    return Selection(problem.eligible[np.array(taken, dtype=np.int64)], np.array(scores, dtype=np.float64))
