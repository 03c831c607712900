"""Which adapter of a domain is served: `served.json` beside `current.json`, replaced only after an evaluation."""

import json
from pathlib import Path
from typing import Final

from g2is_assets.errors import StoreError
from g2is_assets.store.lake import Lake

ADAPTER: Final = "finetune/adapter"
SERVED: Final = "served.json"


def served_name(place: Path) -> str | None:
    """Name of the version that is served, of those in a place; None where none has been promoted.

    Raises:
        StoreError: The file is damaged.
    """
    pointer = place / SERVED
    if not pointer.exists():
        return None
    try:
        return Path(json.loads(pointer.read_text(encoding="utf-8"))["version"]).name
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{pointer} is damaged; delete it and materialise finetune/evaluation again") from error


def served_folder(lake: Lake, domain: str) -> Path | None:
    """Folder of the adapter version that is served for a domain."""
    place = lake.place(ADAPTER, domain)
    name = served_name(place)
    return None if name is None else place / name


def promote(lake: Lake, domain: str, version: str) -> None:
    """From now on serve this version of the domain's adapter."""
    lake.replace(lake.place(ADAPTER, domain) / SERVED, json.dumps({"version": version}) + "\n")
