"""Who tells a head's digest besides the lake: Dagster's events, or a file kept where nobody writes who writes here.

A chain commits to all behind its head, and to nothing before it. Whoever can write the lake can make a head anew, with
scores, licences and pages of his own, or point readers to an older one: only a record elsewhere shows that.
"""

import json
import os
import urllib.request
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from g2is_assets.errors import SettingsError, StoreError, command
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import MANIFEST, read_manifest
from g2is_assets.store.serving import ADAPTER, SERVED, served_folder
from g2is_assets.store.version import Version, asset_of, partition_of
from g2is_assets.store.versions import assets_of, partitions_of
from g2is_assets.trail.chain import Manifests
from g2is_assets.trail.verify import ALTERED, Finding

SERVES: Final = "served"
"""What the adapter that is served is called among the heads, with its domain behind it: `served[math]`."""
KILLED: Final = "a refresh that was killed just then leaves this too: refresh again"


@dataclass(frozen=True)
class Witness:
    """What somebody else recorded of a lake's heads.

    Attributes:
        name: Who, in words.
        said: Digests of manifests, the last first, by head: `finetune/adapter[math]`, `served[math]`.
        always: Whether it is told of every refresh, so that its last word must be what stands there now.
    """

    name: str
    said: Mapping[str, Sequence[str]]
    always: bool = True


def name_of(asset: str, partition: str | None) -> str:
    """What a head is called."""
    return f"{asset}[{partition}]" if partition else asset


def heads_in(lake: Lake) -> list[str]:
    """Every head of a lake by name: what is current of every asset and partition, and what is served."""
    found = []
    for asset in assets_of(lake):
        for partition in partitions_of(lake, asset):
            place = lake.place(asset, partition)
            found += [name_of(asset, partition)] if (place / "current.json").exists() else []
            found += [name_of(SERVES, partition)] if (place / SERVED).exists() else []
    return found


def pointer_of(lake: Lake, head: str) -> Path:
    """The file that leads readers to a head."""
    asset, partition = asset_of(head), partition_of(head)
    return lake.place(ADAPTER, partition) / SERVED if asset == SERVES else lake.place(asset, partition) / "current.json"


def version_of(lake: Lake, head: str) -> Version | None:
    """The version that a head is now; None if there is no such head.

    Raises:
        StoreError: Its pointer is damaged, or leads to nothing that can be read.
    """
    if asset_of(head) != SERVES:
        return lake.find(asset_of(head), partition_of(head))
    folder = served_folder(lake, str(partition_of(head)))
    return Version(folder, read_manifest(folder)) if folder else None


def compare(
    lake: Lake, heads: Iterable[str], witnesses: Sequence[Witness], domains: Collection[str]
) -> Iterator[Finding]:
    """What witnesses say against a lake's heads, and of which heads none says anything.

    Args:
        lake: The lake.
        heads: Which of its heads; also such as only a witness tells of.
        witnesses: Whoever may say something; what the last of them does not tell is unwitnessed.
        domains: Those that the project has: of others nothing may be left.
    """
    manifests, silent = Manifests(lake), []
    for head in sorted(set(heads)):
        pointer = pointer_of(lake, head)
        try:
            version = version_of(lake, head)
        except StoreError as error:
            yield Finding(ALTERED, str(pointer), f"{error}; refresh the domain")
            continue
        digest = None if version is None else str(version.as_input.manifest_sha256)
        told = [witness for witness in witnesses if witness.said.get(head)]
        for witness in told:
            if digest is None:
                partition = partition_of(head)
                known = partition is None or partition.split(".")[0] in domains
                what = f"it is gone; {witness.name} says {witness.said[head][0][:12]}"
                yield Finding(ALTERED if known else "unverified", str(pointer), what)
            elif version and (found := _against(manifests, head, version, witness)):
                yield found
        if digest and not (witnesses and digest in witnesses[-1].said.get(head, ())) and not _wrong(told, head, digest):
            silent.append(head)
    if silent:
        who = witnesses[-1].name if witnesses else "neither Dagster's history nor a file"
        what = f"{who} tells their digests not, or not yet; `audit witness` records them, --expect vouches for one"
        yield Finding("unwitnessed", ", ".join(silent), what)


def _wrong(told: Sequence[Witness], head: str, digest: str) -> bool:
    return any(witness.always and witness.said[head][0] != digest for witness in told)


def _against(manifests: Manifests, head: str, version: Version, witness: Witness) -> Finding | None:
    """What a witness says against a head that is there."""
    digest, (last, *before) = version.as_input.manifest_sha256, witness.said[head]
    if digest == last:
        return None
    asset = ADAPTER if asset_of(head) == SERVES else asset_of(head)
    still_there = manifests.find(asset, last, partition_of(head)) is not None
    said = f"{str(digest)[:12]}, {witness.name} says {last[:12]}"
    if digest not in before and not witness.always and still_there:
        return None  # made since
    if still_there:  # readers are led elsewhere
        why = "it was rolled back" if digest in before else f"it was rolled back; or {KILLED}"
        return Finding(ALTERED, str(pointer_of(manifests.lake, head)), f"it leads to {said}: {why}")
    why = KILLED if witness.always else "that manifest is gone from the lake, where they stay for ever"
    return Finding(ALTERED, str(version.folder / MANIFEST), f"its digest is {said}; {why}")


def read_witness(file: Path) -> Witness:
    """A file of heads as a witness.

    Raises:
        SettingsError: It cannot be read, or a line was altered: each names the digest of the one before.
    """
    said: dict[str, list[str]] = {}
    before = ""
    for number, line in enumerate(_lines(file), start=1):
        try:
            entry = json.loads(line)
            heads = {str(head): str(digest) for head, digest in entry["heads"].items()}
            if entry["after"] != before:
                raise ValueError("it does not follow from the line before it")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingsError(f"{file}, line {number}: no record of heads ({error}); take another copy") from None
        for head, digest in heads.items():
            if said.setdefault(head, [digest])[0] != digest:
                said[head].insert(0, digest)
        before = sha256(line.encode()).hexdigest()
    return Witness(str(file), said, always=False)


def write_witness(lake: Lake, to: str) -> tuple[int, bool]:
    """Add a line with all heads of a lake to a file, or post it to an address; how many, and whether anything is new.

    Raises:
        SettingsError: It cannot be written.
        StoreError: A pointer is damaged.
    """
    heads = {}
    for head in heads_in(lake):
        if version := version_of(lake, head):
            heads[head] = str(version.as_input.manifest_sha256)
    is_url, at = "://" in to, datetime.now(UTC).isoformat(timespec="seconds")
    lines = [] if is_url else _lines(Path(to), missing=True)
    if lines:
        read_witness(Path(to))
        if json.loads(lines[-1])["heads"] == heads:
            return len(heads), False
    after = sha256(lines[-1].encode()).hexdigest() if lines else ""
    line = json.dumps({"at": at, "after": after, "heads": heads}, sort_keys=True) + "\n"
    try:
        if is_url:
            headers = {"Content-Type": "application/json"}
            with urllib.request.urlopen(urllib.request.Request(to, line.encode(), headers), timeout=60):
                return len(heads), True
        with Path(to).open("a", encoding="utf-8") as out:
            out.write(line)
            out.flush()
            os.fsync(out.fileno())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{to} cannot be written: {error}; name a file, or an address that takes a POST") from error
    return len(heads), True


def _lines(file: Path, *, missing: bool = False) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        if missing:
            return []
        raise SettingsError(f"{file} does not exist; {command(f'audit witness {file}')} writes such a file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from error
