"""What a target domain is to the walk: its nodes, how many rows each may take, and how near a subset comes to it."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2is_assets.core.features import ChosenFeatures, FeatureSource
from g2is_assets.core.rows import cosines_to, real_rows, unit_rows
from g2is_assets.settings.config import KnowledgeSettings

Nodes = Literal["rows", "mean"]


@dataclass(frozen=True)
class CoreKnowledge:
    """Directions that summarise a domain, the strongest first.

    Attributes:
        components: (c, d) float32, unit rows. Principal directions are orthonormal, each with a non-negative dot
            product with the mean feature.
        weights: (c,) float64, shares of the budget: variance shares of the kept components, normalised to sum 1.
        shares: (min(v, d),) float64, variance share of every direction, kept or not: the spectrum; empty where nodes
            are not principal directions.
        flipped: (c,) bool, whether the orientation rule turned the sign that the SVD gave.
    """

    components: NDArray[np.float32]
    weights: NDArray[np.float64]
    shares: NDArray[np.float64]
    flipped: NDArray[np.bool_]


def knowledge_of(validation: ArrayLike, settings: KnowledgeSettings) -> CoreKnowledge:
    """The domain's nodes in the mixed graph, of the kind that the settings say: see the two functions below."""
    if settings.nodes != "components":
        return domain_nodes(validation, settings.nodes)
    return core_knowledge(validation, **settings.model_dump(exclude_none=True, exclude={"nodes"}))


def domain_nodes(validation: ArrayLike, nodes: Nodes) -> CoreKnowledge:
    """The domain's other nodes in the mixed graph: every unit row of (v, d) with equal weight, or their mean alone.

    Raises:
        ValueError: A row is zero or not finite, or the mean is zero.
    """
    unit = unit_rows(validation)
    chosen = unit if nodes == "rows" else unit_rows(unit.mean(axis=0, dtype=np.float64)[None])
    if not chosen.any(axis=1).all():
        raise ValueError(f"a node of kind '{nodes}' is zero: it has no direction")
    n = len(chosen)
    return CoreKnowledge(chosen, np.full(n, 1 / n), np.empty(0), np.zeros(n, dtype=bool))


def core_knowledge(
    validation: ArrayLike,
    *,
    explained_variance: float = 0.5,
    n_components: int | None = None,
    component_fraction: float | None = None,
    centered: bool = True,
) -> CoreKnowledge:
    """PCA of the validation features (G2IS §3.2), oriented towards their mean.

    The first n directions whose cumulative share is strictly above `explained_variance` are kept, as scikit-learn
    counts, unless `n_components` or `component_fraction` (of min(v - 1, d)) says how many. A PCA direction has an
    arbitrary sign while anchors use the signed cosine; so each direction is turned to a non-negative dot product
    with the mean feature, and a product of exactly 0 keeps the sign in which the largest entry is positive.

    Args:
        validation: (v, d) float features, v >= 2; used as they are, in float64.
        explained_variance: Share of the variance in (0, 1).
        n_components: Number of directions in 1..min(v, d), instead of the share.
        component_fraction: Share of min(v - 1, d) in (0, 1], rounded up, instead of the share.
        centered: Subtract the mean first. The paper does; it removes the mean direction from the knowledge.

    Raises:
        ValueError: Fewer than 2 rows, entries that are not finite, no variance at all, or a count out of range.
    """
    rows = np.asarray(validation, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[0] < 2 or not np.isfinite(rows).all():
        raise ValueError(f"core knowledge needs a finite (v >= 2, d) array, got shape {rows.shape}")
    mean = rows.mean(axis=0)
    _, singular, directions = np.linalg.svd(rows - mean if centered else rows, full_matrices=False)
    variance = singular**2
    if variance.sum() <= np.finfo(np.float64).eps * np.square(rows).sum():
        raise ValueError(f"the {rows.shape[0]} validation features are all equal: there is no variance to explain")
    shares = variance / variance.sum()
    if n_components is not None and component_fraction is not None:
        raise ValueError("set n_components or component_fraction, not both")
    if component_fraction is not None:
        exact = component_fraction * min(rows.shape[0] - 1, rows.shape[1])
        n_components = max(1, int(np.ceil(exact - 1e-9)))  # 0.28 * 25 is a little above 7 in floating point
    if n_components is None:
        n_components = min(int(np.searchsorted(np.cumsum(shares), explained_variance, side="right")) + 1, len(shares))
    require_components(n_components, *rows.shape)
    kept = directions[:n_components]
    towards_mean = kept @ mean
    # The mean of centred features can be 0 up to rounding; then its sign would be noise.
    undecided = np.abs(towards_mean) <= 1e-12 * np.linalg.norm(rows, axis=1).max()
    largest = kept[np.arange(n_components), np.abs(kept).argmax(axis=1)]
    flipped = np.where(undecided, largest < 0, towards_mean < 0)
    return CoreKnowledge(
        components=np.where(flipped[:, None], -kept, kept).astype(np.float32),
        weights=shares[:n_components] / shares[:n_components].sum(),
        shares=shares,
        flipped=flipped,
    )


def require_components(n_components: int, n_rows: int, n_dimensions: int) -> None:
    """Raise a ValueError if so many rows of so many dimensions do not have so many principal directions."""
    most = min(n_rows, n_dimensions)
    if not 1 <= n_components <= most:
        raise ValueError(f"n_components = {n_components} is not in 1..{most} for {n_rows} rows")


def allocate_budgets(total: int, weights: ArrayLike) -> NDArray[np.int64]:
    """Split a budget by weights (c,), normalised here, with the largest-remainder rule: (c,) int64 that sum to it.

    Equal remainders: the higher component (lower index) first.

    Raises:
        ValueError: A negative total, or weights that are negative, not finite or all 0.
    """
    shares = np.asarray(weights, dtype=np.float64)
    if total < 0 or shares.ndim != 1 or not np.isfinite(shares).all() or (shares < 0).any() or shares.sum() <= 0:
        raise ValueError(f"cannot split {total} rows by weights {shares}")
    exact = total * shares / shares.sum()
    budgets = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - budgets), kind="stable")
    budgets[order[: total - budgets.sum()]] += 1
    return budgets


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
    """Measure a subset beside random ones, of the seed, and beside the plain ranking.

    `source` are the (n, d) pool features that the subset (m,) was taken from, `validation` (v, d) the domain's.

    Raises:
        ValueError: The subset is empty.
    """
    if len(taken) == 0:
        raise ValueError("an empty subset is nowhere")
    own = unit_rows(validation)
    target = own.mean(axis=0)
    pull = cosines_to(source, target[None])[:, 0]

    def mean_of(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return real_rows(source, source.rows(rows)).mean(axis=0)

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
    """Which validation rows (v, d) each row taken (m,) of the pool (n, d) resembles most.

    Returns:
        Their numbers and cosines, (m, min(v, n_strongest)) each, the largest first, ties to the lower number.
    """
    every = cosines_to(ChosenFeatures(source, taken), unit_rows(validation))
    order = np.argsort(-every, axis=1, kind="stable")[:, :n_strongest]
    return order, np.take_along_axis(every, order, axis=1)
