"""Every stage, once: assets, dependencies, jobs, staleness, the sensor and the graph follow from this list."""

from collections.abc import Iterable
from typing import Final

from g2is_assets.stages import audit, finetune, gradients, graph, instructions, knowledge, selection, study, warmup
from g2is_assets.stages.stage import Stage

STAGES: Final[tuple[Stage, ...]] = (
    instructions.pool,
    warmup.sample,
    warmup.checkpoint,
    gradients.pool,
    graph.neighbors,
    instructions.target,
    gradients.target,
    knowledge.components,
    selection.subset,
    finetune.adapter,
    finetune.baseline,
    finetune.evaluation,
    audit.lineage,
    audit.report,
    study.embedding,
    study.subset,
    study.adapter,
    study.score,
    study.leaderboard,
)
"""Each after those that it is made from."""

STUDY: Final = "study"
"""Group of the stages that compare selectors: beside the others, nothing is made from them."""


def refreshed(partition: str) -> tuple[Stage, ...]:
    """The stages that a refresh of the project, or of a domain, brings up to date, each after its inputs."""
    return tuple(stage for stage in STAGES if stage.partition == partition and stage.group != STUDY)


def kept_up_to_date(domains: Iterable[str]) -> list[tuple[str, str | None]]:
    """Asset and partition of all that a refresh of everything makes anew where its inputs have changed."""
    partitions: dict[str, list[str | None]] = {"project": [None], "domain": [*domains]}
    return [(s.key, p) for kind in partitions for s in refreshed(kind) if s.follows_inputs for p in partitions[kind]]
