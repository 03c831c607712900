"""The audit trail in words: chains, findings, exposures and differences between subsets."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import polars as pl

from g2is_assets.contracts.instructions import POOL
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.store.files import read_parquet
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import Manifest
from g2is_assets.trail.chain import Link, content_of, label_of, nearest, rows_file
from g2is_assets.trail.exposure import KINDS, Exposure
from g2is_assets.trail.subset_diff import Difference
from g2is_assets.trail.verify import Finding

SHOWN_ROWS: Final = 6
"""Rows of one group that are listed one by one; of larger ones the first, and how many more."""
LINE: Final = 110
"""Characters of a list of settings before it goes on in a new line."""


def chain_lines(chain: Sequence[Link]) -> list[str]:
    """A chain for people: every version with who, when, code, settings and what it was made from."""
    lines: list[str] = []
    libraries: dict[str, str] = {}
    for link in chain:
        if link.version is None:
            lines += [
                f"{link.asset}: the manifest that {link.named_by} names is not in the lake; see g2is audit verify"
            ]
            continue
        manifest = link.version.manifest
        rows = ", ".join(f"{n} rows in {name}" for name, n in manifest.n_rows.items())
        lines.append(f"{label_of(link.version)}  version {link.version.folder.name}")
        lines.append(f"    manifest {link.said.manifest_sha256}")
        lines.append(f"    made by {manifest.made_by} at {manifest.created_at} in run {manifest.run_id[:8]}")
        lines.append(
            f"    code version {manifest.code_version}, git {manifest.git_revision}{f'; {rows}' if rows else ''}"
        )
        lines += _listed("settings", _flat(manifest.settings))
        lines += _listed("from", _inputs(manifest))
        if manifest.libraries != libraries:  # said once, as long as they stay the same
            libraries = manifest.libraries
            lines += _listed("libraries", [f"{name} {version}" for name, version in libraries.items()])
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
    counted = {name: Counter(rows[name].explode().to_list()) for name in ("sources", "licenses")}
    return {name: dict(counts.most_common()) for name, counts in counted.items()} if len(rows) else {}


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """One line for each finding."""
    return [f"{finding.state}: {finding.where}: {finding.what}" for finding in findings]


def exposure_lines(found: Sequence[Exposure]) -> list[str]:
    """Exposures for people, one paragraph per kind and one line per adapter, with the rows where they are few."""
    lines: list[str] = []
    for kind, meaning in KINDS.items():
        of_kind = [exposure for exposure in found if exposure.kind == kind]
        if not of_kind:
            continue
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
    return lines


def difference_lines(found: Difference) -> list[str]:
    """What came and went between two subsets, and why."""
    before, after = found.before, found.after
    lines = [
        f"{label_of(before)}: {before.folder.name} ({before.manifest.created_at}) -> "
        f"{after.folder.name} ({after.manifest.created_at})",
        f"{found.n_kept} rows in both; {sum(c.came for c in found.changes)} came, "
        f"{sum(not c.came for c in found.changes)} went",
    ]
    lines += [f"  because of  {cause}" for cause in found.causes]
    for change in found.changes:
        lines.append(f"  {'+' if change.came else '-'} {change.row_id}  {change.why}")
    return lines


def _flat(settings: dict[str, Any]) -> list[str]:
    return [
        f"{name} {value[:12] if isinstance(value, str) and len(value) == 64 else value}"
        for name, value in settings.items()
        if not isinstance(value, dict) and value is not None
    ]


def _inputs(manifest: Manifest) -> list[str]:
    return [
        f"{name} {(said.manifest_sha256 or said.data_version)[:12]}" for name, said in sorted(manifest.inputs.items())
    ]


def _listed(label: str, items: Sequence[str]) -> list[str]:
    """A label and items, in as many lines as they need."""
    lines, line = [], ""
    for item in items:
        if line and len(line) + len(item) > LINE:
            lines.append(line + ",")
            line = ""
        line += (", " if line else "") + item
    lines += [line] if line else []
    return [f"    {label if number == 0 else ' ' * len(label)} {line}" for number, line in enumerate(lines)]


def _row(exposure: Exposure) -> str:
    where = "" if exposure.order is None else f" as row {exposure.order + 1}"
    step = "" if exposure.step is None else f" (component {exposure.component}, step {exposure.step})"
    return f"{exposure.row_id[:12]}{where}{step}"
