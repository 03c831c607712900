"""The audit trail in words: chains, findings, exposures, differences between subsets, and what a withdrawal entails."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from g2is_assets.contracts.contract import Contract
from g2is_assets.contracts.gradients import INDEX
from g2is_assets.contracts.instructions import POOL, TARGET, WITHHELD
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.contracts.tables import main_table
from g2is_assets.contracts.warmup import SAMPLE
from g2is_assets.errors import REDRAW, SettingsError, StoreError, command
from g2is_assets.reports.why import MIN_PREFIX, answers_to, only_one, say_why_not, table_part
from g2is_assets.reports.words import beginning, counted, printable
from g2is_assets.store.files import read_parquet
from g2is_assets.store.lake import Lake
from g2is_assets.store.pruning import ROW_IDS
from g2is_assets.store.version import Version
from g2is_assets.store.versions import partitions_of, versions_of
from g2is_assets.trail.chain import Link, content_of, label_of, nearest, rows_file
from g2is_assets.trail.exposure import BASELINE, KINDS, TRAINED, Exposure, Exposures
from g2is_assets.trail.subset_diff import Chosen, Difference, Metrics
from g2is_assets.trail.verify import Finding

SHOWN_ROWS: Final = 6
"""Rows of one group that are listed one by one; of larger ones the first, and how many more."""
WORDS: Final = 60
"""Characters of a row's words beside its id."""


def chain_lines(chain: Sequence[Link]) -> list[str]:
    """A chain for people: every version with who, when, code, settings and what it was made from."""
    lines: list[str] = []
    libraries: dict[str, str] = {}
    for link in chain:
        if link.version is None:
            see = command("audit verify")
            lines += [f"{link.asset}: the manifest that {link.named_by} names is not in the lake; see {see}"]
            continue
        manifest = link.version.manifest
        rows = ", ".join(f"{counted(n, 'row')} in {name}" for name, n in manifest.n_rows.items())
        digests = {name: (said.manifest_sha256 or said.data_version)[:12] for name, said in manifest.inputs.items()}
        settings = {
            name: value[:12] if isinstance(value, str) and len(value) == 64 else value
            for name, value in manifest.settings.items()
            if not isinstance(value, dict) and value is not None
        }
        lines += [
            f"{label_of(link.version)}  version {link.version.folder.name}",
            f"    manifest {link.said.manifest_sha256}",
            f"    made by {manifest.made_by} at {manifest.created_at} in run {manifest.run_id[:8]}",
            f"    code version {manifest.code_version}, git {manifest.git_revision}{f'; {rows}' if rows else ''}",
            *_listed("settings", settings),
            *_listed("from", dict(sorted(digests.items()))),
        ]
        if manifest.libraries != libraries:  # said once, as long as they stay the same
            libraries = manifest.libraries
            lines += _listed("libraries", libraries)
    return lines


def chain_json(chain: Sequence[Link]) -> list[dict[str, Any]]:
    """A chain for machines: the manifests with depth, folder and digest."""
    found = []
    for link in chain:
        manifest = link.version.manifest.model_dump(mode="json") if link.version else {"asset": link.asset}
        place = {"depth": link.depth, "folder": str(link.place), "manifest_sha256": link.said.manifest_sha256}
        found.append(place | {"found": link.version is not None} | manifest)
    return found


def rows_trained_on(lake: Lake, chain: Sequence[Link]) -> pl.DataFrame:
    """The rows of the subset behind an adapter, in its order, with `sources` and `licenses`; none where it is gone.

    Raises:
        StoreError: The tables are damaged.
    """
    links = nearest(chain)
    subset, pool = (links[asset].version for asset in ("selection/subset", "instructions/pool"))
    if subset is None or pool is None:
        return pl.DataFrame(schema={name: POOL.schema[name] for name in ("row_id", "sources", "licenses")})
    taken = read_parquet(content_of(lake, subset) / SUBSET.file, ["row_id"])
    table = read_parquet(rows_file(lake, pool, POOL), ["row_id", "sources", "licenses"])
    return taken.join(table, on="row_id", how="inner", maintain_order="left")


def origins(lake: Lake, chain: Sequence[Link]) -> dict[str, dict[str, int]]:
    """How many of the rows trained on come from each source, and under each licence; a row may have several.

    Raises:
        StoreError: The tables are damaged.
    """
    rows = rows_trained_on(lake, chain)
    found = {name: Counter(rows[name].explode().to_list()) for name in ("sources", "licenses")}
    return {name: dict(counts.most_common()) for name, counts in found.items()} if len(rows) else {}


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """One line for each finding."""
    return [f"{finding.state}: {finding.where}: {finding.what}" for finding in findings]


