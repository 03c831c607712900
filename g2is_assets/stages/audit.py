"""Stage `audit`: the chain behind a domain's adapter, and the page about it, where people and schedules find them."""

from contextlib import suppress

import polars as pl

from g2is_assets.contracts.audit import HTML_HEAD, LINEAGE, LINKS, PAGE, QUOTED, ROWS
from g2is_assets.contracts.graph import MAP
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.core.layout import place_among
from g2is_assets.errors import StoreError
from g2is_assets.hashing import known_sha256
from g2is_assets.settings.redaction import redacted
from g2is_assets.settings.selection import selection_settings
from g2is_assets.stages.features import all_rows, stored_features
from g2is_assets.stages.stage import MadeFrom, Place, Task, Versions, stage
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.manifest import read_manifest
from g2is_assets.store.sources import relative_name
from g2is_assets.store.version import Draft, Version
from g2is_assets.store.versions import version_folders
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
    project, before = workspace.project, _evaluated_before(workspace, versions["finetune/evaluation"])
    said = {"title": project.domain(place.domain).title, "model": redacted(project.settings.model)}
    seen = {"before": before.as_input.manifest_sha256 if before else None}
    return MadeFrom({**said, **seen, "share": versions["warmup/sample"].manifest.settings["share"]})


def _evaluated_before(workspace: Workspace, evaluation: Version) -> Version | None:
    """The last evaluation of another adapter of the domain that was made before this one."""
    made, found = evaluation.manifest, []
    for folder in version_folders(workspace.lake, made.asset, made.partition):
        with suppress(StoreError):  # a damaged one is for the verification to name
            other = Version(folder, read_manifest(folder))
            adapter, own = (one.inputs["finetune/adapter"].data_version for one in (other.manifest, made))
            if other.manifest.created_at < made.created_at and adapter != own:
                found.append(other)
    return max(found, key=lambda other: other.manifest.created_at, default=None)


@stage(
    "audit/lineage",
    "domain",
    "1",
    {"polars", "parquet"},
    inputs=["finetune/adapter", "finetune/evaluation"],
    made_from=_lineage_from,
)
def lineage(draft: Draft, task: Task) -> None:
    """Every version behind the domain's adapter and its evaluation, back to the source files, and the rows trained on.

    Each version's manifest names its inputs by digest, so the digests of these two, which this run's event keeps,
    commit to all of them. The check recomputes them; `g2is audit verify` does so at any time. The settings files are
    part of this record, so a change of theirs shows.
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
    "3",
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

    workspace, said, versions = task.workspace, task.recipe.settings, task.recipe.versions
    checks, own = checked(workspace, versions), _own_places(task)
    named = {"domain": task.domain, "title": said["title"], "model": said["model"]}
    page = build_page(read_material(workspace.lake, versions, checks, own, said["before"], **named))
    (draft.folder / PAGE).write_text(page.html, encoding="utf-8")
    draft.write(QUOTED, page.quoted)
    failed = [check.severity for check in checks if not check.passed]
    draft.metric(n_checks=len(checks), n_errors=failed.count("error"), n_warnings=failed.count("warning"))


def _own_places(task: Task) -> pl.DataFrame:
    """Where the domain's validation rows stand on the map: amid its rows whose gradients are nearest to theirs."""
    from g2is_assets.reports.page.sections import points_of

    workspace, subset = task.workspace, task.version("selection/subset")
    settings, places = selection_settings(subset.manifest.settings), task.read(MAP)
    gradients, own = (
        workspace.lake.input_of(subset, f"gradients/{name}", domain)
        for name, domain in (("pool", None), ("target", task.domain))
    )
    own_ids, own_features = stored_features(workspace, own, "sgd")
    ids, features = stored_features(
        workspace,
        gradients,
        settings.kind,
        mean_removed=settings.mean_removed,
        rows=pl.Series(points_of(subset.read(SUBSET), places), dtype=pl.String),
    )
    known = pl.DataFrame({"row_id": ids}).join(places, on="row_id", how="left", maintain_order="left")
    found = place_among(all_rows(own_features), features, known.select("x", "y").to_numpy())
    return pl.DataFrame({"row_id": own_ids, "x": found[:, 0], "y": found[:, 1]})


def way_to(version: Version) -> str:
    """What `report.html` beside the versions says: a way to this one's page, so that its address stays the same."""
    target = f"{version.folder.name}/{PAGE}"
    return (
        f'{HTML_HEAD}<meta http-equiv="refresh" content="0; url={target}">\n<title>Report</title>\n'
        f'<p><a href="{target}">The current report</a></p>\n</html>\n'
    )
