"""What a page is made of, and where it is read from: the only module of the page that opens files of the lake."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Final, Literal, get_origin, get_type_hints

import polars as pl

from g2is_assets.contracts import audit, finetune, graph, instructions, selection
from g2is_assets.reports.shown import MissingError
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import Manifest
from g2is_assets.store.version import Version

PICTURES: Final = {
    ("instructions/pool", "rows"): ("Pool", "Rows of the pool by source, lengths of responses, and what was kept out."),
    ("graph/neighbors", "cosines"): (
        "Instruction graph",
        "How the cosines of pairs of pool rows are spread; negative ones are conflicts.",
    ),
    ("knowledge/components", "spectrum"): (
        "Core knowledge",
        "Share of variance that each direction of the domain's gradients holds.",
    ),
    ("knowledge/components", "loadings"): (
        "Core knowledge by row",
        "Which validation rows have much of which direction.",
    ),
    ("selection/subset", "steps"): ("Selection", "What the selection saw at each step, from the first row taken."),
    ("finetune/evaluation", "scores"): (
        "Evaluation",
        "Mean loss of each model, and this adapter's difference to the others, with intervals.",
    ),
    ("finetune/evaluation", "losses"): (
        "Training",
        "Loss during training of this adapter and of that of random rows, by step.",
    ),
}
"""Heading and caption of each picture that is shown, in the order of the stages."""


@dataclass(frozen=True)
class Checked:
    """One check's result: `description` is what it says if it passes, `said` its verdict, with the numbers."""

    name: str
    description: str
    severity: Literal["error", "warning"]
    passed: bool
    said: str


@dataclass(frozen=True)
class Picture:
    """A picture under the heading `stage`: without anything that a row says, since erasure does not redraw it."""

    stage: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Material:
    """Everything that a page says; each table stands with the asset and the contract that it is read by.

    Attributes:
        domain, title, model: The target domain, what people call it, and the base model as the settings name it.
        evaluation, n_scored: Metrics of `finetune/evaluation`, and the rows behind them.
        made: Manifest of `selection/subset`.
    """

    domain: str
    title: str
    model: str
    evaluation: Mapping[str, int | float | str]
    n_scored: int
    made: Manifest
    answers: Annotated[pl.DataFrame, "finetune/evaluation", finetune.ANSWERS]
    subset: Annotated[pl.DataFrame, "selection/subset", selection.SUBSET]
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
    checks: Sequence[Checked]
    pictures: Sequence[Picture] = ()

    @property
    def taken(self) -> pl.DataFrame:
        """The subset's rows as the pool has them, in the subset's order."""
        return self.subset.select("row_id").join(self.pool, on="row_id", maintain_order="left")

    @property
    def validation(self) -> pl.DataFrame:
        """The domain's validation rows."""
        return self.target.filter(pl.col("split") == "validation")


def read_material(
    lake: Lake, versions: Mapping[str, Version], checks: Sequence[Checked], *, domain: str, title: str, model: str
) -> Material:
    """Read the tables that a page is made of from the versions of `audit/report`'s inputs, and draw their pictures.

    Raises:
        StoreError: A table is missing or damaged.
    """
    evaluation, fields = versions["finetune/evaluation"], get_type_hints(Material, include_extras=True)
    tables = {name: hint.__metadata__ for name, hint in fields.items() if get_origin(hint) is Annotated}
    return Material(
        domain=domain,
        title=title,
        model=model,
        evaluation=evaluation.manifest.metrics,
        n_scored=evaluation.read(finetune.SCORES)["row_id"].n_unique(),
        made=versions["selection/subset"].manifest,
        checks=checks,
        pictures=list(_pictures(lake, versions)),
        **{name: versions[asset].read(contract) for name, (asset, contract) in tables.items()},
    )


def _pictures(lake: Lake, versions: Mapping[str, Version]) -> Iterator[Picture]:
    from g2is_assets.reports.drawn import draw  # loads matplotlib

    for (asset, name), said in PICTURES.items():
        with suppress(MissingError):  # what an old graph was made from may have been pruned
            yield Picture(*said, draw(lake, versions[asset])[name])
