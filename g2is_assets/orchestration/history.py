"""What Dagster's history of a project still shows of rows: the first rows of a table stand in its materialisations.

They are cut short, and `preview_rows = 0` keeps them out. The history is Dagster's own: it is only searched here.
"""

from collections.abc import Collection, Iterator
from typing import Final

import dagster as dg

from g2is_assets.contracts.tables import TABLES
from g2is_assets.reports.words import ID_SHOWN

FIRST_ROWS: Final = "g2is/first_rows"


def assets_showing(instance: dg.DagsterInstance, rows: Collection[str]) -> dict[str, list[str]]:
    """For each of these rows, the assets of which some materialisation shows its text, by name."""
    found: dict[str, list[str]] = {row: [] for row in rows}
    for asset in sorted({asset for (asset, _), contract in TABLES.items() if contract.texts or contract.quoted}):
        texts = list(_texts(instance, asset))
        for row, assets in found.items():
            if any(row[:ID_SHOWN] in text for text in texts):
                assets.append(asset)
    return found


def _texts(instance: dg.DagsterInstance, asset: str) -> Iterator[str]:
    cursor, more = None, True
    while more:
        page = instance.fetch_materializations(dg.AssetKey(asset.split("/")), limit=100, cursor=cursor)
        for record in page.records:
            said = record.asset_materialization.metadata.get(FIRST_ROWS) if record.asset_materialization else None
            if said is not None:
                yield str(said.value)
        cursor, more = page.cursor, page.has_more
