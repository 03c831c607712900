"""A page's material from the versions that it is about."""

from collections.abc import Mapping, Sequence
from typing import Final

from g2is_assets.contracts import audit as audit_contracts
from g2is_assets.contracts import finetune as finetune_contracts
from g2is_assets.contracts import graph as graph_contracts
from g2is_assets.contracts import instructions as instruction_contracts
from g2is_assets.contracts import selection as selection_contracts
from g2is_assets.reports.page.material import Checked, Material, Picture
from g2is_assets.reports.shown import MissingError, draw
from g2is_assets.store.lake import Lake, Version

PICTURES: Final = {
    "instructions/pool": {"rows": ("Pool", "Rows of the pool by source, lengths of responses, and what was kept out.")},
    "graph/neighbors": {
        "cosines": (
            "Instruction graph",
            "How the cosines of pairs of pool rows are spread; negative ones are conflicts.",
        )
    },
    "knowledge/components": {
        "spectrum": ("Core knowledge", "Share of variance that each direction of the domain's gradients holds."),
        "loadings": ("Core knowledge by row", "Which validation rows have much of which direction."),
    },
    "selection/subset": {"steps": ("Selection", "What the selection saw at each step, from the first row taken.")},
    "finetune/evaluation": {
        "scores": (
            "Evaluation",
            "Mean loss of each model, and this adapter's difference to the others, with intervals.",
        ),
        "losses": ("Training", "Loss during training of this adapter and of that of random rows, by step."),
    },
}
"""Heading and caption of each picture that is shown, in the order of the stages."""


def read_material(
    lake: Lake,
    versions: Mapping[str, Version],
    checks: Sequence[Checked],
    *,
    domain: str,
    title: str,
    model: str,
) -> Material:
    """Read the tables that a page is made of, and draw its pictures.

    Args:
        lake: Where the versions lie.
        versions: By asset: those that `audit/report` is made from.
        checks: Results of checks of these versions.
        domain: The target domain.
        title: What people call it.
        model: The base model, as the settings name it.

    Raises:
        StoreError: A table is missing or damaged.
    """
    subset, pool, target, lineage, evaluation = (
        versions[asset]
        for asset in (
            "selection/subset",
            "instructions/pool",
            "instructions/target",
            "audit/lineage",
            "finetune/evaluation",
        )
    )
    scores = evaluation.table("evaluation", finetune_contracts.SCORES)
    return Material(
        domain=domain,
        title=title,
        model=model,
        evaluation=evaluation.manifest.metrics,
        n_scored=scores["row_id"].n_unique(),
        answers=evaluation.table("answers", finetune_contracts.ANSWERS),
        made=subset.manifest,
        subset=subset.table("subset", selection_contracts.SUBSET),
        excluded=subset.table("excluded", selection_contracts.EXCLUDED),
        pool=pool.table("pool", instruction_contracts.POOL),
        rejected=pool.table("rejected", instruction_contracts.REJECTED),
        withheld=pool.table("withheld", instruction_contracts.WITHHELD),
        target=target.table("target", instruction_contracts.TARGET),
        target_rejected=target.table("rejected", instruction_contracts.REJECTED),
        target_withheld=target.table("withheld", instruction_contracts.WITHHELD),
        places=versions["graph/neighbors"].table("map", graph_contracts.MAP),
        lineage=lineage.table("lineage", audit_contracts.LINEAGE),
        links=lineage.table("links", audit_contracts.LINKS),
        checks=checks,
        pictures=[picture for asset in PICTURES for picture in _pictures(lake, versions[asset])],
    )


def _pictures(lake: Lake, version: Version) -> list[Picture]:
    try:
        drawn = draw(lake, version)
    except MissingError:  # what an old graph was made from may have been pruned
        return []
    return [Picture(*said, drawn[name]) for name, said in PICTURES[version.manifest.asset].items()]
