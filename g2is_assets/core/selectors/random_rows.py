"""Random rows, as the baseline draws them."""

import numpy as np

from g2is_assets.core.sampling import hash_sample
from g2is_assets.core.selectors.problem import Problem, Selection


def select(problem: Problem) -> Selection:
    """The first rows by the hash of domain, seed and row id: over the same rows those of `finetune/baseline`."""
    ids = {problem.row_ids[row]: int(row) for row in problem.eligible}
    drawn = hash_sample(list(ids), problem.budget, salt=f"baseline/{problem.domain}/{problem.seed}")
    rows = np.array([ids[row_id] for row_id in drawn], dtype=np.int64)
    return Selection(rows, np.full(len(rows), np.nan))
