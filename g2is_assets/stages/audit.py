"""Stage `audit`: the chain behind a domain's adapter, and the page about it, where people and schedules find them."""

from g2is_assets.contracts.audit import HTML_HEAD, LINEAGE, LINKS, PAGE, QUOTED, ROWS
from g2is_assets.hashing import known_sha256
from g2is_assets.settings.redaction import redacted
from g2is_assets.stages.stage import MadeFrom, Place, Task, Versions, stage
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.sources import relative_name
from g2is_assets.store.version import Draft, Version
from g2is_assets.trail.chain import follow
from g2is_assets.trail.lineage_tables import lineage_tables


def _lineage_from(workspace: Workspace, place: Place, versions: Versions) -> MadeFrom:
    # Equal content may be described by another manifest, and what stands here are manifests.
    settings = {"manifests": {asset: version.as_input.manifest_sha256 for asset, version in versions.items()}}
    project = workspace.project
    files = [file for file in (project.path, project.domain(place.domain).file) if file.exists()]
    digests = {f"file:{relative_name(str(file), project.path.parent)}": known_sha256(file) for file in files}
    return MadeFrom(settings, digests | {f"model:{name}": digest for name, digest in workspace.model.files.items()})


def _report_from(workspace: Workspace, place: Place, versions: Versions) -> MadeFrom:
    project, share = workspace.project, versions["warmup/sample"].manifest.settings["share"]
    said = {"title": project.domain(place.domain).title, "model": redacted(project.settings.model)}
    return MadeFrom(said | {"share": share})


@stage(
    "audit/lineage",
    "domain",
    "1",
    {"polars", "parquet"},
    inputs=["finetune/adapter", "finetune/evaluation"],
    made_from=_lineage_from,
)
def lineage(draft: Draft, task: Task) -> None:
    """Every version behind the domain's adapter, back to the source files, and the rows it was trained on.

    Each version's manifest names its inputs by digest, so the adapter's digest, which this run's event keeps, commits
    to all of them. The check recomputes them; `g2is audit verify` does so at any time. The settings files are part of
    this record, so a change of theirs shows.
    """
    lake = task.workspace.lake
    chain = follow(lake, [task.version(asset) for asset in ("finetune/adapter", "finetune/evaluation")])
    tables = lineage_tables(lake, task.domain, chain)
    for contract in (LINEAGE, LINKS, ROWS):
        draft.write(contract, tables[contract.table])
    licenses, sources = (tables["rows"][name].explode() for name in ("licenses", "sources"))
    draft.metric(n_versions=len(chain), n_licenses=licenses.n_unique(), n_sources=sources.n_unique())
    draft.metric(n_rows_without_license=int((licenses == "unknown").sum()))


@stage(
    "audit/report",
    "domain",
    "1",
    {"html"},
    # All that the page says of manifests stands in the lineage.
    inputs=[
        "audit/lineage",
        "finetune/evaluation",
        "graph/neighbors",
        "instructions/pool",
        "instructions/target",
        "knowledge/components",
        "selection/subset",
        "warmup/sample",
    ],
    made_from=_report_from,
    finish=lambda task, version: task.workspace.lake.replace(version.folder.parent / PAGE, way_to(version)),
)
def report(draft: Draft, task: Task) -> None:
    """One self-contained page about the domain's adapter: what it is worth, what it was trained on and why, its chain.

    It needs no network and no program but a browser, and can be printed. Its checks are made anew from the versions
    that it is about. The table beside it names every row that it quotes, so that the erasure of one removes the page.
    `report.html` beside the versions leads to the current one.
    """
    from g2is_assets.reports.page.build import build_page
    from g2is_assets.reports.page.material import read_material
    from g2is_assets.stages.checks import checked

    workspace, said = task.workspace, task.recipe.settings
    checks = checked(workspace, task.recipe.versions)
    named = {"domain": task.domain, "title": said["title"], "model": said["model"]}
    page = build_page(read_material(workspace.lake, task.recipe.versions, checks, **named))
    (draft.folder / PAGE).write_text(page.html, encoding="utf-8")
    draft.write(QUOTED, page.quoted)
    failed = [check.severity for check in checks if not check.passed]
    draft.metric(n_checks=len(checks), n_errors=failed.count("error"), n_warnings=failed.count("warning"))


def way_to(version: Version) -> str:
    """What `report.html` beside the versions says: a way to this one's page, so that its address stays the same."""
    target = f"{version.folder.name}/{PAGE}"
    return (
        f'{HTML_HEAD}<meta http-equiv="refresh" content="0; url={target}">\n<title>Report</title>\n'
        f'<p><a href="{target}">The current report</a></p>\n</html>\n'
    )
