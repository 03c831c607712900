"""Jobs: what is refreshed together. A domain's job never writes an asset that other domains share."""

from typing import Any

import dagster as dg


def build_jobs(
    pool_assets: list[dg.AssetsDefinition],
    domain_assets: list[dg.AssetsDefinition],
) -> list[Any]:
    """`refresh_pool` for what all domains share, `refresh_domain` for one domain's partition."""
    return [
        dg.define_asset_job(
            "refresh_pool",
            selection=dg.AssetSelection.assets(*pool_assets),
            description="Bring pool, checkpoint, pool gradients and graph up to date; skip what has not changed.",
        ),
        dg.define_asset_job(
            "refresh_domain",
            selection=dg.AssetSelection.assets(*domain_assets),
            description="Bring one domain up to date, from its rows to the evaluated adapter; skip the unchanged.",
        ),
    ]
