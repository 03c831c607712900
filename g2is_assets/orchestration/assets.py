"""Every stage as Dagster sees it: one factory makes an asset of each, with its inputs, partitions and metadata.

Of metadata the result comes first: a link or a sentence, then `g2is/...` numbers, then what can be looked at, then
standard keys; the same on every run.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any, Final

import dagster as dg
from pydantic import Field

from g2is_assets.contracts.audit import PAGE, PAGE_ADDRESS
from g2is_assets.contracts.contract import Column, type_name
from g2is_assets.contracts.tables import main_table, view_of
from g2is_assets.orchestration.auditing import EVALUATION, SERVED_DIGEST
from g2is_assets.orchestration.runs import UNATTENDED, end_dead_runs, label, model_turn, retried
from g2is_assets.reports import words
from g2is_assets.reports.words import Cells
from g2is_assets.settings.project import Project
from g2is_assets.stages.catalog import STAGES, STUDY
from g2is_assets.stages.frame import make
from g2is_assets.stages.stage import PROJECT, Place, Stage
from g2is_assets.stages.studies import Study
from g2is_assets.stages.variants import place_of, places_of, variant_keys
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version
from g2is_assets.trail.witness import SERVES, version_of

log = logging.getLogger(__name__)

STOP_AT: Final = "g2is/stop_at"
"""Tag of a run: seconds since the epoch, after which a study begins nothing more."""
MODEL_POOL: Final = "model"
"""Dagster's pool of the steps that use the model; turns on one machine are taken by a lock besides."""

STOPPED: Final = Event()
"""Set by Ctrl-C between two steps, where Dagster is not to be interrupted: no further step begins."""


class RedrawConfig(dg.Config):
    """How a version that follows no inputs is made in this run."""

    redraw: bool = Field(
        default=False,
        description="Draw again from the pool as it is now: the checkpoint is retrained, every gradient computed anew.",
    )


def build_assets(project: Project, studies: Mapping[str, Study]) -> dict[str, dg.AssetsDefinition]:
    """One asset for every stage, by key; those of studies only where there is one."""
    domains = dg.StaticPartitionsDefinition(sorted(project.domains))
    variants = dg.StaticPartitionsDefinition(variant_keys(studies.values()))
    kinds: dict[str, tuple[dg.PartitionsDefinition | None, Sequence[Place]]] = {
        "project": (None, [PROJECT]),
        "domain": (domains, [Place(domain) for domain in project.domains]),
        "variant": (
            dg.MultiPartitionsDefinition({"domain": domains, "variant": variants}) if studies else None,
            places_of(studies.values()),
        ),
    }
    stages = [stage for stage in STAGES if studies or stage.group != STUDY]
    return {stage.key: _asset(project, stage, *kinds[stage.partition]) for stage in stages}


