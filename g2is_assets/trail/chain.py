"""The Merkle chain: from a version through its manifest to every version behind it, back to the source files.

A manifest names its inputs by the digests of their manifests, so whoever knows the digest of an adapter's manifest can
tell whether anything behind it was changed. This module follows the names; `verify.py` recomputes the digests.
"""

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from g2is_assets.contracts.contract import Contract
from g2is_assets.errors import StoreError
from g2is_assets.hashing import known_sha256
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import MANIFEST, PRUNED, Input, read_manifest, user_name
from g2is_assets.store.pruning import ROW_IDS, read_pruned
from g2is_assets.store.version import Recipe, Version, asset_of, partition_of


@dataclass(frozen=True)
class Link:
    """One version of the chain, as the versions that were made from it name it.

    Attributes:
        asset: The asset.
        said: Data version and manifest digest, as named.
        version: The version with that manifest; None if the lake has none: there the chain is broken.
        place: Its folder; where there is none, the folder of the asset's versions.
        depth: Steps from the head, the shortest way.
        named_by: Label of the version that names it; empty for a head.
    """

    asset: str
    said: Input
    version: Version | None
    place: Path
    depth: int
    named_by: str

    @property
    def label(self) -> str:
        """Asset and partition, as people write them."""
        return label_of(self.version) if self.version else self.asset


def label_of(version: Version) -> str:
    """Asset and partition of a version, such as `selection/subset[math]`."""
    manifest = version.manifest
    return f"{manifest.asset}[{manifest.partition}]" if manifest.partition else manifest.asset


class Manifests:
    """Finds versions by the digest of their manifest; every manifest of an asset is read at most once."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._known: dict[Path, dict[str, list[Path]]] = {}

    def find(self, asset: str, manifest_sha256: str, partition: str | None) -> Version | None:
        """The version of an asset, of this partition or unpartitioned, whose manifest has the digest.

        Args:
            asset: The asset, as a manifest names it: with its partition in brackets where several of them are named.
            manifest_sha256: The digest.
            partition: Of the version that was made from it. A variant of a study, `<domain>.<study>.<variant>`, was
                also made from what its domain has.
        """
        for folder in self.folders(asset, manifest_sha256, partition):
            manifest = read_manifest(folder)
            if folder.parent == self.lake.place(manifest.asset, manifest.partition):
                return Version(folder, manifest)
        return None

    def folders(self, asset: str, manifest_sha256: str, partition: str | None) -> list[Path]:
        """Every folder with that manifest, by the same arguments; more than one if somebody copied a version."""
        own, asset = partition_of(asset), asset_of(asset)
        domain = partition.split(".")[0] if partition else None
        partitions = [own] if own else [partition, domain, None]
        places = dict.fromkeys(self.lake.place(asset, name) for name in partitions)
        return [folder for place in places for folder in self._of(place).get(manifest_sha256, [])]

    def _of(self, place: Path) -> dict[str, list[Path]]:
        if place not in self._known:
            known = self._known[place] = {}
            # Hidden folders are scratch: of a mending that was killed, with the manifest that it was to replace.
            for file in sorted(place.glob(f"[!.]*/{MANIFEST}")) if place.is_dir() else []:
                known.setdefault(known_sha256(file), []).append(file.parent)
        return self._known[place]


def follow(
    lake: Lake, heads: Sequence[Version], manifests: Manifests | None = None, *, parts: bool = False
) -> list[Link]:
    """Every version behind these, themselves included, the nearest first; each once.

    Args:
        lake: The lake.
        heads: Where to start.
        manifests: An index of the lake's manifests that was used before, to read each only once.
        parts: Whether what they are made of is followed too, for whoever verifies: shards can be many.
    """
    manifests = manifests or Manifests(lake)
    found: dict[tuple[str, str | None], Link] = {}
    level = [Link(head.manifest.asset, head.as_input, head, head.folder, 0, "") for head in heads]
    while level:
        fresh = {(link.asset, link.said.manifest_sha256): link for link in level}
        fresh = {key: link for key, link in fresh.items() if key not in found}
        found |= fresh
        level = [link for above in fresh.values() if above.version for link in _behind(manifests, above, parts)]
    return list(found.values())


def _behind(manifests: Manifests, above: Link, parts: bool) -> Iterator[Link]:
    assert above.version is not None
    manifest = above.version.manifest
    for asset, said in sorted((manifest.inputs | (manifest.parts if parts else {})).items()):
        if said.manifest_sha256 is None:  # a file or a model
            continue
        version = manifests.find(asset, said.manifest_sha256, manifest.partition)
        place = version.folder if version else manifests.lake.place(asset_of(asset))
        yield Link(version.manifest.asset if version else asset, said, version, place, above.depth + 1, above.label)


def content_of(lake: Lake, version: Version) -> Path:
    """The folder to read a version's tables from: its own, or that of the version made in its place after damage."""
    if not _was_damaged(version.folder):
        return version.folder
    manifest = version.manifest
    whole = lake.find_whole(manifest.asset, manifest.data_version, manifest.partition)
    if whole:
        return whole.folder
    # The one in its place may have grown old and been pruned since: what stays of it serves.
    for file in sorted(version.folder.parent.glob(f"*-{manifest.data_version[:12]}*/{MANIFEST}")):
        same = read_manifest(file.parent).data_version == manifest.data_version
        if same and (file.parent / PRUNED).exists() and not _was_damaged(file.parent):
            return file.parent
    return version.folder


