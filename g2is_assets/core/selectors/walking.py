"""From settings to a walk, for all selectors that walk."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from g2is_assets.core.balance import balanced_walk
from g2is_assets.core.knowledge import allocate_budgets, core_knowledge, domain_nodes
from g2is_assets.core.rows import FeatureSource
from g2is_assets.core.selectors.problem import Nodes, Problem, Selection
from g2is_assets.core.walk import gradient_walk
from g2is_assets.settings.config import KnowledgeSettings
from g2is_assets.settings.selection import AnySelection


def select_by_walk(
    problem: Problem,
    features: tuple[FeatureSource, NDArray[np.floating]],
    settings: AnySelection,
    knowledge: KnowledgeSettings,
) -> Selection:
    """The walk of these settings over the features (e, d) of eligible rows and (v, d) of the domain.

    A balanced walk has one component, the domain's mean; the others share the budget out among the domain's nodes.
    """
    source, own = features
    options: dict[str, Any] = {
        "memory_bytes": int(1e9 * settings.memory_gb),
        "delta": settings.delta,
        "consistency": settings.consistency,
        "min_core_cosine": settings.min_core_cosine,
        "no_conflict": settings.no_conflict,
    }
    if settings.walk == "balanced":
        options |= {"redundancy": settings.redundancy, "fair": settings.fair}
        walk = balanced_walk(source, own, problem.budget, **options)
        split = np.ones(1), np.array([problem.budget])
    else:
        directions, weights = problem.nodes or _nodes(own, knowledge)
        split = weights, allocate_budgets(problem.budget, weights)
        options |= {"conflicts_across": settings.conflicts_across, "reallocate": settings.reallocate}
        options |= {"method": "reference" if settings.walk == "reference" else "g2is"}
        walk = gradient_walk(source, directions, split[1], **options)
    return Selection(problem.eligible[walk.rows], walk.score, walk, split)


def _nodes(own: NDArray[np.floating], knowledge: KnowledgeSettings) -> Nodes:
    if knowledge.nodes == "components":
        core = core_knowledge(own, **knowledge.model_dump(exclude_none=True, exclude={"nodes"}))
    else:
        core = domain_nodes(own, knowledge.nodes)
    return core.components, core.weights
