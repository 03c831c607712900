"""Every version that a lake holds, not only the current ones: what collection, erasure and reports walk over."""

import re
from pathlib import Path
from typing import Final

from g2is_assets.errors import StoreError
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import read_manifest
from g2is_assets.store.version import Version

MODELS: Final = "models"
"""Folder of the lake that holds no asset."""

VERSION_NAME: Final = re.compile(r"[0-9a-f]{12}-[0-9a-f]{12}(-[0-9a-f]{6})?")
SCRATCH_NAME: Final = re.compile(
    r"\.(writing|views)-.+"  # versions, views
    r"|\..+-[0-9a-f]{32}"  # single files written atomically
    r"|\.[0-9a-f]{32}\.npy"  # mapped copies
)


def assets_of(lake: Lake) -> list[str]:
    """Keys of all assets that have a folder."""
    return [
        f"{stage.name}/{noun.name}"
        for stage in folders(lake.root)
        for noun in (folders(stage) if stage.name != MODELS else [])
    ]


def partitions_of(lake: Lake, asset: str) -> list[str | None]:
    """None for the asset's own versions, then its partitions by name."""
    names = [folder.name for folder in folders(lake.place(asset)) if not VERSION_NAME.fullmatch(folder.name)]
    return [None, *names]


def versions_of(lake: Lake, asset: str) -> tuple[list[Version], list[str]]:
    """All versions of an asset in all partitions, pruned ones too; and what is wrong with those that cannot be read."""
    found, faults = [], []
    for partition in partitions_of(lake, asset):
        for folder in folders(lake.place(asset, partition)):
            if VERSION_NAME.fullmatch(folder.name):
                try:
                    found.append(Version(folder, read_manifest(folder)))
                except StoreError as error:
                    faults.append(f"{error}, or delete {folder.name} if it is of no use")
    return found, faults


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name."""
    # Not `glob`, which passes over what it may not read: versions unseen would seem to refer to nothing.
    return sorted(folder.iterdir()) if folder.is_dir() else []


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, but for hidden ones."""
    return [entry for entry in entries(folder) if entry.is_dir() and not entry.name.startswith(".")]
