"""Which adapter of a domain is served: `served.json` beside `current.json`, replaced only after an evaluation.

`version` is its folder's name, `before` that of the adapter whose place it took, `refused` that of a newer one that was
evaluated and not promoted.
"""

import json
from pathlib import Path
from typing import Any, Final

from g2is_assets.errors import StoreError
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version

ADAPTER: Final = "finetune/adapter"
SERVED: Final = "served.json"


def _said(place: Path) -> dict[str, Any]:
    pointer = place / SERVED
    if not pointer.exists():
        return {}
    try:
        said = json.loads(pointer.read_text(encoding="utf-8"))
        names = {key: Path(said[key]).name for key in ("before", "refused") if key in said}
        return {"version": Path(said["version"]).name} | names
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{pointer} is damaged; delete it and materialise finetune/evaluation again") from error


def served_name(place: Path) -> str | None:
    """Name of the version that is served, of those in a place; None where none has been promoted.

    Raises:
        StoreError: The file is damaged.
    """
    return _said(place).get("version")


def needed_names(place: Path) -> set[str]:
    """Names of the versions that have to stay whole: the one that is served, and the one that it is compared with."""
    said = _said(place)
    return {said[key] for key in ("version", "before") if key in said}


def served_folder(lake: Lake, domain: str) -> Path | None:
    """Folder of the adapter version that is served for a domain."""
    place = lake.place(ADAPTER, domain)
    name = served_name(place)
    return None if name is None else place / name


def rival_of(lake: Lake, adapter: Version) -> Version | None:
    """The adapter whose place this one takes or took: the one served, or the one served before if this one is.

    So the answer is the same before this one is promoted and after. None where there is no such adapter, or it is no
    longer whole.

    Raises:
        StoreError: `served.json` is damaged.
    """
    place = adapter.folder.parent
    said = _said(place)
    name = said.get("before" if _same(said.get("version"), adapter.folder.name) else "version")
    try:
        return lake.whole(place / name) if name else None
    except StoreError:
        return None


def is_served(adapter: Version) -> bool:
    """Whether this adapter, or one of equal content, is served."""
    return _same(_said(adapter.folder.parent).get("version"), adapter.folder.name)


def was_refused(adapter: Version) -> bool:
    """Whether this adapter was evaluated and not promoted."""
    return _same(_said(adapter.folder.parent).get("refused"), adapter.folder.name)


def promote(lake: Lake, domain: str, version: str) -> None:
    """From now on serve this version of the domain's adapter."""
    said = _said(lake.place(ADAPTER, domain))
    before = said.get("before") if _same(said.get("version"), version) else said.get("version")
    _write(lake, domain, {"version": version, "before": before})


def refuse(lake: Lake, domain: str, version: str) -> None:
    """Go on serving the one that is served, and remember that this newer one was not promoted."""
    if said := _said(lake.place(ADAPTER, domain)):
        _write(lake, domain, said | {"refused": version})


def _same(one: str | None, other: str) -> bool:
    """Whether two names of versions, `<recipe>-<content>`, are of equal content."""
    return one is not None and one.split("-")[1:2] == other.split("-")[1:2]


def _write(lake: Lake, domain: str, said: dict[str, str | None]) -> None:
    kept = {key: value for key, value in said.items() if value}
    lake.replace(lake.place(ADAPTER, domain) / SERVED, json.dumps(kept) + "\n")
