"""What a page is made of, and where it is read from: the only module of the page that opens files of the lake."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

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
    """Everything that a page says, as tables by contract.

    Attributes:
        domain, title, model: The target domain, what people call it, and the base model as the settings name it.
        evaluation, n_scored, answers: Metrics of `finetune/evaluation`, the rows behind them, and its table of answers.
        made: Manifest of `selection/subset`; then its tables, and those of `instructions/pool` and of
            `instructions/target`.
        places: The map of `graph/neighbors`; then the tables of `audit/lineage`.
    """

    domain: str
    title: str
    model: str
    evaluation: Mapping[str, int | float | str]
    n_scored: int
    answers: pl.DataFrame
    made: Manifest
    subset: pl.DataFrame
    excluded: pl.DataFrame
    pool: pl.DataFrame
    rejected: pl.DataFrame
    withheld: pl.DataFrame
    target: pl.DataFrame
    target_rejected: pl.DataFrame
    target_withheld: pl.DataFrame
    places: pl.DataFrame
    lineage: pl.DataFrame
    links: pl.DataFrame
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
    pool, target, subset = (versions[a] for a in ("instructions/pool", "instructions/target", "selection/subset"))
    lineage, evaluation = versions["audit/lineage"], versions["finetune/evaluation"]
    return Material(
        domain=domain,
        title=title,
        model=model,
        evaluation=evaluation.manifest.metrics,
        n_scored=evaluation.read(finetune.SCORES)["row_id"].n_unique(),
        answers=evaluation.read(finetune.ANSWERS),
        made=subset.manifest,
        subset=subset.read(selection.SUBSET),
        excluded=subset.read(selection.EXCLUDED),
        pool=pool.read(instructions.POOL),
        rejected=pool.read(instructions.REJECTED),
        withheld=pool.read(instructions.WITHHELD),
        target=target.read(instructions.TARGET),
        target_rejected=target.read(instructions.REJECTED),
        target_withheld=target.read(instructions.WITHHELD),
        places=versions["graph/neighbors"].read(graph.MAP),
        lineage=lineage.read(audit.LINEAGE),
        links=lineage.read(audit.LINKS),
        checks=checks,
        pictures=list(_pictures(lake, versions)),
    )


def _pictures(lake: Lake, versions: Mapping[str, Version]) -> Iterator[Picture]:
    from g2is_assets.reports.drawn import draw  # loads matplotlib

    for (asset, name), said in PICTURES.items():
        with suppress(MissingError):  # what an old graph was made from may have been pruned
            yield Picture(*said, draw(lake, versions[asset])[name])
