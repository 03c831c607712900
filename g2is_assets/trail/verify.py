"""Recompute every digest behind a version and say what differs; nothing is trusted but the head's digest."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np

from g2is_assets.contracts.audit import ERASED_PAGE, PAGE
from g2is_assets.contracts.tables import is_part, tables_of
from g2is_assets.errors import ContractError, StoreError
from g2is_assets.hashing import known_sha256
from g2is_assets.store.features import copies_of, vectors_in
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import (
    ERASED,
    ERASING,
    MANIFEST,
    PRUNED,
    FileRecord,
    contradiction,
    describe_bytes,
    describe_files,
    read_manifest,
)
from g2is_assets.store.pruning import ROW_IDS, read_pruned, staying_files
from g2is_assets.store.tombstones import expected_files, read_pending, read_tombstones
from g2is_assets.store.version import Version
from g2is_assets.trail.chain import Link, Manifests, label_of

State = Literal["altered", "erased", "pruned", "relinked", "unverified", "unwitnessed"]
Today = Callable[[Version], Mapping[str, str | None] | str]
"""Digests of files and models behind a version whose content is current, as they are now, by input name; None of what
lies behind a URI. Or why they cannot be told."""

ALTERED: Final[State] = "altered"
STATES: Final[tuple[State, ...]] = get_args(State)


@dataclass(frozen=True)
class Finding:
    """Something to know about one part of a chain.

    Attributes:
        state: `altered` breaks the chain; `erased` and `pruned` were done on purpose and recorded; after `relinked` a
            refresh went on from a broken chain; `unverified` could not be looked at; `unwitnessed`: nobody but the
            head itself tells the head's digest.
        where: The file or folder.
        what: In words.
    """

    state: State
    where: str
    what: str


def verify(lake: Lake, chain: list[Link], today: Today) -> list[Finding]:
    """All findings along a chain, the nearest to its head first; a whole chain may have none.

    Args:
        lake: Where the chain lies.
        chain: As `chain.follow` returns it.
        today: Digests of the files and models behind a version whose content is its asset's current one.
    """
    manifests = Manifests(lake)
    return [finding for link in chain for finding in _link(manifests, link, today)]


def _link(manifests: Manifests, link: Link, today: Today) -> Iterator[Finding]:
    lake, version = manifests.lake, link.version
    if version is None:
        yield _broken(link)
        return
    yield from _manifest(manifests, version)
    try:
        yield from _payload(version)
        if is_part(version.manifest.asset):
            pruned = (version.folder / PRUNED).exists()
            yield from _in_its_place(version) if pruned else _copies(version)
    except (StoreError, ContractError) as error:
        yield Finding(ALTERED, str(version.folder), str(error))
    yield from _outside(lake, version, today)


def _broken(link: Link) -> Finding:
    """The manifest that was named is not there: altered, if a version of that content stands, else deleted."""
    named, content = str(link.said.manifest_sha256), link.said.data_version[:12]
    folders = [*link.place.glob(f"*-{content}*"), *link.place.glob(f"[!.]*/*-{content}*")]
    for folder in sorted(folders):
        if (folder / MANIFEST).is_file():
            digest = known_sha256(folder / MANIFEST)
            what = f"its digest is {digest[:12]}, {link.named_by} names {named[:12]}"
            return Finding(ALTERED, str(folder / MANIFEST), what)
    what = f"{link.named_by} names a manifest {named[:12]} of {link.asset}, which is not in the lake"
    return Finding(ALTERED, str(link.place), what)


def _manifest(manifests: Manifests, version: Version) -> Iterator[Finding]:
    """Whether a manifest agrees with itself, which matters for a head without a witness, and stands only once."""
    manifest, file = version.manifest, str(version.folder / MANIFEST)
    if fault := contradiction(manifest):
        yield Finding(ALTERED, file, fault)
    if manifest.relinked_from:
        when = f"on {manifest.created_at} by {manifest.made_by}"
        what = f"written {when} in place of {manifest.relinked_from[:12]}, behind which a manifest was lost or altered"
        yield Finding("relinked", file, what)
    digest = str(version.as_input.manifest_sha256)
    for copy in manifests.folders(manifest.asset, digest, manifest.partition):
        if copy != version.folder:
            what = f"a copy of {version.folder.name}: which of the two is read cannot be told; move it out of the lake"
            yield Finding(ALTERED, str(copy), what)


def _payload(version: Version) -> Iterator[Finding]:
    folder = version.folder
    pruned = read_pruned(folder)
    wanted, found = dict(expected_files(folder, version.manifest)), describe_files(folder)
    rewritten = {PAGE, *(contract.file for contract in tables_of(version.manifest.asset) if contract.texts)}
    pending = read_pending(folder)
    for tombstone in [*read_tombstones(folder), *([pending] if pending else [])]:
        rows, begun = ", ".join(row[:12] for row in tombstone.rows), tombstone is pending
        state = " and not finished; erase the same rows again" if begun else ""
        yield Finding("erased", str(folder), f"{rows} on {tombstone.erased_at} ({tombstone.reason}){state}")
        for name in sorted(tombstone.files.keys() - rewritten):
            yield Finding(ALTERED, str(folder / (ERASING if begun else ERASED)), f"no erasure rewrites {name}")
        if PAGE in tombstone.files and tombstone.files[PAGE].new != describe_bytes(ERASED_PAGE):
            yield Finding(ALTERED, str(folder / (ERASING if begun else ERASED)), f"no erasure leaves such a {PAGE}")
    if pruned:
        why = pruned.reason or "of old; its row ids stand"
        yield Finding("pruned", str(folder), f"its payload was removed on {pruned.pruned_at} ({why})")
        found.pop(PRUNED, None)
        stays = staying_files(version.manifest.asset) if pruned.reason is None else set()
        for name, record in pruned.removed.items():
            if name in stays:
                yield Finding(ALTERED, str(folder / PRUNED), f"it says that {name} was removed, which always stays")
            if wanted.pop(name, None) != record:
                yield Finding(ALTERED, str(folder / PRUNED), f"it names {name} otherwise than the manifest")
        if pruned.row_ids:
            wanted[ROW_IDS] = pruned.row_ids
    yield from _differences(folder, wanted, found)


def _differences(folder: Path, wanted: Mapping[str, FileRecord], found: Mapping[str, FileRecord]) -> Iterator[Finding]:
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            yield Finding(ALTERED, str(folder / name), "it is missing")
        elif name not in wanted:
            yield Finding(ALTERED, str(folder / name), "the manifest knows of no such file")
        elif found[name] != wanted[name]:
            what = f"its digest is {found[name].sha256[:12]}, the manifest says {wanted[name].sha256[:12]}"
            yield Finding(ALTERED, str(folder / name), what)


def _in_its_place(part: Version) -> Iterator[Finding]:
    """What was made in place of a damaged part bears no name in the chain, and yet is what readers get."""
    for folder in sorted(part.folder.parent.glob(f"{part.name}*")):
        if folder != part.folder and not (folder / PRUNED).exists():
            other = Version(folder, read_manifest(folder))
            if fault := contradiction(other.manifest):
                yield Finding(ALTERED, str(folder / MANIFEST), fault)
            yield from _payload(other)
            yield from _copies(other)


def _copies(shard: Version) -> Iterator[Finding]:
    """Graph and walk read the mapped copies, so these have to hold what the shard holds."""
    for kind, copy in copies_of(shard).items():
        try:
            same = np.array_equal(np.load(copy, mmap_mode="r", allow_pickle=False), vectors_in(shard, kind))
        except (OSError, ValueError):
            same = False
        if not same:
            yield Finding(ALTERED, str(copy), f"it differs from {label_of(shard)}; delete it, it is made again")


def _outside(lake: Lake, version: Version, today: Today) -> Iterator[Finding]:
    """Files and models that a version was made from, if its content is current: older ones may well have moved on."""
    try:
        current = lake.find(version.manifest.asset, version.manifest.partition)
    except StoreError as error:
        yield Finding(ALTERED, str(version.folder.parent), str(error))
        return
    if current is None or current.manifest.data_version != version.manifest.data_version:
        return
    # Files that were edited without effect on the content have other digests in the manifest that was made since.
    inputs = current.manifest.inputs
    outside = {name: said.data_version for name, said in inputs.items() if not said.manifest_sha256}
    if not outside:
        return
    now = today(version)
    if isinstance(now, str):
        yield Finding("unverified", ", ".join(sorted(outside)), f"of {label_of(version)}: {now}")
        return
    for name, digest in sorted(outside.items()):
        found = now.get(name, "")
        if not found:
            unread = "it lies behind a URI or on the hub"
            what = unread if found is None else f"today {label_of(version)} takes no such input"
            yield Finding("unverified", name, what)
        elif found != digest:
            what = f"it is not what {label_of(version)} was made from: {found[:12]} instead of {digest[:12]}"
            yield Finding(ALTERED, name.removeprefix("file:").replace("model:", "model "), what)
