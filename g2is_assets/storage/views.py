"""The DuckDB lens: one view per current table, over the Parquet files; rebuilt and replaced whole at any time."""

import logging
import os
import tempfile
from pathlib import Path

import duckdb

from g2is_assets.contracts.gradients import INDEX
from g2is_assets.errors import StoreError
from g2is_assets.storage.lake import Lake, Version

log = logging.getLogger(__name__)

DATABASE = "g2is.duckdb"


def rebuild_views(lake: Lake) -> Path:
    """Write `<lake>/g2is.duckdb` anew: `<stage>_<noun>` for the main table, `<stage>_<noun>_<table>` for the others.

    Domains are one view: the tables carry a column `domain`. Vectors are views named `gradients_<noun>_vectors`.
    """
    files: dict[str, list[Path]] = {}
    vectors: dict[str, set[Path]] = {}
    for version in _current_versions(lake):
        stage, noun = version.manifest.asset.split("/")
        for name in version.manifest.files:
            if name.endswith(".parquet"):
                table = name.removesuffix(".parquet").replace("/", "_")
                view = f"{stage}_{noun}" + ("" if table == noun else f"_{table}")
                files.setdefault(view, []).append(version.folder / name)
        if stage == "gradients":
            store = lake.place(version.manifest.asset, "store") / str(version.manifest.settings["store"])
            shards = version.table("index", INDEX)["shard"].unique().sort()
            vectors.setdefault(f"gradients_{noun}_vectors", set()).update(store / f"{s}.parquet" for s in shards)
    views = files | {view: sorted(paths) for view, paths in vectors.items()}
    with tempfile.TemporaryDirectory(dir=lake.root, prefix=".views-") as scratch:
        made = Path(scratch) / DATABASE
        with duckdb.connect(str(made)) as connection:
            for view, paths in sorted(views.items()):
                listed = ", ".join(_literal(str(path)) for path in paths)
                connection.execute(f'CREATE VIEW "{view}" AS SELECT * FROM read_parquet([{listed}])')
        os.replace(made, lake.root / DATABASE)
    return lake.root / DATABASE


def _current_versions(lake: Lake) -> list[Version]:
    found = []
    for pointer in sorted(lake.root.glob("*/*/current.json")) + sorted(lake.root.glob("*/*/*/current.json")):
        parts = pointer.parent.relative_to(lake.root).parts
        try:
            version = lake.find("/".join(parts[:2]), parts[2] if len(parts) == 3 else None)
        except StoreError as error:  # one damaged version must not hide the others
            log.warning("left out of the views: %s", error)
            continue
        if version:
            found.append(version)
    return found


def _literal(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