def exposure_lines(found: Sequence[Exposure], domains: Collection[str]) -> list[str]:
    """Exposures for people, one paragraph per kind and one line per adapter, with the rows where they are few.

    `domains` are those that the project has; what others left in the lake is said.
    """
    lines: list[str] = []
    for kind, meaning in KINDS.items():
        of_kind = [exposure for exposure in found if exposure.kind == kind]
        if of_kind:
            lines.append(f"{kind} ({meaning}):")
        for version in dict.fromkeys(exposure.version for exposure in of_kind):
            group = [exposure for exposure in of_kind if exposure.version == version]
            first = group[0]
            state = "in use" if first.current else "past"
            rows = ", ".join(_row(exposure) for exposure in group[:SHOWN_ROWS])
            more = f", and {len(group) - SHOWN_ROWS} more" if len(group) > SHOWN_ROWS else ""
            made = f"made at {first.created_at} in run {first.run_id[:8]}"
            lines.append(f"  {first.domain}  {first.asset} {version.name} ({state}), {made}")
            lines.append(f"    {len(group)} {'row' if len(group) == 1 else 'rows'}: {rows}{more}")
    return lines + _gone((exposure.domain for exposure in found if exposure.current), domains)


def _gone(used: Iterable[str], domains: Collection[str]) -> list[str]:
    """What to do about domains that the lake has something current of, and the project no folder."""
    gone = sorted({name.split(".")[0] for name in used} - set(domains))
    said = f"put it back and refresh it, or prune all that it left: {command('gc --removed')}"
    return [f"No refresh reaches {name}, whose folder is gone: {said}." for name in gone]


def difference_lines(found: Difference) -> list[str]:
    """What came and went between two subsets, and why."""
    before, after = found.before, found.after
    n_came = sum(change.came for change in found.changes)
    counts = [f"{printable(name)} {then} -> {now}" for name, (then, now) in found.sources.items() if then != now]
    return [
        f"{label_of(before)}: {before.folder.name} ({before.manifest.created_at}) -> "
        f"{after.folder.name} ({after.manifest.created_at})",
        f"{counted(found.n_kept, 'row')} in both; {n_came} came, {len(found.changes) - n_came} went",
        f"by source: {', '.join(counts) or 'as many of each as before'}",
        f"result before: {result_line(found.results[0])}",
        f"result after:  {result_line(found.results[1])}",
        *(f"  because of  {cause}" for cause in found.causes),
        *(
            f"  {'+' if change.came else '-'} {change.row_id[:12]}  {change.why}; "
            f"{printable(', '.join(change.sources)) or 'source unknown'}: {beginning(change.words, WORDS)}"
            for change in found.changes
        ),
    ]


def result_line(metrics: Metrics | None) -> str:
    """What an adapter was worth, in one line."""
    if metrics is None:
        return "no adapter trained on it has been evaluated"
    names = (name for name in ("base", "random", "g2is") if f"nll_{name}" in metrics)
    return f"NLL on {metrics['split']} rows: " + ", ".join(f"{n} {metrics[f'nll_{n}']:.4f}" for n in names)


def version_lines(found: Sequence[Chosen], served: str | None) -> list[str]:
    """Versions of a domain's subset for people, the newest last, each with its adapter and what that is worth."""
    lines = []
    for one in found:
        subset, adapter = one.subset, one.adapter
        name = adapter.folder.name if adapter else "not trained yet"
        mark = " (served)" if adapter and name == served else ""
        lines.append(
            f"{subset.folder.name}  {subset.manifest.created_at}  {counted(subset.manifest.n_rows['subset'], 'row')}"
        )
        lines += [f"    adapter {name}{mark}", f"    {result_line(one.metrics)}"]
    return lines


def _listed(label: str, values: dict[str, Any]) -> list[str]:
    """A label, names and values, in one line; none without values."""
    return [f"    {label} {', '.join(f'{name} {_plain(value)}' for name, value in values.items())}"] if values else []


