"""The frame that all assets share: skip if inputs are equal, else write a version; report it to Dagster."""

import logging
import time
from collections.abc import Callable

import dagster as dg

from g2is_assets.orchestration.metadata import version_metadata
from g2is_assets.progress import say
from g2is_assets.reports import markdown
from g2is_assets.stages.recipes import in_run, recipe_of
from g2is_assets.stages.retries import retried
from g2is_assets.stages.staleness import write_staleness
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Draft, Recipe, Version
from g2is_assets.store.views import rebuild_views
from g2is_assets.trail.chain import mend

log = logging.getLogger(__name__)


def recipe_here(context: dg.AssetExecutionContext, workspace: Workspace) -> Recipe:
    """The running asset's recipe. Its `versions` are what the asset is to read, also if others become current."""
    domain = context.partition_key if context.has_partition_key else None
    with retried(context):
        return in_run(recipe_of(workspace, context.asset_key.to_user_string(), domain), context.run.run_id)


def publish(
    context: dg.AssetExecutionContext,
    workspace: Workspace,
    recipe: Recipe,
    write: Callable[[Draft], None],
    *,
    force: bool = False,
    intact: Callable[[Version], bool] = lambda version: True,
) -> dg.MaterializeResult:
    """Make this asset's version, or let an equal one serve, and describe it to Dagster.

    Args:
        context: Of the running asset.
        workspace: The project's resource.
        recipe: What the version is made from.
        write: Computes and writes the payload into the draft; not called when inputs are equal.
        force: Make it anew in any case.
        intact: Whether what an earlier version refers to outside its folder is whole.
    """
    label = f"{recipe.asset}[{recipe.partition}]" if recipe.partition else recipe.asset
    begun = time.monotonic()
    with retried(context):
        version, written = workspace.lake.make(recipe, context.run.run_id, write, force=force, intact=intact)
        if not written:
            version = mend(workspace.lake, version, recipe, context.run.run_id)
        refresh_lens(workspace)
    say(f"{label}: " + (f"done in {time.monotonic() - begun:.1f} s" if written else "unchanged"))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version.manifest.data_version),
        metadata=version_metadata(version, written, shown(workspace, version)),
    )


def shown(workspace: Workspace, version: Version) -> dict[str, str]:
    """First rows and pictures of a version; what goes wrong with them fails no refresh."""
    from g2is_assets.reports.shown import show

    try:
        return show(workspace.lake, version, workspace.project.settings.preview_rows)
    except Exception as error:  # the version is written, and would be as hard to draw the next time
        log.warning("%s cannot be shown: %s", version.folder, error)
        return {"pictures": f"none: {markdown.escaped(str(error))}"}


def refresh_lens(workspace: Workspace) -> None:
    """Bring the staleness table and the views up to date; what goes wrong with the table fails no refresh."""
    try:
        write_staleness(workspace)
    except Exception as error:  # another domain's files or settings are no reason to fail here
        log.warning("audit_staleness is not up to date: %s", error)
    rebuild_views(workspace.lake)
