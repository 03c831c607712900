"""Every version that a lake holds, not only the current ones: what collection, erasure and reports walk over."""

import re
from pathlib import Path
from typing import Final

from g2is_assets.errors import StoreError
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import read_manifest
from g2is_assets.store.version import Version

VERSION_NAME: Final = re.compile(r"[0-9a-f]{12}-[0-9a-f]{12}(-[0-9a-f]{6})?")
SCRATCH_NAME: Final = re.compile(r"\.writing-.+")


def assets_of(lake: Lake) -> list[str]:
    """Keys of all assets that have a folder."""
    return [f"{stage}/{noun}" for stage in _folders(lake, "") for noun in _folders(lake, stage)]


def partitions_of(lake: Lake, asset: str) -> list[str | None]:
    """None for the asset's own versions, then its partitions by name."""
    return [None, *(name for name in _folders(lake, asset) if not VERSION_NAME.fullmatch(name))]


def versions_of(lake: Lake, asset: str) -> tuple[list[Version], list[str]]:
    """All versions of an asset in all partitions, pruned ones too; and what is wrong with those that cannot be read."""
    found, faults = [], []
    for partition in partitions_of(lake, asset):
        for folder in version_folders(lake, asset, partition):
            try:
                found.append(Version(folder, read_manifest(folder)))
            except StoreError as error:
                faults.append(f"{error}, or delete {folder.name} if it is of no use")
    return found, faults


def version_folders(lake: Lake, asset: str, partition: str | None) -> list[Path]:
    """The folders of all versions of one partition, readable or not."""
    place = lake.place(asset, partition)
    return [place / name for name in _folders(lake, lake.key(place)) if VERSION_NAME.fullmatch(name)]


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _folders(lake: Lake, key: str) -> list[str]:
    """Names of the folders directly below a key, but for hidden ones."""
    names = [name for name in lake.backend.list(key) if not name.startswith(".")]
    return [name for name in names if lake.backend.get(f"{key}/{name}" if key else name).is_dir()]
