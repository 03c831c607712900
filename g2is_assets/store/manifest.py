"""The manifest: what a version is made of, from what, by which code; one JSON file, written last."""

import getpass
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from g2is_assets.contracts.contract import Contract
from g2is_assets.contracts.tables import contract_of
from g2is_assets.errors import StoreError
from g2is_assets.hashing import json_sha256, known_sha256

MANIFEST: Final = "manifest.json"
PRUNED: Final = "pruned.json"
"""Beside the manifest of a version whose payload was removed on purpose."""

ERASED: Final = "erased.json"
"""Beside the manifest of a version from which rows were erased; see `store.tombstones`."""

PICTURES: Final = ".pictures.json"
"""Beside the manifest: what was drawn of the version, which may be deleted and is drawn again."""

ERASING: Final = "erasing.json"
"""The same while an erasure is under way."""

PACKAGE: Final = "g2is_assets"
LIBRARIES: Final = ("dagster", "numpy", "peft", "polars", "safetensors", "scipy", "torch", "transformers")


class Input(BaseModel):
    """One input of a version: an upstream asset, a file or a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_version: str
    manifest_sha256: str | None = None


PartName = Annotated[str, Field(pattern=r"^\w+/\w+/[0-9a-f]{12}-[0-9a-f]{12}\[[\w.]+\]$")]
"""Asset, name and partition of a version."""


class FileRecord(BaseModel):
    """Size and digest of one payload file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    n_bytes: int


class Manifest(BaseModel):
    """Everything there is to know about one version of one asset.

    `data_version` is the digest of the payload's content; `input_digest`, of code version, resolved settings and the
    inputs' data versions, alone decides whether work may be skipped. Times, the run id and who ran it enter neither.
    Where no work was done, but the manifest of an input was lost, `relinked_from` is the digest of the manifest before.
    `parts` are versions that came into being with this one and that it is made of, each a `Version.part_name`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    asset: str
    partition: str | None
    data_version: str
    input_digest: str
    code_version: str
    settings: dict[str, Any]
    inputs: dict[str, Input]
    files: dict[str, FileRecord]
    n_rows: dict[str, int]
    metrics: dict[str, int | float | str]
    run_id: str
    created_at: str
    made_by: str = "unknown"
    git_revision: str
    libraries: dict[str, str]
    relinked_from: str | None = None
    parts: dict[PartName, Input] = {}

    @property
    def tables(self) -> list[Contract]:
        """The contracts of its tables, by file name.

        Raises:
            StoreError: This version of the project does not know one of them.
        """
        names = (file.removesuffix(".parquet") for file in sorted(self.files) if file.endswith(".parquet"))
        return [contract_of(self.asset, name) for name in names]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a version folder.

    Raises:
        StoreError: It is missing, not JSON, or not a manifest.
    """
    file = folder / MANIFEST
    try:
        return _parsed(*_state(file))
    except (OSError, ValueError, ValidationError) as error:
        raise StoreError(
            f"{file} is missing or damaged ({type(error).__name__}); materialise the asset again"
        ) from error


def known_contradiction(folder: Path) -> str | None:
    """`contradiction` of a manifest that can be read, not looked for again in a file that is as it was."""
    return _contradiction(*_state(folder / MANIFEST))


def _state(file: Path) -> tuple[Path, tuple[int, ...]]:
    stat = file.stat()
    return file, (stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=16384)
def _contradiction(file: Path, state: tuple[int, ...]) -> str | None:
    return contradiction(_parsed(file, state))


@lru_cache(maxsize=16384)
def _parsed(file: Path, _state: tuple[int, ...]) -> Manifest:
    return Manifest.model_validate(json.loads(file.read_text(encoding="utf-8")))


def data_version(files: Mapping[str, FileRecord], parts: Mapping[str, Input]) -> str:
    """SHA-256 of a payload's content, and of the content of the versions that it is made of."""
    content = {name: record.sha256 for name, record in files.items()}
    return json_sha256(content | {name: part.data_version for name, part in parts.items()})


def input_digest(
    asset: str, partition: str | None, code_version: str, settings: Mapping[str, Any], inputs: Mapping[str, Input]
) -> str:
    """SHA-256 of everything that a payload may depend on."""
    versions = {name: value.data_version for name, value in inputs.items()}
    return json_sha256([asset, partition, code_version, dict(settings), versions])


def contradiction(manifest: Manifest) -> str | None:
    """In what a manifest disagrees with itself; None if it does not."""
    if manifest.data_version != data_version(manifest.files, manifest.parts):
        return "its data version is not that of its files"
    same = (manifest.asset, manifest.partition, manifest.code_version, manifest.settings)
    if manifest.input_digest not in (input_digest(*same, manifest.inputs), input_digest(*same, {})):
        return "its input digest is not that of its settings and inputs"
    return None


def describe_files(folder: Path) -> dict[str, FileRecord]:
    """Size and digest of every payload file below a folder, by relative path."""
    records = {folder / name for name in (MANIFEST, ERASED, ERASING, PICTURES)}
    return {
        file.relative_to(folder).as_posix(): FileRecord(sha256=known_sha256(file), n_bytes=file.stat().st_size)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file not in records
    }


def describe_bytes(content: bytes) -> FileRecord:
    """Size and digest of a file with this content."""
    return FileRecord(sha256=hashlib.sha256(content).hexdigest(), n_bytes=len(content))


@lru_cache
def library_versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries that determine results."""
    found = {name: importlib.metadata.version(name) for name in (PACKAGE, *LIBRARIES)}
    return {"python": platform.python_version()} | found


@lru_cache
def user_name() -> str:
    """The system's name of whoever runs this process, or `unknown` where it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


@lru_cache
def git_revision() -> str:
    """Commit of this project's checkout, `+changes` behind it if the package differs, or `unknown` outside of one."""
    package = Path(__file__).parents[1]
    run = partial(subprocess.run, cwd=package, capture_output=True, text=True, check=True)
    try:
        head, dirty = run(["git", "rev-parse", "HEAD"]).stdout, run(["git", "status", "--porcelain", "."]).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.strip() + ("+changes" if dirty.strip() else "")