def _asset(
    project: Project, stage: Stage, partitions: dg.PartitionsDefinition | None, places: Sequence[Place]
) -> dg.AssetsDefinition:
    described: dict[str, Any] = {
        "key": stage.key.split("/"),
        "group_name": stage.group,
        "kinds": set(stage.kinds),
        "owners": [project.settings.owner],
        "code_version": stage.code_version,
        "description": stage.description,
        "deps": [key.split("/") for key in stage.all_inputs(project, places)],
        "partitions_def": partitions,
        "metadata": table_metadata(stage.key),
        "pool": MODEL_POOL if stage.uses_model else None,
    }
    if stage.follows_inputs:

        @dg.asset(**described)  # type: ignore[untyped-decorator]
        def asset(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
            return _materialise(context, workspace, stage)

        return asset

    @dg.asset(**described)  # type: ignore[untyped-decorator]
    def redrawn(
        context: dg.AssetExecutionContext, config: RedrawConfig, workspace: dg.ResourceParam[Workspace]
    ) -> dg.MaterializeResult:
        return _materialise(context, workspace, stage, force=config.redraw)

    return redrawn


def _materialise(
    context: dg.AssetExecutionContext, workspace: Workspace, stage: Stage, *, force: bool = False
) -> dg.MaterializeResult:
    run, place = context.run, _place(context, workspace)
    stop_at = float(said) if (said := run.tags.get(STOP_AT)) else None
    if STOPPED.is_set():
        raise KeyboardInterrupt

    @contextmanager
    def turn() -> Iterator[bool]:
        what = "model" if stage.uses_model else "pool"
        with model_turn(workspace.lake.root, f"run {label(run)} in {stage.key}", what) as waited:
            if waited and context.instance.is_persistent:
                end_dead_runs(context.instance)  # for whom it was waited may have been killed
            yield waited

    with retried(context):
        alone = not UNATTENDED.isdisjoint(run.tags)
        made = make(workspace, stage.key, place, run.run_id, force=force, stop_at=stop_at, unattended=alone, turn=turn)
    metadata = version_metadata(made.version, made.written, _shown(workspace, made.version))
    metadata |= {f"g2is/{name}": value for name, value in made.told.items()}
    if stage.key == EVALUATION and (served := version_of(workspace.lake, f"{SERVES}[{place.domain}]")):
        metadata[SERVED_DIGEST] = served.as_input.manifest_sha256
    return dg.MaterializeResult(data_version=dg.DataVersion(made.version.manifest.data_version), metadata=metadata)


def _place(context: dg.AssetExecutionContext, workspace: Workspace) -> Place:
    if context.assets_def.partitions_def is None:  # the run of a domain may bring the pool up to date too
        return PROJECT
    key = context.partition_key
    if isinstance(key, dg.MultiPartitionKey):
        return place_of(workspace, key.keys_by_dimension["domain"], key.keys_by_dimension["variant"])
    return Place(key)


def _shown(workspace: Workspace, version: Version) -> dict[str, str | Cells]:
    """First rows and pictures of a version; what goes wrong with them fails no refresh."""
    from g2is_assets.reports.shown import show

    try:
        return show(workspace.lake, version, _draw, workspace.project.settings.preview_rows)
    except Exception as error:  # the version is written, and would be as hard to draw the next time
        log.warning("%s cannot be shown: %s", version.folder, error)
        return {"pictures": f"none: {words.escaped(str(error))}"}


def _draw(lake: Lake, version: Version) -> dict[str, bytes]:
    from g2is_assets.reports.drawn import draw  # loads matplotlib

    return draw(lake, version)


def table_metadata(asset: str) -> dict[str, Any]:
    """What is known of an asset's main table before anything is materialised: its view, its columns, their lineage."""
    contract = main_table(asset)
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                type_name(contract.schema[name]),
                description=column.meaning,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable, unique=column.unique, other=_bounds(column)
                ),
            )
            for name, column in contract.columns.items()
        ]
    )
    found = {"dagster/table_name": view_of(asset, contract.table), "dagster/column_schema": schema}
    # Row ids of an asset's are the one kind of column that is handed on as it is.
    lineage = {
        name: [dg.TableColumnDep(dg.AssetKey(column.row_of.split("/")), "row_id")]
        for name, column in contract.columns.items()
        if column.row_of
    }
    return found | ({"dagster/column_lineage": dg.TableColumnLineage(lineage)} if lineage else {})


def _bounds(column: Column) -> list[str]:
    bounds = (("at least", column.minimum), ("at most", column.maximum))
    return [f"{words} {bound:g}" for words, bound in bounds if bound is not None]


def version_metadata(version: Version, written: bool, shown: Mapping[str, str | Cells]) -> dict[str, Any]:
    """Metadata of the materialisation of a version, `written` now or served again; `shown` is what there is to see."""
    manifest = version.manifest
    table, metrics = main_table(manifest.asset).table, manifest.metrics
    count = "dagster/row_count" if manifest.partition is None else "dagster/partition_row_count"
    metadata: dict[str, Any] = {}
    if (page := version.folder / PAGE).is_file():  # `g2is ui` serves the link, and anyone can open the file
        link = f"{PAGE_ADDRESS}/{manifest.partition}/{version.folder.name}"
        metadata |= {"g2is/page_url": dg.MetadataValue.url(link), "g2is/page": dg.MetadataValue.path(page.resolve())}
    if "nll_g2is" in metrics:
        metadata["g2is/result"] = words.result(metrics)
    numbers = {name: words.rounded(value) if isinstance(value, float) else value for name, value in metrics.items()}
    metadata |= {f"g2is/{name}": value for name, value in numbers.items()}
    metadata |= {count: manifest.n_rows[table]}
    metadata |= {f"g2is/n_rows_{name}": n_rows for name, n_rows in manifest.n_rows.items() if name != table}
    metadata |= {f"g2is/{name}": _seen(value, manifest.asset) for name, value in shown.items()}
    return {
        **metadata,
        "dagster/uri": str(version.folder),
        **table_metadata(manifest.asset),
        "g2is/computed": int(written),
        "g2is/n_bytes": sum(record.n_bytes for record in manifest.files.values()),
        "g2is/version": version.folder.name,
        "g2is/manifest_sha256": version.as_input.manifest_sha256,
    }


def _seen(value: str | Cells, asset: str) -> dg.MetadataValue:
    """Markdown, or a table whose columns say what they mean where they are those of the asset's main table."""
    if isinstance(value, str):
        return dg.MetadataValue.md(value)
    known, first = main_table(asset).columns, value[0] if value else {"": None}
    columns = [
        dg.TableColumn(name, "string", description=known[name].meaning if name in known else None) for name in first
    ]
    return dg.MetadataValue.table([dg.TableRecord(row) for row in value], dg.TableSchema(columns))
