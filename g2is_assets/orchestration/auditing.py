"""Is a chain whole? One answer for the command line and for the check in the UI; and what Dagster's history says.

The history is Dagster's own, and only read here: it is the witness of a head, and it shows the first rows of tables,
cut short, where `preview_rows = 0` does not keep them out.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import dagster as dg

from g2is_assets.contracts.audit import PAGE
from g2is_assets.contracts.tables import TABLES
from g2is_assets.errors import G2isError, StoreError
from g2is_assets.reports.words import ID_SHOWN
from g2is_assets.settings.project import Project
from g2is_assets.stages.audit import way_to
from g2is_assets.stages.catalog import STAGES
from g2is_assets.stages.frame import recipe_of
from g2is_assets.stages.instructions import READ_EVERY_RUN
from g2is_assets.stages.variants import place_named
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.hub import HUB
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import MANIFEST
from g2is_assets.store.serving import ADAPTER
from g2is_assets.store.version import Version, asset_of, partition_of
from g2is_assets.trail.chain import Link, follow, label_of
from g2is_assets.trail.verify import ALTERED, Finding, Today, verify
from g2is_assets.trail.witness import KILLED, SERVES, Witness, compare, heads_in, name_of, version_of

MANIFEST_DIGEST: Final = "g2is/manifest_sha256"
"""Metadata key of every materialisation: Dagster's event is the witness of a head."""
SERVED_DIGEST: Final = "g2is/served_manifest_sha256"
"""The same of the adapter that the domain serves since, of every materialisation of `EVALUATION`."""
EVALUATION: Final = "finetune/evaluation"
LINEAGE: Final = "audit/lineage"
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
    def unwitnessed(self) -> bool:
        """Whether of something nobody but the lake tells the digest."""
        return any(finding.state == "unwitnessed" for finding in self.findings)

    @property
    def n_files(self) -> int:
        """Payload files along the chain."""
        return sum(len(link.version.manifest.files) for link in self.chain if link.version)


def examine(
    project: Project,
    lake: Lake,
    head: Version,
    witnesses: Sequence[Witness],
    *,
    current: bool,
    expect: str | None = None,
    shared: bool = True,
) -> Examination:
    """Recompute every digest behind the version `head`, and compare today's settings and files with those recorded.

    If readers follow the head (`current`), all that is current of its domain, what it serves, and, if `shared`, what
    domains share is examined with it, and the last digests that `witnesses` tell must be theirs. Of another version one
    of them must have told the digest at any time. A digest to be expected, or its beginning (`expect`), vouches for
    the head in their place.
    """
    domain, label = head.manifest.partition, label_of(head)
    own = list(_own(lake, head)) if current else []
    chain = follow(lake, [*own, head], parts=True)  # the lineage first: it knows the model's files by name
    findings = list(_expected(head, expect)) if expect is not None else []
    if not current:
        findings += _told(head, witnesses) if expect is None else ()
    else:
        told = {name for witness in witnesses for name in witness.said} | set(heads_in(lake))
        vouched = {label} if expect is not None else set()
        if expect is not None and version_of(lake, name_of(SERVES, domain)) == head:
            vouched.add(name_of(SERVES, domain))
        scope = {domain, None} if shared else {domain}
        heads = {name for name in told if partition_of(name) in scope} - vouched
        findings += compare(lake, heads, witnesses, project.domains)
    findings += verify(lake, chain, _outside(project))
    findings += _way(own)
    if current and not any(version.manifest.asset == LINEAGE for version in own):
        what = "not recorded for this adapter; materialise audit/lineage"
        findings.append(Finding("unverified", project.path.name, what))
    return Examination(chain, findings)


def examine_rest(
    project: Project, lake: Lake, witnesses: Sequence[Witness], done: Sequence[Examination], domains: Collection[str]
) -> Examination:
    """The same for every head that was not looked at with the adapters of these domains, of all there ever were."""
    told = {name for witness in witnesses for name in witness.said} | set(heads_in(lake))
    # What domains share was looked at with the first adapter, if there was one.
    heads = sorted(n for n in told if (partition_of(n) or not domains) and partition_of(n) not in domains)
    seen = {link.place for one in done for link in one.chain}
    versions: list[Version] = []
    for name in heads_in(lake):
        with suppress(StoreError):  # said below
            versions += filter(None, [version_of(lake, name)])
    chain = [link for link in follow(lake, versions, parts=True) if not link.version or link.place not in seen]
    findings = [*compare(lake, heads, witnesses, project.domains), *verify(lake, chain, _outside(project))]
    return Examination(chain, findings)


