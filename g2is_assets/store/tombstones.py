"""Tombstones: the record of rows erased from a version whose manifest, by design, never changes.

`erased.json` beside the manifest lists every erasure: when, why, which rows, and of each rewritten file the record
before and after. While one is under way, `erasing.json` holds the same list with the new entry last; each of that
entry's files may then still be the old one. Renaming it to `erased.json` completes the erasure.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from g2is_assets.errors import StoreError
from g2is_assets.hashing import file_sha256
from g2is_assets.store.manifest import ERASED, ERASING, FileRecord, Manifest


class Change(BaseModel):
    """One rewritten file: its record before and after."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    old: FileRecord
    new: FileRecord


class Tombstone(BaseModel):
    """One erasure in one version.

    Attributes:
        erased_at: When, UTC.
        reason: Why, as the person said who asked for it.
        rows: Row ids whose text, or whose vectors behind it, are gone.
        files: The rewritten files by relative path.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    erased_at: str
    reason: str
    rows: list[str]
    files: dict[str, Change]


def read_tombstones(folder: Path) -> list[Tombstone]:
    """The completed erasures of a version, the oldest first; an empty list for most.

    Raises:
        StoreError: `erased.json` is damaged.
    """
    return _read(folder / ERASED)


def read_pending(folder: Path) -> Tombstone | None:
    """The erasure of a version that was begun and not completed, if there is one.

    Raises:
        StoreError: `erasing.json` is damaged.
    """
    listed = _read(folder / ERASING)
    return listed[-1] if listed else None


def erased_rows(folder: Path) -> set[str]:
    """Rows of which a version has lost text or vectors, or is just losing them.

    Raises:
        StoreError: A tombstone is damaged.
    """
    pending = read_pending(folder)
    return {row for entry in [*read_tombstones(folder), *([pending] if pending else [])] for row in entry.rows}


def expected_files(folder: Path, manifest: Manifest) -> dict[str, FileRecord]:
    """The payload files that a version must have: its manifest's, with tombstones applied.

    Of an erasure under way, a file that has been rewritten is expected so, and any other as it was.

    Raises:
        StoreError: A tombstone is damaged, or does not follow from the record before it.
    """
    expected = completed_files(folder, manifest)
    pending = read_pending(folder)
    for name, change in pending.files.items() if pending else ():
        _follows(folder / ERASING, name, change, expected)
        file = folder / name
        if file.is_file() and file_sha256(file) == change.new.sha256:
            expected[name] = change.new
    return expected


def completed_files(folder: Path, manifest: Manifest) -> dict[str, FileRecord]:
    """The manifest's files with completed erasures applied.

    Raises:
        StoreError: `erased.json` is damaged, or an entry does not follow from the record before it.
    """
    expected = dict(manifest.files)
    for tombstone in read_tombstones(folder):
        for name, change in tombstone.files.items():
            _follows(folder / ERASED, name, change, expected)
            expected[name] = change.new
    return expected


def as_json(tombstones: Sequence[Tombstone]) -> str:
    """What `erased.json` says of them."""
    return json.dumps([entry.model_dump(mode="json") for entry in tombstones], indent=2) + "\n"


def _follows(file: Path, name: str, change: Change, expected: dict[str, FileRecord]) -> None:
    if expected.get(name) != change.old:
        raise StoreError(f"{file}: {name} was another file before; restore it from a backup")


def _read(file: Path) -> list[Tombstone]:
    try:
        listed: Any = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(listed, list) or not listed:
            raise ValueError("a list of erasures is needed")
        return [Tombstone.model_validate(entry) for entry in listed]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, ValidationError) as error:
        raise StoreError(f"{file} is damaged ({type(error).__name__}); restore it from a backup") from error
