"""What a page is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from g2is_assets.store.manifest import Manifest


@dataclass(frozen=True)
class Checked:
    """One check's result.

    Attributes:
        name: Of the check.
        description: What it says if it passes.
        severity: Of a failure: `error`, or `warning` for a finding.
        passed: Whether it did.
        said: The verdict, with its numbers.
    """

    name: str
    description: str
    severity: Literal["error", "warning"]
    passed: bool
    said: str


@dataclass(frozen=True)
class Picture:
    """A picture of a stage: without anything that a row says, since erasure does not redraw it.

    Attributes:
        stage: Its heading.
        caption: What is to be seen, for those who cannot see it too.
        png: The picture.
    """

    stage: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Material:
    """Everything that a page says, as tables by contract.

    Attributes:
        domain, title: The target domain and what people call it.
        model: The base model, as the settings name it.
        evaluation: Metrics of `finetune/evaluation`.
        n_scored: Rows behind them.
        answers: Its table of answers.
        made: Manifest of `selection/subset`.
        subset, excluded: Its tables.
        pool, rejected, withheld: Tables of `instructions/pool`.
        target, target_rejected, target_withheld: Tables of `instructions/target`.
        places: The map of `graph/neighbors`.
        lineage, links: Tables of `audit/lineage`.
        checks: Results of checks.
        pictures: Of the stages.
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
