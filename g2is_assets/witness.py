"""Dagster's materialisation events as witnesses: each holds the digest of the manifest that it reported."""

import dagster as dg

from g2is_assets.storage.lake import Version

MANIFEST_DIGEST = "g2is/manifest_sha256"
"""Metadata key of every materialisation."""


def reported_digests(instance: dg.DagsterInstance, version: Version) -> list[str]:
    """Manifest digests that Dagster's events of this version's asset and partition hold, the last event first."""
    manifest = version.manifest
    events = dg.AssetRecordsFilter(
        dg.AssetKey(manifest.asset.split("/")), asset_partitions=[manifest.partition] if manifest.partition else None
    )
    found: list[str] = []
    cursor, more = None, True
    while more:
        page = instance.fetch_materializations(events, limit=100, cursor=cursor)
        for record in page.records:
            said = record.asset_materialization.metadata.get(MANIFEST_DIGEST) if record.asset_materialization else None
            if said is not None:
                found.append(str(said.value))
        cursor, more = page.cursor, page.has_more
    return found
