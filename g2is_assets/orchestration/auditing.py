"""Is a chain whole? One answer for the command line and for the check in the UI; and what Dagster's history says.

The history is Dagster's own, and only read here: it is the witness of a head, and it shows the first rows of tables,
cut short, where `preview_rows = 0` does not keep them out.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import dagster as dg

from g2is_assets.contracts.audit import PAGE
from g2is_assets.contracts.tables import TABLES
from g2is_assets.errors import G2isError, StoreError
from g2is_assets.reports.words import ID_SHOWN
from g2is_assets.settings.project import Project
from g2is_assets.stages.audit import way_to
from g2is_assets.stages.frame import recipe_of
from g2is_assets.stages.instructions import READ_EVERY_RUN
from g2is_assets.stages.variants import place_named
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.hub import HUB
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import MANIFEST
from g2is_assets.store.serving import SERVED, served_folder
from g2is_assets.store.version import Version
from g2is_assets.trail.chain import Link, follow
from g2is_assets.trail.verify import ALTERED, Finding, Today, verify

MANIFEST_DIGEST: Final = "g2is/manifest_sha256"
"""Metadata key of every materialisation: Dagster's event is the witness of a head."""
FIRST_ROWS: Final = "g2is/first_rows"
"""Metadata key of the first rows of a table."""
MIN_DIGEST: Final = 12
"""Hex digits of a digest from which its beginning is enough."""


@dataclass(frozen=True)
class Examination:
    """What was found along the chain behind a head, the nearest to the head first."""

    chain: list[Link]
    findings: list[Finding]

    @property
    def broken(self) -> list[Finding]:
        """What was altered."""
        return [finding for finding in self.findings if finding.state == ALTERED]

    @property
    def n_files(self) -> int:
        """Payload files along the chain."""
        return sum(len(link.version.manifest.files) for link in self.chain if link.version)


def examine(
    project: Project, lake: Lake, head: Version, witness: Sequence[str], *, current: bool, expect: str | None = None
) -> Examination:
    """Recompute every digest behind the version `head`, and compare today's settings and files with those recorded.

    `witness` are the digests that Dagster's events say, the last one first (`reported_digests`). If readers follow the
    head (`current`), the last must name it, and the domain's evaluation, lineage and report are examined with it. Where
    a digest or its beginning is to be expected (`expect`), the events are not asked.
    """
    beside = list(_beside(lake, head)) if current else []
    chain = follow(lake, [*beside, head], parts=True)  # the lineage first: it knows the model's files by name
    findings = [*_head(head, witness, current, expect), *verify(lake, chain, _outside(project))]
    findings += [*_served(lake, head), *_way(beside)] if current else ()
    if current and not any(version.manifest.asset == "audit/lineage" for version in beside):
        what = "not recorded for this adapter; materialise audit/lineage"
        findings.append(Finding("unverified", project.path.name, what))
    return Examination(chain, findings)


def reported_digests(instance: dg.DagsterInstance, version: Version) -> list[str]:
    """Manifest digests that Dagster's events of this version's asset and partition hold, the last event first."""
    return list(_said(instance, MANIFEST_DIGEST, version.manifest.asset, version.manifest.partition))


def assets_showing(instance: dg.DagsterInstance, rows: Collection[str]) -> dict[str, list[str]]:
    """For each of these rows, the assets of which some materialisation shows its text, by name."""
    found: dict[str, list[str]] = {row: [] for row in rows}
    for asset in sorted({asset for (asset, _), contract in TABLES.items() if contract.texts or contract.quoted}):
        texts = list(_said(instance, FIRST_ROWS, asset))
        for row, assets in found.items():
            if any(row[:ID_SHOWN] in text for text in texts):
                assets.append(asset)
    return found


def _said(instance: dg.DagsterInstance, name: str, asset: str, partition: str | None = None) -> Iterator[str]:
    """What the materialisations of an asset, or of a partition, say under a name, the last first."""
    events = dg.AssetRecordsFilter(dg.AssetKey(asset.split("/")), asset_partitions=[partition] if partition else None)
    cursor, more = None, True
    while more:
        page = instance.fetch_materializations(events, limit=100, cursor=cursor)
        for event in (record.asset_materialization for record in page.records):
            if event and name in event.metadata:
                yield str(event.metadata[name].value)
        cursor, more = page.cursor, page.has_more


def _beside(lake: Lake, adapter: Version) -> Iterator[Version]:
    """The lineage and the evaluation that were made from this very adapter, and the report of that lineage."""
    lineage = _made_from(lake, "audit/lineage", adapter)
    report = _made_from(lake, "audit/report", lineage) if lineage else None
    yield from filter(None, (lineage, _made_from(lake, "finetune/evaluation", adapter), report))


def _made_from(lake: Lake, asset: str, upstream: Version) -> Version | None:
    version = lake.find(asset, upstream.manifest.partition)
    fits = version is not None and version.manifest.inputs.get(upstream.manifest.asset) == upstream.as_input
    return version if fits else None


def _served(lake: Lake, adapter: Version) -> Iterator[Finding]:
    """Whether the pointer to the adapter that is served leads to one."""
    pointer = adapter.folder.parent / SERVED
    try:
        served = served_folder(lake, str(adapter.manifest.partition))
    except StoreError as error:
        yield Finding(ALTERED, str(pointer), str(error))
        return
    if served is not None and not (served / MANIFEST).is_file():
        yield Finding(ALTERED, str(pointer), f"it names {served.name}, which is not there; refresh the domain")


def _way(beside: Sequence[Version]) -> Iterator[Finding]:
    """Whether the file that leads people to the report leads there."""
    for report in (version for version in beside if version.manifest.asset == "audit/report"):
        pointer = report.folder.parent / PAGE
        if pointer.exists() and pointer.read_text(encoding="utf-8", errors="replace") != way_to(report):
            yield Finding(ALTERED, str(pointer), f"it does not lead to {report.folder.name}; refresh the domain")


def _head(head: Version, witness: Sequence[str], current: bool, expect: str | None) -> Iterator[Finding]:
    digest, where = str(head.as_input.manifest_sha256), str(head.folder / MANIFEST)
    if expect is not None:
        if len(expect) < MIN_DIGEST or not digest.startswith(expect.lower()):
            yield Finding(ALTERED, where, f"its digest is {digest}, expected was {expect}")
    elif not witness:
        yield Finding("unwitnessed", where, "no event of Dagster tells its digest; give it with --expect")
    elif digest != witness[0] and (current or digest not in witness):
        said = f"Dagster's last event says {witness[0][:12]}" if current else "no event of Dagster says so"
        killed = "a refresh that was killed just then leaves this too: refresh again"
        yield Finding(ALTERED, where, f"its digest is {digest[:12]}, {said}; {killed}")


def _outside(project: Project) -> Today:
    """Tells digests, as they are now, of the files and models that a version was made from."""
    workspace = Workspace(project, looking=True)

    def today(version: Version) -> Mapping[str, str | None] | str:
        try:
            recipe = recipe_of(workspace, version.manifest.asset, place_named(workspace, version.manifest.partition))
        except G2isError as error:
            return str(error)
        now = {name: said.data_version for name, said in recipe.inputs.items() if not said.manifest_sha256}
        # A data set of the hub is what it was at its commit, however far its branch has gone on.
        unread = {name for name, digest in now.items() if digest == READ_EVERY_RUN or name.startswith(HUB)}
        return {name: None if name in unread else digest for name, digest in now.items()}

    return today
