"""How near a subset is to its domain: its mean feature beside the domain's, and each row beside the domain's rows."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2is_assets.core.rows import BLOCK_ROWS, FeatureSource, exact_rows
from g2is_assets.core.vectors import unit_rows

N_RANDOM: Final = 10
"""Random subsets whose cosines are averaged."""


@dataclass(frozen=True)
class Home:
    """Cosine of a mean feature to the domain's mean unit feature, and which validation rows it leaves without help.

    Attributes:
        subset: Of the subset.
        random: Of random subsets of the same size, averaged.
        top: Of the rows with the largest dot product with the domain's mean, as many: the plain ranking.
        unserved: Validation rows whose cosine to the subset's mean feature is not above 0.
        unserved_top: The same of the plain ranking.
    """

    subset: float
    random: float
    top: float
    unserved: int
    unserved_top: int


def measure_home(source: FeatureSource, taken: NDArray[np.int64], validation: ArrayLike, seed: int = 0) -> Home:
    """Measure a subset beside random ones and beside the plain ranking.

    Args:
        source: (n, d) pool features that the subset was chosen from.
        taken: (m,) rows of the subset, m >= 1.
        validation: (v, d) features of the domain's validation rows.
        seed: Of the random subsets.

    Raises:
        ValueError: The subset is empty.
    """
    if len(taken) == 0:
        raise ValueError("an empty subset is nowhere")
    own = unit_rows(validation)
    target = own.mean(axis=0)
    pull = np.empty(source.shape[0], dtype=np.float32)
    for numbers, values in source.blocks():
        pull[numbers] = unit_rows(values) @ target

    def mean_of(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return unit_rows(source.rows(rows)).mean(axis=0, dtype=np.float64)

    def cosine(mean: NDArray[np.float64]) -> float:
        norms = np.linalg.norm(mean) * np.linalg.norm(target)
        return float(mean @ target / norms) if norms > 0 else 0.0

    rng = np.random.default_rng(seed)
    draws = [cosine(mean_of(rng.choice(source.shape[0], len(taken), replace=False))) for _ in range(N_RANDOM)]
    subset, top = mean_of(taken), mean_of(np.argsort(-pull, kind="stable")[: len(taken)])
    unserved, unserved_top = (int((own @ mean <= 0).sum()) for mean in (subset, top))
    return Home(cosine(subset), float(np.mean(draws)), cosine(top), unserved, unserved_top)


def strongest_pulls(
    source: FeatureSource, taken: NDArray[np.int64], validation: ArrayLike, n_strongest: int = 3
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which validation rows each row taken resembles most.

    Args:
        source: (n, d) pool features.
        taken: (m,) rows of it.
        validation: (v, d) features of the domain's validation rows.
        n_strongest: How many of them.

    Returns:
        Their numbers and cosines, (m, min(v, n_strongest)) each, the largest first, ties to the lower number.
    """
    own = exact_rows(unit_rows(validation))
    parts = [taken[start : start + BLOCK_ROWS] for start in range(0, len(taken), BLOCK_ROWS)]
    cosines = [exact_rows(unit_rows(source.rows(part))) @ own.T for part in parts]
    every = np.concatenate(cosines) if cosines else np.empty((0, len(own)))
    order = np.argsort(-every, axis=1, kind="stable")[:, :n_strongest]
    return order, np.take_along_axis(every, order, axis=1)
