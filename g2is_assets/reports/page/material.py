"""What a page is made of, and where it is read from: the only module of the page that opens files of the lake."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_origin, get_type_hints

import polars as pl

from g2is_assets.contracts import audit, finetune, graph, instructions, selection
from g2is_assets.errors import StoreError
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import Manifest
from g2is_assets.store.version import Version
from g2is_assets.trail.chain import Manifests, follow, nearest
from g2is_assets.trail.subset_diff import Difference, compare


@dataclass(frozen=True)
class Checked:
    """One check's result: `description` is what it says if it passes, `said` its verdict, with the numbers."""

    name: str
    description: str
    severity: Literal["error", "warning"]
    passed: bool
    said: str


@dataclass(frozen=True)
class Before:
    """The adapter before: the manifest of its evaluation, and what is between its subset and this one."""

    made: Manifest
    change: Difference


@dataclass(frozen=True)
class Material:
    """Everything that a page says; each table stands with the asset and the contract that it is read by.

    Attributes:
        domain, title, model: The target domain, what people call it, and the base model as the settings name it.
        evaluated: Manifest of `finetune/evaluation`.
        made: Manifest of `selection/subset`.
        own_places: Columns `row_id`, `x` and `y`: where the domain's validation rows stand on the map.
        before: The adapter before, where there was another.
    """

    domain: str
    title: str
    model: str
    evaluated: Manifest
    made: Manifest
    scores: Annotated[pl.DataFrame, "finetune/evaluation", finetune.SCORES]
    answers: Annotated[pl.DataFrame, "finetune/evaluation", finetune.ANSWERS]
    trained: Annotated[pl.DataFrame, "finetune/adapter", finetune.ADAPTER_LOG]
    random_trained: Annotated[pl.DataFrame, "finetune/baseline", finetune.BASELINE_LOG]
    subset: Annotated[pl.DataFrame, "selection/subset", selection.SUBSET]
    budgets: Annotated[pl.DataFrame, "selection/subset", selection.BUDGETS]
    left: Annotated[pl.DataFrame, "selection/subset", selection.LEFT]
    excluded: Annotated[pl.DataFrame, "selection/subset", selection.EXCLUDED]
    pool: Annotated[pl.DataFrame, "instructions/pool", instructions.POOL]
    rejected: Annotated[pl.DataFrame, "instructions/pool", instructions.REJECTED]
    withheld: Annotated[pl.DataFrame, "instructions/pool", instructions.WITHHELD]
    target: Annotated[pl.DataFrame, "instructions/target", instructions.TARGET]
    target_rejected: Annotated[pl.DataFrame, "instructions/target", instructions.REJECTED]
    target_withheld: Annotated[pl.DataFrame, "instructions/target", instructions.WITHHELD]
    places: Annotated[pl.DataFrame, "graph/neighbors", graph.MAP]
    lineage: Annotated[pl.DataFrame, "audit/lineage", audit.LINEAGE]
    links: Annotated[pl.DataFrame, "audit/lineage", audit.LINKS]
    own_places: pl.DataFrame
    checks: Sequence[Checked]
    before: Before | None = None

    @property
    def metrics(self) -> Mapping[str, int | float | str]:
        """Metrics of the evaluation."""
        return self.evaluated.metrics

    @property
    def n_scored(self) -> int:
        """Rows behind them."""
        return int(self.scores["row_id"].n_unique())

    @property
    def taken(self) -> pl.DataFrame:
        """The subset's rows as the pool has them, in the subset's order."""
        return self.subset.select("row_id").join(self.pool, on="row_id", maintain_order="left")

    @property
    def validation(self) -> pl.DataFrame:
        """The domain's validation rows."""
        return self.target.filter(pl.col("split") == "validation")


def read_material(
    lake: Lake,
    versions: Mapping[str, Version],
    checks: Sequence[Checked],
    own_places: pl.DataFrame,
    before: str | None,
    **named: Any,
) -> Material:
    """Read the tables that a page is made of from the versions of `audit/report`'s inputs, and what is behind them.

    Args:
        lake: The lake.
        versions: By asset.
        checks: Results of the checks.
        own_places: Where the domain's rows stand on the map.
        before: Digest of the manifest of the evaluation of the adapter before.
        named: `domain`, `title` and `model`.

    Raises:
        StoreError: A table is missing or damaged.
    """
    evaluation, fields = versions["finetune/evaluation"], get_type_hints(Material, include_extras=True)
    trainings = ("finetune/adapter", "finetune/baseline")
    behind = {asset: lake.input_of(evaluation, asset, named["domain"]) for asset in trainings}
    known = {name: hint.__metadata__ for name, hint in fields.items() if get_origin(hint) is Annotated}
    tables: dict[str, Any] = {name: {**behind, **versions}[of].read(contract) for name, (of, contract) in known.items()}
    subset = versions["selection/subset"]
    return Material(
        evaluated=evaluation.manifest,
        made=subset.manifest,
        checks=checks,
        own_places=own_places,
        before=_before(lake, before, subset) if before else None,
        **named,
        **tables,
    )


def _before(lake: Lake, digest: str, subset: Version) -> Before | None:
    """The adapter before this one; None where what is left of it is damaged, which is for the verification to say."""
    with suppress(StoreError):
        evaluation = Manifests(lake).find("finetune/evaluation", digest, subset.manifest.partition)
        behind = nearest(follow(lake, [evaluation])) if evaluation else {}
        if evaluation and (link := behind.get("selection/subset")) and link.version:
            return Before(evaluation.manifest, compare(lake, link.version, subset))
    return None
