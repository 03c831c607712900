"""What a selector is given and what it returns; the same for all, so that they can be compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from g2is_assets.core.features import ChosenFeatures, FeatureSource
from g2is_assets.core.walk_state import Walk
from g2is_assets.settings.config import KnowledgeSettings
from g2is_assets.settings.selection import AnySelection, selection_settings

Nodes = tuple[NDArray[np.floating], NDArray[np.float64]]
"""Directions (c, d) and weights (c,) of a domain's nodes."""


@dataclass(frozen=True)
class Problem:
    """A pool, a domain and a budget.

    Attributes:
        domain: The domain's name.
        row_ids: (n,) ids of the pool's rows.
        n_response_tokens: (n,) int.
        eligible: (e,) ascending row numbers that may be chosen: no near-duplicates, no repeats of the domain's rows.
        budget: Rows to choose.
        seed: Of what is random.
        gradients: Per feature kind, the pool's (n, d) gradient features; mean-removed ones as `<kind>/mean_removed`.
        target: (v, d) plain gradients of the domain's validation rows, in the same sketch.
        embeddings: (n, h) embeddings of the pool's rows, where there are any.
        target_embeddings: (v, h) of the domain's.
        sub_tasks: (v,) which sub-task a validation row belongs to: its source, where a domain's rows have several.
        options: Keys of [selection] that differ from the defaults, for the selectors that walk.
        knowledge: Keys of [knowledge], likewise.
        nodes: The domain's nodes, where they are known; else a walk that goes from node to node makes them.
        edges: (n, n) of the pool's graph (`edges.edge_matrix`), for a walk on these.
    """

    domain: str
    row_ids: Sequence[str]
    n_response_tokens: NDArray[np.integer]
    eligible: NDArray[np.int64]
    budget: int
    seed: int = 0
    gradients: Mapping[str, FeatureSource] = field(default_factory=dict)
    target: NDArray[np.floating] | None = None
    embeddings: FeatureSource | None = None
    target_embeddings: NDArray[np.floating] | None = None
    sub_tasks: Sequence[str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    knowledge: Mapping[str, Any] = field(default_factory=dict)
    nodes: Nodes | None = None
    edges: Any = None

    def __post_init__(self) -> None:
        """Refuse lengths that differ, eligible rows that are not ascending row numbers, and a budget beyond them."""
        n, eligible = len(self.row_ids), self.eligible
        sources = [*self.gradients.values(), *([self.embeddings] if self.embeddings is not None else [])]
        if len(self.n_response_tokens) != n or any(source.shape[0] != n for source in sources):
            raise ValueError(f"domain '{self.domain}': token counts or features are not of the pool's {n} rows")
        if len(eligible) and (eligible[0] < 0 or eligible[-1] >= n or (np.diff(eligible) <= 0).any()):
            raise ValueError(f"domain '{self.domain}': eligible rows must be ascending numbers below {n}")
        if not 0 <= self.budget <= len(eligible):
            raise ValueError(f"domain '{self.domain}': budget {self.budget} of {len(eligible)} eligible rows")
        if self.sub_tasks is not None and (self.target is None or len(self.sub_tasks) != len(self.target)):
            raise ValueError(f"domain '{self.domain}': {len(self.sub_tasks)} sub-tasks are not of the domain's rows")

    @cached_property
    def settings(self) -> AnySelection:
        """The defaults of the walk, overridden by `options`."""
        return selection_settings(self.options)

    @cached_property
    def knowledge_settings(self) -> KnowledgeSettings:
        """The project's defaults for core knowledge, overridden by `knowledge`."""
        return KnowledgeSettings.model_validate(dict(self.knowledge))

    def gradient_features(self, kind: str, mean_removed: bool = False) -> tuple[FeatureSource, NDArray[np.floating]]:
        """Features of the eligible rows, and the domain's; an error where they are not there."""
        name = f"{kind}/mean_removed" if mean_removed else kind
        if name not in self.gradients or self.target is None:
            raise ValueError(
                f"domain '{self.domain}': no gradients of kind '{name}' (there are {sorted(self.gradients)})"
            )
        return ChosenFeatures(self.gradients[name], self.eligible), self.target

    def embedding_features(self) -> tuple[FeatureSource, NDArray[np.floating]]:
        """Embeddings of the eligible rows, and the domain's; an error where they are not there."""
        if self.embeddings is None or self.target_embeddings is None:
            raise ValueError(f"domain '{self.domain}': no embeddings of pool and domain")
        return ChosenFeatures(self.embeddings, self.eligible), self.target_embeddings


@dataclass(frozen=True)
class Selection:
    """The rows chosen.

    Attributes:
        rows: (m,) int64 numbers of pool rows, in the order chosen.
        scores: (m,) float64, what each was chosen by; NaN where nothing is compared.
        walk: The whole trace, where there is one; its rows are positions in `Problem.eligible`.
        split: Weights and budgets (c,) of the walk's components.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    walk: Walk | None = None
    split: tuple[NDArray[np.float64], NDArray[np.int64]] | None = None


@dataclass(frozen=True)
class Selector:
    """A way to select.

    Attributes:
        name: What studies call it.
        select: Chooses at most `budget` rows; deterministic, ties to the lower row number.
        features: What it reads: `none`, the gradients of the kind that its options say, the `adam` mix whatever they
            say, or `embeddings` instead.
        options: Keys of [selection] that it reads.
        walks: Whether [knowledge] counts, where its walk goes from node to node.
        draws: Whether its rows depend on the seed.
    """

    name: str
    select: Callable[[Problem], Selection]
    features: Literal["none", "gradients", "adam", "embeddings"] = "none"
    options: frozenset[str] = frozenset()
    walks: bool = False
    draws: bool = False