def history_of(instance: dg.DagsterInstance, domain: str | None = None) -> Witness:
    """What Dagster's last events say of every asset and partition ever materialised, or of those of a domain."""
    said: dict[str, list[str]] = {}
    for stage in STAGES:
        partitions: list[str | None] = [None] if stage.partition == "project" else []
        if domain is not None:
            partitions = [domain] if stage.partition == "domain" else partitions
        elif not partitions:
            partitions = [*sorted(instance.get_materialized_partitions(dg.AssetKey(stage.key.split("/"))))]
        for partition in partitions:
            if last := next(_said(instance, MANIFEST_DIGEST, stage.key, partition, page=1), None):
                in_lake = partition.replace("|", ".") if partition else None
                said[name_of(stage.key, in_lake)] = [last]
                if stage.key != EVALUATION:
                    continue
                if served := next(_said(instance, SERVED_DIGEST, stage.key, partition, page=1), None):
                    said[name_of(SERVES, in_lake)] = [served]
    return Witness("Dagster's last event", said)


def every_event_of(instance: dg.DagsterInstance, version: Version) -> Witness:
    """What all of Dagster's events say of a version's asset and partition, the last event first."""
    said = list(_said(instance, MANIFEST_DIGEST, version.manifest.asset, version.manifest.partition))
    return Witness("Dagster's last event", {label_of(version): said})


def assets_showing(instance: dg.DagsterInstance, rows: Collection[str]) -> dict[str, list[str]]:
    """For each of these rows, the assets of which some materialisation shows its text, by name."""
    found: dict[str, list[str]] = {row: [] for row in rows}
    for asset in sorted({asset for (asset, _), contract in TABLES.items() if contract.texts or contract.quoted}):
        texts = list(_said(instance, FIRST_ROWS, asset))
        for row, assets in found.items():
            if any(row[:ID_SHOWN] in text for text in texts):
                assets.append(asset)
    return found


def _said(
    instance: dg.DagsterInstance, name: str, asset: str, partition: str | None = None, page: int = 100
) -> Iterator[str]:
    """What the materialisations of an asset, or of a partition, say under a name, the last first."""
    events = dg.AssetRecordsFilter(dg.AssetKey(asset.split("/")), asset_partitions=[partition] if partition else None)
    cursor, more = None, True
    while more:
        found = instance.fetch_materializations(events, limit=page, cursor=cursor)
        for event in (record.asset_materialization for record in found.records):
            if event and name in event.metadata:
                yield str(event.metadata[name].value)
        cursor, more = found.cursor, found.has_more


def _own(lake: Lake, adapter: Version) -> Iterator[Version]:
    """All that is current of an adapter's domain, the lineage of this very adapter first, and what is served."""
    heads = [name for name in heads_in(lake) if partition_of(name) == adapter.manifest.partition]
    for name in sorted(heads, key=lambda name: asset_of(name) != LINEAGE):
        with suppress(StoreError):  # the comparison of heads says it
            version = version_of(lake, name)
            if version is None or version.folder == adapter.folder:
                continue
            if asset_of(name) != LINEAGE or version.manifest.inputs.get(ADAPTER) == adapter.as_input:
                yield version


def _way(own: Sequence[Version]) -> Iterator[Finding]:
    """Whether the file that leads people to the report leads there."""
    for report in (version for version in own if version.manifest.asset == "audit/report"):
        pointer = report.folder.parent / PAGE
        if pointer.exists() and pointer.read_text(encoding="utf-8", errors="replace") != way_to(report):
            yield Finding(ALTERED, str(pointer), f"it does not lead to {report.folder.name}; refresh the domain")


def _expected(head: Version, expect: str) -> Iterator[Finding]:
    digest = str(head.as_input.manifest_sha256)
    if len(expect) < MIN_DIGEST or not digest.startswith(expect.lower()):
        yield Finding(ALTERED, str(head.folder / MANIFEST), f"its digest is {digest}, expected was {expect}")


def _told(head: Version, witnesses: Sequence[Witness]) -> Iterator[Finding]:
    """Whether some witness told the digest of a version that need not be current."""
    digest, where, label = str(head.as_input.manifest_sha256), str(head.folder / MANIFEST), label_of(head)
    told = [witness for witness in witnesses if witness.said.get(label)]
    if not told:
        yield Finding("unwitnessed", where, "no event of Dagster tells its digest; give it with --expect")
    elif not any(digest in witness.said[label] for witness in told):
        yield Finding(ALTERED, where, f"its digest is {digest[:12]}, no event of Dagster says so; {KILLED}")


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
