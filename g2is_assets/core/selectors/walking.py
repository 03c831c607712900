"""From settings to a walk: one place for `selection/subset` and for the selectors that walk."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from g2is_assets.core.balance import balanced_walk
from g2is_assets.core.budgets import allocate_budgets
from g2is_assets.core.knowledge import core_knowledge, domain_nodes
from g2is_assets.core.rows import FeatureSource
from g2is_assets.core.selectors.problem import Problem, Selection
from g2is_assets.core.trace import Walk
from g2is_assets.core.walk import gradient_walk
from g2is_assets.settings.config import KnowledgeSettings, SelectionSettings

RULES = {"delta", "consistency", "min_core_cosine", "no_conflict"}
PAPERS = {"method", "conflicts_across", "reallocate"}

Nodes = tuple[NDArray[np.floating], NDArray[np.float64]]
"""Directions (c, d) and weights (c,) of a domain's nodes."""


def walk_as_set(
    settings: SelectionSettings,
    source: FeatureSource,
    validation: NDArray[np.floating],
    total: int,
    nodes: Callable[[], Nodes],
) -> tuple[Walk, NDArray[np.float64], NDArray[np.int64]]:
    """The walk that the settings ask for, with the weights and budgets of its components.

    Args:
        settings: Of the domain.
        source: (n, d) features of the eligible rows.
        validation: (v, d) features of the domain.
        total: The domain's budget in rows.
        nodes: Gives the domain's nodes; a balanced walk does not ask, its one component is the mean.
    """
    memory_bytes, rules = int(1e9 * settings.memory_gb), settings.model_dump(include=RULES)
    if settings.next_row == "balance":
        rules |= {"redundancy": settings.redundancy, "fair": settings.fair}
        walk = balanced_walk(source, validation, total, memory_bytes=memory_bytes, **rules)
        return walk, np.ones(1), np.array([total])
    directions, weights = nodes()
    budgets = allocate_budgets(total, weights)
    rules |= settings.model_dump(include=PAPERS)
    return gradient_walk(source, directions, budgets, memory_bytes=memory_bytes, **rules), weights, budgets


def select_by_walk(
    problem: Problem,
    features: tuple[FeatureSource, NDArray[np.floating]],
    settings: SelectionSettings,
    knowledge: KnowledgeSettings,
) -> Selection:
    """The walk of these settings over the features of eligible rows and domain."""
    source, own = features

    def nodes() -> Nodes:
        if knowledge.nodes == "components":
            core = core_knowledge(own, **knowledge.model_dump(exclude_none=True, exclude={"nodes"}))
        else:
            core = domain_nodes(own, knowledge.nodes)
        return core.components, core.weights

    walk, _, _ = walk_as_set(settings, source, own, problem.budget, nodes)
    return Selection(problem.eligible[walk.rows], walk.score, walk)
