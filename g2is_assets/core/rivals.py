"""By how much each row taken stands above the best row that a walk never took."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

MOST_RIVALS: Final = 2**23
"""Scores of rivals held in all, 100 MB: enough for a budget of 2,896 rows."""


class Rivals:
    """The strongest others of every choice, by which a row taken stands, in the end, above the rows never taken.

    Of a choice after which b rows may be taken, the best row that none of them is, is among the strongest b + 1 others.
    """

    def __init__(self, budget: int) -> None:
        """Nothing noted yet of a walk that takes at most so many rows."""
        self.budget, self.most = budget, max(16, MOST_RIVALS // max(budget, 1))
        self.noted: list[tuple[NDArray[np.int32], NDArray[np.float64], bool]] = []

    def note(self, numbers: NDArray[np.int64], scores: NDArray[np.floating]) -> None:
        """Note a choice: all rows allowed and their scores; the one taken, which is never left, may be among them."""
        n = min(self.budget - len(self.noted) + 1, self.most)
        if cut := n < len(scores):
            strongest = np.argpartition(scores, -n)[-n:]
            numbers, scores = numbers[strongest], scores[strongest]
        self.noted.append((numbers.astype(np.int32), scores.astype(np.float64), cut))

    def margins(self, taken: NDArray[np.int64], scores: NDArray[np.float64], n_rows: int) -> NDArray[np.float64]:
        """(m,) how far the best row never taken lay behind each choice's; NaN where none was allowed.

        Where only some rivals could be held, and all of them were taken, it is how far the weakest of these lay behind:
        the margin is at least that.
        """
        left, found = np.ones(n_rows, dtype=bool), np.full(len(taken), np.nan)
        left[taken] = False
        for step, (numbers, others, cut) in enumerate(self.noted):
            never = others[left[numbers]]
            if len(never) or cut:
                found[step] = scores[step] - (never.max() if len(never) else others.min())
        return found
