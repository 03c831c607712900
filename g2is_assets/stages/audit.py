"""Stage `audit`: the chain behind a domain's adapter, and the page about it, where people and schedules find them."""

import dagster as dg

from g2is_assets.contracts import audit as contracts
from g2is_assets.stages.publish import publish, recipe_here
from g2is_assets.stages.recipes import CODE_VERSIONS
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Draft
from g2is_assets.store.pages import PAGE, point_to
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


@dg.asset(
    key=["audit", "report"],
    group_name="audit",
    kinds={"html"},
    code_version=CODE_VERSIONS["audit/report"],
    deps=[
        ["audit", "lineage"],
        ["finetune", "evaluation"],
        ["graph", "neighbors"],
        ["instructions", "pool"],
        ["instructions", "target"],
        ["knowledge", "components"],
        ["selection", "subset"],
    ],
)
def report(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """One self-contained page about the domain's adapter: what it is worth, what it was trained on and why, its chain.

    It needs no network and no program but a browser, and can be printed. Its checks are made anew from the versions
    that it is about. The table beside it names every row that it quotes, so that the erasure of one removes the page.
    `report.html` beside the versions leads to the current one.
    """
    recipe = recipe_here(context, workspace)

    def write(draft: Draft) -> None:
        from g2is_assets.reports.page.build import build_page
        from g2is_assets.reports.page.read import read_material
        from g2is_assets.stages.checks import checked

        named = {"domain": context.partition_key, "title": recipe.settings["title"], "model": recipe.settings["model"]}
        checks = checked(workspace, recipe.versions)
        page = build_page(read_material(workspace.lake, recipe.versions, checks, **named))
        (draft.folder / PAGE).write_text(page.html, encoding="utf-8")
        draft.table("quoted", contracts.QUOTED, page.quoted)
        failed = [check.severity for check in checks if not check.passed]
        draft.metric(n_checks=len(checks), n_errors=failed.count("error"), n_warnings=failed.count("warning"))

    result = publish(context, workspace, recipe, write)
    version = workspace.lake.current("audit/report", context.partition_key)
    point_to(version)
    page = (version.folder / PAGE).resolve()
    found = {"g2is/page": dg.MetadataValue.path(str(page)), "g2is/page_url": dg.MetadataValue.url(page.as_uri())}
    return dg.MaterializeResult(data_version=result.data_version, metadata={**(result.metadata or {}), **found})
