"""The section [selection], one class for each walk with its own keys only; and what screens rows out before it."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from g2is_assets.settings.parsing import Budget, Section, Share

FeatureKind = Literal["adam", "adam_without_momentum", "sgd"]
Kind = Annotated[
    FeatureKind, Field(description="The gradient features whose cosines count; one of those in `gradients.kinds`.")
]
MeanRemoved = Annotated[bool, Field(description="Subtract the warmup sample's mean vector from every row.")]
_DELTA: Final = "Consistency must stay above this share of what it is measured against; 0 is no rule."
Delta = Annotated[float, Field(ge=0.0, le=1.0, description=_DELTA)]
NoConflict = Annotated[bool, Field(description="Whether no two rows taken, of one node, may have a negative cosine.")]
_WALK: Final = Field(description="How the next row is chosen; each walk has its own keys.")


class _Selection(Section):
    """What every walk has."""

    walk: str
    kind: Kind
    mean_removed: MeanRemoved = False
    budget: Budget = 0.05
    """Rows to take: below 1 a share of the pool, from 1 up a number of rows."""
    memory_gb: Annotated[float, Field(gt=0.0)] = 8.0
    """GB of features held in memory, a byte for each number; where a pool needs more, they are read at every use."""
    allow_leaks: bool = False
    """Whether pool rows that repeat the domain's rows may be taken."""


class _Ruled(_Selection):
    """The rules on top of what a walk has most of; where all are off, it is the walk alone."""

    delta: Delta
    consistency: Literal["previous", "best", "anchor"] = "previous"
    """What `delta` measures it against: the step before (paper), the best so far, or the anchor."""
    min_core_cosine: Annotated[float, Field(ge=-1.0, le=1.0)] | None = None
    """Smallest cosine of a row to the node, in the balanced walk to the domain's mean; none is no rule."""
    no_conflict: NoConflict


class BalancedSelection(_Ruled):
    """This project's walk: next is the row with the largest pull towards the domain, less what it repeats."""

    walk: Annotated[Literal["balanced"], _WALK] = "balanced"
    kind: Kind = "adam_without_momentum"
    redundancy: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25
    """How much of what a row repeats of the rows taken is taken off its pull."""
    fair: bool = True
    """Validation rows that the rows taken serve least pull most; if false all alike (then `redundancy` 0 is the ranking
    by mean cosine, 1 kernel herding)."""
    neighbours_only: bool = False
    """Tell redundancy by the stored edges of the graph alone, for many domains over one large pool: each then costs a
    pass over it. With 32, 128 and 256 of them 78, 84 and 91 % of the rows were the exact walk's (100 of 2,000). Set in
    `g2is.toml` it gives [graph] its `kind` and `mean_removed`, where that names none; a domain that sets it alone needs
    those of [graph]. Takes neither `delta` nor `no_conflict`."""
    delta: Delta = 0.0
    no_conflict: NoConflict = False
    conflicts_across: ClassVar = False
    reallocate: ClassVar = False

    @model_validator(mode="after")
    def _know_all_that_rules_need(self) -> Self:
        if self.neighbours_only and (self.delta or self.no_conflict):
            raise ValueError("`neighbours_only` knows stored edges alone, where `delta` and `no_conflict` need all")
        return self


class GradientSelection(_Ruled):
    """The paper's walk, node by node of the domain's core knowledge: next is the row most like the one just taken."""

    walk: Annotated[Literal["gradient"], _WALK] = "gradient"
    kind: Kind = "adam"
    delta: Delta = 0.8
    no_conflict: NoConflict = True
    conflicts_across: bool = False
    """Whether rows of different nodes may not have one either."""
    reallocate: bool = False
    """Whether what a node cannot use of the budget goes to those that can."""


class ReferenceSelection(_Selection):
    """The published walk, row for row; of the rules it takes `delta` alone, against the step before."""

    walk: Annotated[Literal["reference"], _WALK] = "reference"
    kind: Kind = "adam"
    delta: Delta = 0.8
    consistency: ClassVar = "previous"
    min_core_cosine: ClassVar = None
    no_conflict: ClassVar = True
    conflicts_across: ClassVar = False
    reallocate: ClassVar = False


WALKS: Final[dict[str, type[_Selection]]] = {
    "balanced": BalancedSelection,
    "gradient": GradientSelection,
    "reference": ReferenceSelection,
}
"""The kinds of [selection], by the walk that they say."""
_RENAMED: Final = {
    ("method", "reference"): 'walk = "reference"',
    ("method", "g2is"): 'walk = "balanced" or walk = "gradient"',
    ("next_row", "coherence"): 'walk = "gradient"',
    ("next_row", "balance"): 'walk = "balanced"',
}


def _walk_of(given: Any) -> str | None:
    """The walk that a section says: the balanced one where it says none."""
    return given.get("walk", "balanced") if isinstance(given, dict) else given.walk


def _own_keys(given: Any) -> Any:
    """Refuse spellings of before and keys of other walks, with what to write instead."""
    if not isinstance(given, dict):
        return given
    for name in ("method", "next_row"):
        if name in given:
            raise ValueError(
                f"`{name}` is now said by `walk`: {_RENAMED.get((name, given[name]), 'see docs/settings.md')}"
            )
    if (own := WALKS.get(given.get("walk", "balanced"))) is None:
        raise ValueError(f"walk must be one of {', '.join(WALKS)} (given: {given['walk']!r})")
    for name in given.keys() - own.model_fields.keys():
        if others := [walk for walk, kind in WALKS.items() if name in kind.model_fields]:
            raise ValueError(
                f'`{name}` is no key of walk = "{given.get("walk", "balanced")}", but of {" and ".join(others)}'
            )
    return given


AnySelection = BalancedSelection | GradientSelection | ReferenceSelection
Selection = Annotated[
    Annotated[BalancedSelection, Tag("balanced")]
    | Annotated[GradientSelection, Tag("gradient")]
    | Annotated[ReferenceSelection, Tag("reference")],
    Discriminator(_walk_of),
    BeforeValidator(_own_keys),
]
"""[selection]: one kind of section per walk, each with its own keys only."""


class Prescreen(Section):
    """Unset, every pool row gets a gradient; set, only rows that a cheap score puts among the best for some domain.

    A domain chooses among the rows kept for it; its budget still counts the whole pool. When it pays is told in
    [A pool too large](guide.md#a-pool-too-large-for-every-rows-gradient).
    """

    by: Literal["bm25", "embedding", "early_exit"]
    """Mean over a domain's validation rows of: standardised BM25 of the texts; the cosine of the model's embeddings,
    less their mean (a forward pass a row); the cosine of gradients of the first quarter of the layers, whose output is
    read by the model's head (a quarter of the layers' work, and the head's)."""
    keep: Share = 0.2
    """Share of the pool kept for each domain. What is kept for any of them is computed, and the graph is of these rows;
    so the walk `neighbours_only`, which knows stored edges alone, may change with another domain."""


class SelectionSection(Section):
    """[selection] alone, as a domain's file or a study's variant has it."""

    selection: Selection


def selection_settings(given: Mapping[str, Any]) -> AnySelection:
    """[selection] of these keys, with the defaults of the walk that they say.

    Raises:
        ValidationError: A key is unknown to the walk, or a value out of bounds.
    """
    return SelectionSection(selection=dict(given)).selection  # type: ignore[arg-type]