def _was_damaged(folder: Path) -> bool:
    """Whether a version was pruned because it was damaged, so that no row ids of it stand."""
    record = read_pruned(folder)
    return record is not None and record.reason is not None


def rows_file(lake: Lake, version: Version, contract: Contract) -> Path:
    """The file that tells a table's rows, their sources and licences: itself or, if pruned, the list that stays."""
    place = content_of(lake, version)
    pruned = not (place / contract.file).exists() and (place / PRUNED).exists()
    return place / (ROW_IDS if pruned else contract.file)


def nearest(chain: Sequence[Link]) -> dict[str, Link]:
    """The link nearest to the head, by asset: an older pool may stand behind the warmup sample."""
    return {link.asset: link for link in reversed(chain)}


def mend(lake: Lake, version: Version, recipe: Recipe, run_id: str) -> Version:
    """The version itself, or its copy under a new manifest where the old one leads to manifests that are gone.

    A manifest that was lost or changed breaks the chains of all versions made from it. Where the lake now has a version
    of equal content in its place, whatever was made from it needs no work, but a manifest that names the new one.
    """
    manifests = Manifests(lake)
    before = version.manifest

    def mended(named: Mapping[str, Input], today: Mapping[str, Input]) -> dict[str, Input]:
        new = dict(named)
        for name, said in named.items():
            now = today.get(name)
            if not now or not now.manifest_sha256 or said == now or said.data_version != now.data_version:
                continue
            found = manifests.find(name, str(said.manifest_sha256), recipe.partition)
            if found is None or any(link.version is None for link in follow(lake, [found], manifests, parts=True)):
                new[name] = now
        return new

    inputs = mended(before.inputs, recipe.inputs)
    parts = mended(before.parts, {part.part_name: part.as_input for part in lake.parts_of(version).values()})
    if (inputs, parts) == (before.inputs, before.parts):
        return version
    place = version.folder.parent
    scratch = place / f".writing-{uuid.uuid4().hex}"
    try:
        shutil.copytree(version.folder, scratch)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        stamp = {"run_id": run_id, "created_at": made, "made_by": user_name()}
        links = {"inputs": inputs, "parts": parts, "relinked_from": version.as_input.manifest_sha256}
        manifest = before.model_copy(update=links | stamp)
        (scratch / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        final = place / f"{version.name}-{scratch.name[-6:]}"
        lake.backend.put_if_absent(lake.key(final), scratch)
    except OSError as error:
        raise StoreError(f"{place} cannot be written: {error}; free space or set G2IS_HOME to another place") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    lake.point(final)
    return Version(final, manifest)


def version_at(path: Path) -> tuple[Lake, Version]:
    """The version that a folder or file belongs to, and its lake.

    Raises:
        StoreError: There is no manifest at or above the path.
    """
    path = path.resolve()
    folder = next((place for place in (path, *path.parents) if (place / MANIFEST).is_file()), None)
    if folder is None:
        raise StoreError(f"{path} belongs to no version: neither there nor above is a {MANIFEST}")
    manifest = read_manifest(folder)
    depth = len(manifest.asset.split("/")) + (1 if manifest.partition else 0)
    return Lake(folder.parents[depth]), Version(folder, manifest)
