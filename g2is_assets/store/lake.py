"""The lake's layout and its one way of writing: a version folder appears whole or not at all.

`<lake>/<stage>/<noun>/[<partition>/]<version>/` holds payload files and `manifest.json`; `current.json` beside the
versions names the one that readers follow. Nothing else writes below a stage, but the gradient store.
"""

import errno
import json
import math
import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from g2is_assets.contracts.contract import Contract
from g2is_assets.errors import ContractError, MissingInputError, StoreError
from g2is_assets.hashing import file_sha256
from g2is_assets.store.files import write_atomically, writing
from g2is_assets.store.manifest import (
    MANIFEST,
    PRUNED,
    Input,
    Manifest,
    contradiction,
    data_version,
    describe_files,
    git_revision,
    input_digest,
    library_versions,
    user_name,
)
from g2is_assets.store.manifest import read_manifest as _read_manifest
from g2is_assets.store.tombstones import expected_files

Metric = int | float | str


@dataclass(frozen=True)
class Version:
    """One materialised version of an asset."""

    folder: Path
    manifest: Manifest

    @property
    def as_input(self) -> Input:
        """How a downstream manifest names this version."""
        return Input(data_version=self.manifest.data_version, manifest_sha256=file_sha256(self.folder / MANIFEST))

    def table(self, name: str, contract: Contract) -> pl.DataFrame:
        """Read a table and hold it to its digest and its contract.

        Raises:
            StoreError: The file is missing, or its bytes are not those that were written.
            ContractError: It breaks the contract.
        """
        file = self.folder / f"{name}.parquet"
        table = read_parquet(file)
        record = expected_files(self.folder, self.manifest).get(file.name)
        if record is None or file_sha256(file) != record.sha256:
            raise StoreError(f"{file} is damaged: its digest differs from the manifest; materialise again")
        return contract.validate(table, where=str(self.folder))


