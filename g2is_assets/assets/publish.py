"""The frame that all assets share: skip if inputs are equal, else write a version; report it to Dagster."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from g2is_assets.contracts.contract import Contract
from g2is_assets.metadata import version_metadata
from g2is_assets.progress import say
from g2is_assets.resources import Workspace
from g2is_assets.storage.lake import Draft, Recipe, Version
from g2is_assets.storage.manifest import Input
from g2is_assets.storage.views import rebuild_views


def read(context: dg.AssetExecutionContext, workspace: Workspace, asset: str, *, domain: bool = False) -> Version:
    """The current version of an upstream asset, for this run's domain if `domain`."""
    return workspace.lake.current(asset, context.partition_key if domain else None)


def publish(
    context: dg.AssetExecutionContext,
    workspace: Workspace,
    write: Callable[[Draft], None],
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Version | str],
    contract: Contract | None = None,
    follows_inputs: bool = True,
    force: bool = False,
    intact: Callable[[Version], bool] = lambda version: True,
) -> dg.MaterializeResult:
    """Make this asset's version, or let an equal one serve, and describe it to Dagster.

    Args:
        context: Of the running asset.
        workspace: The project's resource.
        write: Computes and writes the payload into the draft; not called when inputs are equal.
        settings: The resolved settings that the payload depends on.
        inputs: Upstream versions by asset key, or content digests of files and models.
        contract: Of the main table, which has the asset's last name.
        follows_inputs: False for an asset that is remade on request only.
        force: Make it anew in any case.
        intact: Whether what an earlier version refers to outside its folder is whole.
    """
    key = context.asset_key
    partition = context.partition_key if context.has_partition_key else None
    recipe = Recipe(
        asset=key.to_user_string(),
        partition=partition,
        code_version=context.assets_def.code_versions_by_key[key] or "",
        settings=settings,
        inputs={n: v.as_input if isinstance(v, Version) else Input(data_version=v) for n, v in inputs.items()},
        follows_inputs=follows_inputs,
    )
    label = f"{recipe.asset}[{partition}]" if partition else recipe.asset
    begun = time.monotonic()
    version, written = workspace.lake.make(recipe, context.run.run_id, write, force=force, intact=intact)
    rebuild_views(workspace.lake)
    say(f"{label}: " + (f"done in {time.monotonic() - begun:.1f} s" if written else "unchanged"))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version.manifest.data_version),
        metadata=version_metadata(version, contract, key.path[-1], written),
    )
