"""Stage `audit`: the chain behind a domain's adapter, written down where people and schedules find it."""

import dagster as dg

from g2is_assets.assets.publish import publish, recipe_here
from g2is_assets.assets.recipes import CODE_VERSIONS
from g2is_assets.contracts import audit as contracts
from g2is_assets.resources import Workspace
from g2is_assets.storage.lake import Draft
from g2is_assets.trail.chain import follow
from g2is_assets.trail.lineage_tables import lineage_tables


@dg.asset(
    key=["audit", "lineage"],
    group_name="audit",
    kinds={"polars", "parquet"},
    code_version=CODE_VERSIONS["audit/lineage"],
    deps=[["finetune", "adapter"], ["finetune", "evaluation"]],
)
def lineage(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """Every version behind the domain's adapter, back to the source files, and the rows it was trained on.

    Each version's manifest names its inputs by digest, so the adapter's digest, which this run's event keeps, commits
    to all of them. The check recomputes them; `g2is audit verify` does so at any time. The settings files are part of
    this record, so a change of theirs shows.
    """
    recipe = recipe_here(context, workspace)
    heads = [recipe.versions[asset] for asset in ("finetune/adapter", "finetune/evaluation")]

    def write(draft: Draft) -> None:
        chain = follow(workspace.lake, heads)
        tables = lineage_tables(workspace.lake, context.partition_key, chain)
        for name, contract in (("lineage", contracts.LINEAGE), ("links", contracts.LINKS), ("rows", contracts.ROWS)):
            draft.table(name, contract, tables[name])
        licenses = tables["rows"]["licenses"].explode()
        draft.metric(
            n_versions=len(chain),
            n_licenses=licenses.n_unique(),
            n_sources=tables["rows"]["sources"].explode().n_unique(),
        )
        draft.metric(n_rows_without_license=int((licenses == "unknown").sum()))

    return publish(context, workspace, recipe, write)
