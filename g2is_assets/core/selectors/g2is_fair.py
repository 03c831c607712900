"""The balanced walk with a word for the validation rows that have been served least."""

import numpy as np

from g2is_assets.core.selectors.problem import Problem, Selection
from g2is_assets.core.selectors.ranking import cosines
from g2is_assets.core.vectors import unit_rows


def select(problem: Problem) -> Selection:
    """As `g2is`, but a validation row counts by the inverse of what the rows taken add up to along it.

    Proportional fairness (Kelly, Maulloo and Tan 1998): it climbs the sum over validation rows of log(1 + what each is
    served), the sum of its cosines to the rows taken. Where all are served alike, this is `g2is`.
    """
    settings = problem.settings
    source, own = problem.gradient_features(settings.kind, settings.mean_removed)
    pulls = cosines(source, unit_rows(own)).astype(np.float64)
    served, to_taken, free = np.zeros(pulls.shape[1]), np.zeros(len(pulls)), np.ones(len(pulls), dtype=bool)
    taken, scores = [], []
    for n in range(problem.budget):
        weights = 1 / (1 + np.maximum(served, 0))
        score = np.where(free, pulls @ (weights / weights.sum()) - settings.redundancy / (n + 1) * to_taken, -np.inf)
        row = int(score.argmax())
        taken.append(row)
        scores.append(score[row])
        free[row] = False
        served += pulls[row]
        if settings.redundancy:
            to_taken += cosines(source, unit_rows(source.rows(np.array([row]))))[:, 0]
    return Selection(problem.eligible[np.array(taken, dtype=np.int64)], np.array(scores, dtype=np.float64))