class Draft:
    """A version being written: tables and files under a temporary name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics: dict[str, Metric] = {}
        self.n_rows: dict[str, int] = {}

    def table(self, name: str, contract: Contract, table: pl.DataFrame) -> None:
        """Write a table that keeps its contract.

        Raises:
            ContractError: It does not; then nothing of this version remains.
        """
        contract.validate(table).write_parquet(self.folder / f"{name}.parquet", compression="zstd")
        self.n_rows[name] = len(table)

    def metric(self, **values: Metric) -> None:
        """Record numbers for people: shown in the UI, kept in the manifest, no part of the data version.

        Raises:
            StoreError: A number is not finite, which JSON cannot hold.
        """
        bad = [name for name, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
        if bad:
            raise StoreError(f"metrics that are not finite: {', '.join(bad)}")
        self.metrics |= values


@dataclass(frozen=True)
class Recipe:
    """What determines a version: which asset, made by which code, with which settings, from which inputs.

    `follows_inputs = False` keeps changed inputs from making the version stale: it is remade on request only.
    `versions` are the inputs that are assets, for whoever follows the recipe to read: `inputs` only names them.
    """

    asset: str
    partition: str | None
    code_version: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Input] = field(default_factory=dict)
    follows_inputs: bool = True
    versions: Mapping[str, Version] = field(default_factory=dict, repr=False, compare=False)

    @property
    def input_digest(self) -> str:
        """SHA-256 of everything that the payload may depend on."""
        inputs = self.inputs if self.follows_inputs else {}
        return input_digest(self.asset, self.partition, self.code_version, self.settings, inputs)


class Lake:
    """All versions of all assets below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, asset: str, partition: str | None = None) -> Path:
        """The folder that holds an asset's versions."""
        return self.root.joinpath(*asset.split("/"), *([partition] if partition else []))

    def find(self, asset: str, partition: str | None = None) -> Version | None:
        """The current version, or None if there is none.

        Raises:
            StoreError: `current.json` is damaged or names a version that is not there, or was pruned.
        """
        pointer = self.place(asset, partition) / "current.json"
        if not pointer.exists():
            return None
        try:
            name = json.loads(pointer.read_text(encoding="utf-8"))["version"]
            folder = pointer.parent / Path(name).name
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{pointer} is damaged; delete it and materialise {asset} again") from error
        manifest = _read_manifest(folder)
        if (folder / PRUNED).exists():
            raise StoreError(f"{folder} was pruned; materialise {asset} again")
        return Version(folder, manifest)

    def current(self, asset: str, partition: str | None = None) -> Version:
        """The current version.

        Raises:
            MissingInputError: It has not been materialised.
        """
        version = self.find(asset, partition)
        if version is None:
            label = f"{asset}[{partition}]" if partition else asset
            raise MissingInputError(f"{label} has not been materialised in {self.root}; materialise it first")
        return version

    def find_whole(self, asset: str, data_version: str | None = None, partition: str | None = None) -> Version | None:
        """An asset's current version, or the one with that content, if its files are all there."""
        place = self.place(asset, partition)
        try:
            if data_version is None:
                current = self.find(asset, partition)
                return _whole_version(current.folder) if current else None
        except StoreError:
            return None  # damaged or pruned: as good as absent
        for folder in sorted(place.glob(f"*-{data_version[:12]}*")):
            with suppress(StoreError):  # another one may have been made in its place
                version = _whole_version(folder)
                if version.manifest.data_version == data_version:
                    return version
        return None

    def input_of(self, version: Version, asset: str, partition: str | None = None) -> Version:
        """The version of `asset` that a version was made from.

        Raises:
            StoreError: It is damaged or no longer kept whole.
        """
        found = self.find_whole(asset, version.manifest.inputs[asset].data_version, partition)
        if found is None:
            label = f"{version.manifest.asset}[{version.manifest.partition}]"
            raise StoreError(
                f"{label} was made from a version of {asset} that is no longer whole; materialise it again"
            )
        return found

    def make(
        self,
        recipe: Recipe,
        run_id: str,
        write: Callable[[Draft], None],
        *,
        force: bool = False,
        intact: Callable[[Version], bool] = lambda version: True,
    ) -> tuple[Version, bool]:
        """The version that a recipe describes, written if no whole one exists; and whether it was written.

        A version made earlier from equal inputs serves again, also when it is not the current one. On any failure the
        temporary folder is removed and the current version stays.

        Args:
            recipe: What determines the version.
            run_id: For the manifest.
            write: Computes and writes the payload.
            force: Write in any case.
            intact: Whether what an earlier version refers to outside its folder is whole, so that it may serve again.

        Raises:
            StoreError: The place cannot be written.
        """
        place = self.place(recipe.asset, recipe.partition)
        if not force and (version := self._reusable(place, recipe, intact)):
            self.point(place, version.folder.name)
            return version, False
        scratch = place / f".writing-{uuid.uuid4().hex}"
        with writing(place, "; the previous version is intact"):
            place.mkdir(parents=True, exist_ok=True)
            scratch.mkdir()
            try:
                draft = Draft(scratch)
                write(draft)
                version = self._commit(draft, recipe, run_id, place)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        return version, True

    def _reusable(self, place: Path, recipe: Recipe, intact: Callable[[Version], bool]) -> Version | None:
        try:
            current = self.find(recipe.asset, recipe.partition)
        except StoreError:
            current = None
        # The current version first: of several from equal inputs it is the one that was made on request.
        names = {current.folder.name: None} if current else {}
        names |= dict.fromkeys(sorted(folder.name for folder in place.glob(f"{recipe.input_digest[:12]}-*")))
        for name in names:
            try:
                version = _whole_version(place / name)
                if version.manifest.input_digest == recipe.input_digest and intact(version):
                    return version
            except (StoreError, ContractError):
                continue  # damaged or pruned: made again
        return None

    def _commit(self, draft: Draft, recipe: Recipe, run_id: str, place: Path) -> Version:
        files = describe_files(draft.folder)
        manifest = Manifest(
            asset=recipe.asset,
            partition=recipe.partition,
            data_version=data_version(files),
            input_digest=recipe.input_digest,
            code_version=recipe.code_version,
            settings=dict(recipe.settings),
            inputs=dict(recipe.inputs),
            files=files,
            n_rows=draft.n_rows,
            metrics=draft.metrics,
            run_id=run_id,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            made_by=user_name(),
            git_revision=git_revision(),
            libraries=library_versions(),
        )
        (draft.folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        name = f"{manifest.input_digest[:12]}-{manifest.data_version[:12]}"
        while True:
            taken = sorted(place.glob(f"{name}*"))
            for folder in taken:  # made with equal content by another process, or anew on request: that one stays
                try:
                    version = _whole_version(folder)
                except StoreError:
                    continue
                self.point(place, folder.name)
                return version
            final = place / (f"{name}-{uuid.uuid4().hex[:6]}" if taken else name)
            try:
                draft.folder.rename(final)
                break
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise  # else another process was quicker by a moment: look at what it made
        self.point(place, final.name)
        for old in taken:  # damaged ones; only now, so that there is a current version at every moment
            _retire(old)
        return Version(final, manifest)

    def point(self, place: Path, version: str) -> None:
        """Make a version the one that readers follow."""
        pointer, text = place / "current.json", json.dumps({"version": version}) + "\n"
        if not pointer.exists() or pointer.read_bytes() != text.encode():
            write_atomically(pointer, text)


def _whole_version(folder: Path) -> Version:
    """The version in a folder, if its manifest agrees with itself and its files are those of its manifest."""
    version = Version(folder, _read_manifest(folder))
    if (folder / PRUNED).exists():
        raise StoreError(f"{folder} was pruned; materialise the asset again")
    if fault := contradiction(version.manifest):
        raise StoreError(f"{folder / MANIFEST} was altered: {fault}; materialise the asset again")
    if describe_files(folder) != expected_files(folder, version.manifest):
        raise StoreError(f"{folder} differs from its manifest; materialise the asset again")
    return version


def _retire(folder: Path) -> None:
    """Prune a damaged version that was made again; without a manifest that can be read, all of it goes."""
    from g2is_assets.store.pruning import prune_damaged  # that module reads versions, so it imports this one

    if (folder / PRUNED).exists():
        return
    try:
        with suppress(OSError):  # another process is at it, or the disk refuses: the next collection goes on from there
            prune_damaged(Version(folder, _read_manifest(folder)))
    except StoreError:
        shutil.rmtree(folder, ignore_errors=True)


def read_parquet(path: Path, columns: list[str] | None = None, n_rows: int | None = None) -> pl.DataFrame:
    """Read one of the lake's Parquet files.

    Raises:
        StoreError: It is missing, truncated or not Parquet.
    """
    try:
        return pl.read_parquet(path, columns=columns, n_rows=n_rows, glob=False, memory_map=False)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise StoreError(f"{path} is missing or damaged: {reason}; materialise the asset again") from error
