"""Every stage as Dagster sees it: one factory makes an asset of each, with its inputs, partitions and metadata."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any, Final

import dagster as dg
from pydantic import Field

from g2is_assets.contracts.audit import PAGE
from g2is_assets.orchestration.metadata import table_metadata, version_metadata
from g2is_assets.orchestration.retries import retried
from g2is_assets.orchestration.runs import end_dead_runs, label, model_turn
from g2is_assets.reports import words
from g2is_assets.settings.project import Project
from g2is_assets.stages.catalog import STAGES, STUDY
from g2is_assets.stages.frame import make
from g2is_assets.stages.stage import PROJECT, Place, Stage
from g2is_assets.stages.studies import Study
from g2is_assets.stages.variants import place_of, places_of, variant_keys
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version

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
    partitions: dict[str, dg.PartitionsDefinition | None] = {
        "project": None,
        "domain": domains,
        "variant": dg.MultiPartitionsDefinition({"domain": domains, "variant": variants}) if studies else None,
    }
    places: dict[str, Sequence[Place]] = {
        "project": [PROJECT],
        "domain": [Place(domain) for domain in project.domains],
        "variant": places_of(studies.values()),
    }
    return {
        stage.key: _asset(
            stage, partitions[stage.partition], stage.all_inputs(project, places[stage.partition]), project
        )
        for stage in STAGES
        if studies or stage.group != STUDY
    }


def _asset(
    stage: Stage, partitions: dg.PartitionsDefinition | None, inputs: Iterable[str], project: Project
) -> dg.AssetsDefinition:
    """A stage as an asset."""
    described: dict[str, Any] = {
        "key": stage.key.split("/"),
        "group_name": stage.group,
        "kinds": set(stage.kinds),
        "owners": [project.settings.owner],
        "code_version": stage.code_version,
        "description": stage.description,
        "deps": [key.split("/") for key in inputs],
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
    stop_at, run = context.run.tags.get(STOP_AT), context.run
    if STOPPED.is_set():
        raise KeyboardInterrupt

    @contextmanager
    def turn() -> Iterator[bool]:
        with model_turn(workspace.lake.root, f"run {label(run)} in {stage.key}") as waited:
            if waited and context.instance.is_persistent:
                end_dead_runs(context.instance)  # for whom it was waited may have been killed
            yield waited

    with retried(context):
        made = make(
            workspace,
            stage.key,
            _place(context, workspace),
            context.run.run_id,
            force=force,
            stop_at=float(stop_at) if stop_at else None,
            turn=turn,
        )
    metadata = version_metadata(made.version, made.written, _shown(workspace, made.version))
    page = made.version.folder / PAGE
    if page.is_file():
        address = page.resolve()
        metadata |= {"g2is/page": dg.MetadataValue.path(str(address))}
        metadata |= {"g2is/page_url": dg.MetadataValue.url(address.as_uri())}
    return dg.MaterializeResult(data_version=dg.DataVersion(made.version.manifest.data_version), metadata=metadata)


def _place(context: dg.AssetExecutionContext, workspace: Workspace) -> Place:
    if not context.has_partition_key:
        return PROJECT
    key = context.partition_key
    if isinstance(key, dg.MultiPartitionKey):
        return place_of(workspace, key.keys_by_dimension["domain"], key.keys_by_dimension["variant"])
    return Place(key)


def _shown(workspace: Workspace, version: Version) -> dict[str, str]:
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
