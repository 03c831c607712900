"""The DuckDB lens: one view per current table, over the Parquet files; rebuilt and replaced whole at any time."""

import logging
from pathlib import Path

import duckdb

from g2is_assets.contracts.audit import STALENESS
from g2is_assets.contracts.tables import main_table, view_of
from g2is_assets.errors import StoreError
from g2is_assets.hashing import looks_untouched
from g2is_assets.store.files import is_refusal, read_parquet, replacing
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version
from g2is_assets.store.versions import assets_of, partitions_of

log = logging.getLogger(__name__)

DATABASE = "g2is.duckdb"


def staleness_file(lake: Lake) -> Path:
    """Where the table behind the view `audit_staleness` stands: what is true of the whole lake, hence no version."""
    return lake.root / "audit" / STALENESS.file


def rebuild_views(lake: Lake) -> Path:
    """Write `<lake>/g2is.duckdb` anew: `<stage>_<noun>` for the main table, `<stage>_<noun>_<table>` for the others.

    A table of several domains is one view. So is the main table of the parts that versions are made of, such as
    `gradients_pool_vectors`. A damaged version is left out with a warning, so that it does not hide the others.
    """
    files: dict[str, list[Path]] = {}
    for version in _current_versions(lake):
        asset = "/".join(version.folder.relative_to(lake.root).parts[:2])
        for name in version.manifest.files:
            if name.endswith(".parquet"):
                table = name.removesuffix(".parquet").replace("/", "_")
                files.setdefault(view_of(asset, table), []).append(version.folder / name)
        for part in _parts(lake, version):
            main = main_table(part.manifest.asset)
            files.setdefault(view_of(asset, main.table), []).append(part.folder / main.file)
    if staleness_file(lake).is_file():
        files[view_of(STALENESS.assets[0], STALENESS.table)] = [staleness_file(lake)]
    with replacing(lake.root / DATABASE) as scratch:
        lake.root.mkdir(parents=True, exist_ok=True)
        with duckdb.connect(str(scratch)) as connection:
            for view, paths in sorted(files.items()):
                listed = ", ".join(_literal(str(path)) for path in dict.fromkeys(paths))
                # Folder names such as `n=1` are no columns.
                source = f"read_parquet([{listed}], hive_partitioning = false)"
                try:
                    connection.execute(f"CREATE VIEW {_name(view)} AS SELECT * FROM {source}")
                except duckdb.Error as error:  # another process replaced a version meanwhile: it rebuilds the views too
                    if is_refusal(error):
                        raise
                    log.warning("view %s left out: %s", view, error)
            connection.execute("CHECKPOINT")  # raises where the disk is full; closing would not
    return lake.root / DATABASE


def _current_versions(lake: Lake) -> list[Version]:
    found = []
    for place in [(asset, partition) for asset in assets_of(lake) for partition in partitions_of(lake, asset)]:
        try:
            version = lake.find(*place)
            if version:
                for name in version.manifest.files:
                    if name.endswith(".parquet"):
                        _look_at(version.folder / name)
                found.append(version)
        except StoreError as error:
            log.warning("left out of the views: %s", error)
    return found


def _look_at(file: Path) -> None:
    """Refuse a file that is no Parquet; one that is as it was when it was hashed need not be opened."""
    if not looks_untouched(file):
        read_parquet(file, n_rows=0)


def _parts(lake: Lake, version: Version) -> list[Version]:
    """Without those that a prescreen reads alone, whose columns are others."""
    aside = version.manifest.settings.get("prescreen", {}).get("store", ())
    try:
        return [part for part in lake.parts_of(version).values() if part.manifest.partition not in aside]
    except StoreError as error:
        log.warning("left out of the views: %s", error)
        return []


def _literal(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def _name(text: str) -> str:
    """A SQL name."""
    return '"' + text.replace('"', '""') + '"'
