"""The lake's layout and its one way of writing: a version folder appears whole or not at all.

`<lake>/<stage>/<noun>/[<partition>/]<version>/` holds payload files and `manifest.json`; `current.json` beside the
versions names the one that readers follow. Versions that are parts of others have no such pointer. Nothing else
writes below a stage.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Final

from g2is_assets.contracts.tables import is_part
from g2is_assets.errors import ContractError, MissingInputError, StoreError, command
from g2is_assets.hashing import file_sha256, known_json, load_known, moved
from g2is_assets.store.backend import Backend, LocalBackend
from g2is_assets.store.files import open_as_umask, write_atomically, writing
from g2is_assets.store.manifest import (
    MANIFEST,
    PRUNED,
    Manifest,
    data_version,
    describe_files,
    git_revision,
    known_contradiction,
    library_versions,
    user_name,
)
from g2is_assets.store.manifest import read_manifest as _read_manifest
from g2is_assets.store.pruning import prune_damaged
from g2is_assets.store.tombstones import expected_files
from g2is_assets.store.version import Draft, Recipe, Version, asset_of, partition_of

LAYOUT: Final = "4"
"""Of folders and files of a lake: raised when lakes made before can no longer be read."""
LAYOUT_FILE: Final = ".layout"
KNOWN_FILE: Final = ".hashes.json"
"""Digests of files with the state in which they were hashed; may be deleted at any time."""


Turn = Callable[[], AbstractContextManager[bool | None]]
"""A turn with something that is scarce; whoever enters is told whether they had to wait."""


class Lake:
    """All versions of all assets below one folder."""

    def __init__(self, root: Path) -> None:
        """Open a lake, or one to be made.

        Raises:
            StoreError: It was made by a version of this project that laid lakes out otherwise.
        """
        self.root = root
        self.backend: Backend = LocalBackend(root)
        load_known(root / KNOWN_FILE)
        marker = root / LAYOUT_FILE
        said = marker.read_text(encoding="utf-8").strip() if marker.is_file() else None
        if said != LAYOUT and (said or any(root.glob("*/*/current.json")) or any(root.glob("*/*/*/current.json"))):
            raise StoreError(
                f"{root} was laid out by another version of this project, which this one does not read; delete it, or "
                "set G2IS_HOME to another place, and refresh"
            )

    def keep_hashes(self) -> None:
        """Let the next process know which files were hashed in which state."""
        if self.root.is_dir():
            write_atomically(self.root / KNOWN_FILE, known_json())

    def key(self, path: Path) -> str:
        """What the backend calls a path of the lake."""
        return path.relative_to(self.root).as_posix()

    def place(self, asset: str, partition: str | None = None) -> Path:
        """The folder that holds an asset's versions."""
        return self.backend.get(f"{asset}/{partition}" if partition else asset)

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
            scope = f"--domain {partition}" if partition else "--pool"
            how = "run its study" if asset.startswith("study/") else command(f"refresh {scope}")
            raise MissingInputError(f"{label} has not been materialised in {self.root}; first {how}")
        return version

    def find_whole(self, name: str, data_version: str | None = None, partition: str | None = None) -> Version | None:
        """An asset's current version, or the newest with that content, if it is whole.

        Args:
            name: The asset, or as an input is named: with a table behind it, whose content alone counts.
            data_version: The content; None is what is current.
            partition: Of the asset.
        """
        asset, place = asset_of(name), self.place(asset_of(name), partition)
        with suppress(StoreError):  # damaged or pruned: as good as absent
            current = self.find(asset, partition)
            if current and data_version in (None, current.as_input_of(name).data_version):
                return self.whole(current.folder)
        if data_version is None:
            return None
        found = place.glob("[!.]*-*" if name != asset else f"*-{data_version[:12]}*")
        for folder in sorted(found, key=lambda folder: -folder.stat().st_mtime_ns):
            with suppress(StoreError):  # another one may have been made in its place
                version = self.whole(folder)
                if version.as_input_of(name).data_version == data_version:
                    return version
        return None

    def whole(self, folder: Path) -> Version:
        """The version in a folder, if its manifest agrees with itself, and its files and parts are all there.

        Raises:
            StoreError: They are not, or it was pruned.
        """
        version = Version(folder, _read_manifest(folder))
        if (folder / PRUNED).exists():
            raise StoreError(f"{folder} was pruned; materialise the asset again")
        if fault := known_contradiction(folder):
            raise StoreError(f"{folder / MANIFEST} was altered: {fault}; materialise the asset again")
        if describe_files(folder) != expected_files(folder, version.manifest):
            raise StoreError(f"{folder} differs from its manifest; materialise the asset again")
        self.parts_of(version)
        return version

    def parts_of(self, version: Version) -> dict[str, Version]:
        """The versions that a version is made of, by name.

        Raises:
            StoreError: One is no longer whole.
        """
        parts = {}
        for name, said in version.manifest.parts.items():
            part = self.find_part(name, said.data_version)
            if part is None:
                raise StoreError(f"{version.folder} is made of {name}, which is missing or damaged; materialise again")
            parts[part.name] = part
        return parts

    def find_part(self, name: str, data_version: str) -> Version | None:
        """The whole version that a manifest names as a part, or one of that content made in its place."""
        place, content = self.place(asset_of(name), partition_of(name)), name.partition("[")[0].rpartition("/")[2]
        # Many stand there, so they are listed only where the one of that very name is not whole.
        for folder in chain([place / content], place.glob(f"{content}-*")):
            with suppress(StoreError):
                version = self.whole(folder)
                if version.manifest.data_version == data_version:
                    return version
        return None

    def input_of(self, version: Version, asset: str, partition: str | None = None) -> Version:
        """The version of `asset`, or of a table of it as the manifest names it, that a version was made from.

        Raises:
            StoreError: It is damaged or no longer kept whole.
        """
        name = next(name for name in version.manifest.inputs if asset in (name, asset_of(name)))
        found = self.find_whole(name, version.manifest.inputs[name].data_version, partition)
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
        turn: Turn = nullcontext,
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
            turn: Entered where there is work to do; it says whether others worked meanwhile.

        Raises:
            StoreError: The place cannot be written.
        """

        def serving_again() -> Version | None:
            version = None if force else self.find_made(recipe, intact)
            if version:
                self.point(version.folder)
            return version

        if version := serving_again():
            return version, False
        with turn() as waited:
            # Whoever waited may find that the one before made this very version.
            if waited and (version := serving_again()):
                return version, False
            return self._write(recipe, run_id, write), True

    def _write(self, recipe: Recipe, run_id: str, write: Callable[[Draft], None]) -> Version:
        place = self.place(recipe.asset, recipe.partition)
        scratch = place / f".writing-{uuid.uuid4().hex}"
        with writing(place, "; the previous version is intact"):
            place.mkdir(parents=True, exist_ok=True)
            if not (self.root / LAYOUT_FILE).exists():
                write_atomically(self.root / LAYOUT_FILE, f"{LAYOUT}\n")
            scratch.mkdir()
            try:
                draft = Draft(scratch, run_id)
                write(draft)
                return self._commit(draft, recipe, place)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    def find_made(self, recipe: Recipe, intact: Callable[[Version], bool] = lambda version: True) -> Version | None:
        """The whole version that was made earlier from equal inputs, if there is one."""
        place = self.place(recipe.asset, recipe.partition)
        try:
            current = self.find(recipe.asset, recipe.partition)
        except StoreError:
            current = None
        # The current version first: of several from equal inputs it is the one that was made on request.
        names = {current.folder.name: None} if current else {}
        names |= dict.fromkeys(sorted(folder.name for folder in place.glob(f"{recipe.input_digest[:12]}-*")))
        for name in names:
            try:
                version = self.whole(place / name)
                if version.manifest.input_digest == recipe.input_digest and intact(version):
                    return version
            except (StoreError, ContractError):
                continue  # damaged or pruned: made again
        return None

    def _commit(self, draft: Draft, recipe: Recipe, place: Path) -> Version:
        open_as_umask(draft.folder)
        files = describe_files(draft.folder)
        manifest = Manifest(
            asset=recipe.asset,
            partition=recipe.partition,
            data_version=data_version(files, draft.parts),
            input_digest=recipe.input_digest,
            code_version=recipe.code_version,
            settings=dict(recipe.settings),
            inputs=dict(recipe.inputs),
            files=files,
            n_rows=draft.n_rows,
            metrics=draft.metrics,
            run_id=draft.run_id,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            made_by=user_name(),
            git_revision=git_revision(),
            libraries=library_versions(),
            parts=dict(sorted(draft.parts.items())),
        )
        (draft.folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        name = Version(draft.folder, manifest).name
        while True:
            taken = sorted(place.glob(f"{name}*"))
            for folder in taken:  # made with equal content by another process, or anew on request: that one stays
                try:
                    version = self.whole(folder)
                except StoreError:
                    continue
                self.point(folder)
                return version
            final = place / (f"{name}-{uuid.uuid4().hex[:6]}" if taken else name)
            if self.backend.put_if_absent(self.key(final), draft.folder):
                break  # else another process was quicker by a moment: look at what it made
        for file in files:
            moved(draft.folder / file, final / file)
        self.point(final)
        for old in taken:  # damaged ones; only now, so that there is a current version at every moment
            self.retire(old)
        return Version(final, manifest)

    def point(self, version: Path) -> None:
        """Make the version in a folder the one that readers follow; of parts of other versions there is none."""
        if not is_part(asset_of(self.key(version))):
            self.replace(version.parent / "current.json", json.dumps({"version": version.name}) + "\n")

    def replace(self, file: Path, text: str) -> None:
        """Let a file that tells which of several things counts say this from now on; the last writer wins."""
        content = text.encode()
        wanted = hashlib.sha256(content).hexdigest()
        with writing(file):
            while (found := file_sha256(file) if file.is_file() else None) != wanted:
                if self.backend.swap(self.key(file), found, content):
                    return

    def retire(self, folder: Path) -> None:
        """Prune a damaged version, made again or of no use; without a manifest that can be read, all of it goes."""
        if (folder / PRUNED).exists():
            return
        try:
            manifest = _read_manifest(folder)
        except StoreError as error:
            if not isinstance(error.__cause__, OSError) or isinstance(error.__cause__, FileNotFoundError):
                shutil.rmtree(folder, ignore_errors=True)
            return
        # Another process is at it, or the disk refuses, which is no reason to lose a manifest: others may name it.
        with suppress(OSError, StoreError):
            prune_damaged(folder, manifest)
