"""What the selectors that walk share: settings and features to a walk, a walk to a selection."""

import numpy as np
from numpy.typing import NDArray

from g2is_assets.config import KnowledgeSettings, SelectionSettings
from g2is_assets.core.balance import balanced_walk
from g2is_assets.core.budgets import allocate_budgets
from g2is_assets.core.knowledge import core_knowledge, domain_nodes
from g2is_assets.core.rows import FeatureSource
from g2is_assets.core.selectors.problem import Problem, Selection
from g2is_assets.core.walk import gradient_walk

RULES = {"delta", "consistency", "min_core_cosine", "no_conflict"}
PAPERS = {"method", "conflicts_across", "reallocate"}


def walk(
    problem: Problem,
    features: tuple[FeatureSource, NDArray[np.floating]],
    settings: SelectionSettings,
    knowledge: KnowledgeSettings,
) -> Selection:
    """The walk of these settings over the features of eligible rows and domain."""
    (source, own), memory_bytes = features, int(1e9 * settings.memory_gb)
    rules = settings.model_dump(include=RULES)
    if settings.next_row == "balance":
        found = balanced_walk(
            source, own, problem.budget, redundancy=settings.redundancy, memory_bytes=memory_bytes, **rules
        )
    else:
        if knowledge.nodes == "components":
            core = core_knowledge(own, **knowledge.model_dump(exclude_none=True, exclude={"nodes"}))
        else:
            core = domain_nodes(own, knowledge.nodes)
        budgets = allocate_budgets(problem.budget, core.weights)
        rules |= settings.model_dump(include=PAPERS)
        found = gradient_walk(source, core.components, budgets, memory_bytes=memory_bytes, **rules)
    return Selection(problem.eligible[found.rows], found.score, found)