def _plain(value: Any) -> str:
    """A setting's value for people."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name} {_plain(own)}' for name, own in value.items() if own is not None)}}}"
    return f"[{', '.join(map(_plain, value))}]" if isinstance(value, list | tuple) else str(value)


def _row(exposure: Exposure) -> str:
    where = "" if exposure.order is None else f" as row {exposure.order + 1}"
    step = "" if exposure.step is None else f" (component {exposure.component}, step {exposure.step})"
    return f"{exposure.row_id[:12]}{where}{step}"


@dataclass(frozen=True)
class Consequences:
    """Where a row is used, now that it is withdrawn.

    Attributes:
        row_id, in_pool, in_sample: The row, and whether it is in the current pool, and in that of the warmup's sample.
        domains, subsets: Domains of whose own rows it is one, and those whose current subset contains it.
        adapters: Adapters trained on it, baselines too, in any version.
        retrained: Domains whose current ones are among these.
        n_gradients: Rows whose gradients a new warmup would compute anew.
        gone: What to do about domains among these whose folder is gone.
    """

    row_id: str
    in_pool: bool
    domains: list[str]
    subsets: list[str]
    adapters: list[Exposure]
    retrained: list[str]
    in_sample: bool
    n_gradients: int
    gone: list[str]

    @property
    def lines(self) -> list[str]:
        """The same in words."""
        said = [
            f"It leaves the pool at the next {command('refresh --pool')}."
            if self.in_pool
            else "The current pool does not hold it."
        ]
        if self.domains:
            said.append(
                "It leaves the own rows of these domains, whose selection it steers or measures, at their next "
                f"refresh: {', '.join(self.domains)}."
            )
        if self.subsets:
            said.append(f"Stale until their next refresh, since their subset holds it: {', '.join(self.subsets)}.")
        if self.retrained:
            again = command(f"refresh {' '.join(f'--domain {name}' for name in self.retrained)}")
            said.append(f"Adapters are as they were until then: those served after {again} are trained without it.")
        said += [f"Trained on it: {adapter_line(adapter)}." for adapter in self.adapters] or [
            "No adapter was trained on it."
        ]
        if self.in_sample:
            said.append(
                f"The warmup sample holds it, so a new warmup is due: {command(REDRAW)}. That trains the checkpoint "
                f"anew and computes all gradients again ({counted(self.n_gradients, 'row')}), and all that follows "
                "from them."
            )
        return said + self.gone


def consequences(lake: Lake, row_id: str, domains: Collection[str]) -> Consequences:
    """Look a row up in what the lake holds for a project's domains; damaged versions are passed over."""

    def holding(contract: Contract) -> list[str]:
        return [partition for partition, version in _current(lake, contract) if row_id in _rows(version, contract)]

    steered, chosen, adapters = holding(TARGET), holding(SUBSET), trained_on(lake, row_id)
    return Consequences(
        row_id=row_id,
        in_pool=bool(holding(POOL)),
        domains=[name for name in steered if name.split(".")[0] in domains],
        subsets=[name for name in chosen if name.split(".")[0] in domains],
        adapters=adapters,
        retrained=sorted({one.domain for one in adapters if one.current} & {*domains}),
        in_sample=bool(holding(SAMPLE)),
        n_gradients=sum(
            version.manifest.n_rows[INDEX.table]
            for _, version in _current(lake, INDEX)
            if not version.manifest.asset.startswith("study/")  # embeddings are the base model's
        ),
        gone=_gone([*steered, *chosen], domains),
    )


def trained_on(lake: Lake, row_id: str) -> list[Exposure]:
    """Every version of an adapter that was trained on a row, baselines and pruned ones too."""
    return [exposure for exposure in Exposures(lake).of([row_id]) if exposure.kind in (TRAINED, BASELINE)]


def adapter_line(exposure: Exposure) -> str:
    """An adapter's version in words."""
    old = "" if exposure.current else " (an old version)"
    return f"{exposure.asset}[{exposure.domain}] {exposure.version.name}{old}"


def _current(lake: Lake, contract: Contract) -> list[tuple[str, Version]]:
    """The current versions that hold a table, with their partitions; none that is damaged."""
    found = []
    for asset in contract.assets:
        for partition in partitions_of(lake, asset):
            with suppress(StoreError):
                if version := lake.find(asset, partition):
                    found.append((partition or "", version))
    return found


def _rows(version: Version, contract: Contract) -> set[str]:
    with suppress(StoreError):
        return set(read_parquet(version.folder / contract.file, ["row_id"])["row_id"])
    return set()


def find_row(lake: Lake, asked: str) -> str:
    """The id of a row that stands, or stood, in any version of the pool or of a domain's rows.

    Raises:
        SettingsError: No row or several rows answer to `asked`.
    """
    found: set[str] = set()
    versions = [version for asset in WITHHELD.assets for version in versions_of(lake, asset)[0]]
    for version in versions:
        for file in (main_table(version.manifest.asset).file, WITHHELD.file, ROW_IDS):
            found |= _answering(version.folder / file, asked)
    if row := only_one([{"row_id": row_id} for row_id in sorted(found)], asked):
        return str(row["row_id"])
    for version in versions:
        say_why_not(version, asked)
    raise SettingsError(
        f"no row in {lake.root} is or was '{asked}'; give a row id, its first {MIN_PREFIX} characters or more, or a "
        "source's id"
    )


def _answering(file: Path, asked: str) -> set[str]:
    table = table_part(file, ("row_id", "ids"))
    if table is None:
        return set()
    rule = answers_to(asked) | pl.col("ids").list.contains(asked) if "ids" in table.columns else answers_to(asked)
    return set(table.filter(rule)["row_id"])
