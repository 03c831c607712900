"""`g2is audit`: is it untouched, where from, what contains it, what changed. Heavy imports happen inside."""

import sys
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import click

from g2is_assets.cli.options import config_option, json_option, open_lake, print_json
from g2is_assets.cli.tables import print_csv, records
from g2is_assets.errors import MissingInputError, SettingsError, StoreError, command
from g2is_assets.hashing import hashed_anew
from g2is_assets.settings.project import Project
from g2is_assets.store.versions import partitions_of

ADAPTER: Final = "finetune/adapter"


@click.group(epilog="Example: g2is audit verify schedule_reasoning")
def audit() -> None:
    """Verify and show what lies behind an adapter, and find what a row, source or licence went into."""


@audit.command(epilog="Example: g2is audit verify schedule_reasoning")
@config_option
@click.argument("domain_or_path", required=False)
@click.option(
    "--expect", metavar="DIGEST", help="Digest that the head's manifest must have; its first 12 characters do."
)
@json_option
def verify(config: Path | None, domain_or_path: str | None, expect: str | None, as_json: bool) -> None:
    """Recompute every digest behind an adapter; exit code 1 if anything was altered.

    Without an argument, every adapter that is current, also those of domains whose folder is gone. A path is that of a
    version's folder, or of a file in one.
    """
    project, lake = open_lake(config)
    if domain_or_path is None and expect:
        raise SettingsError("--expect needs a domain or a path")
    names = [name for name in partitions_of(lake, ADAPTER) if name]
    known = [name for name in names if (lake.place(ADAPTER, name) / "current.json").exists()]
    asked = known if domain_or_path is None else [domain_or_path]
    if not asked:
        raise MissingInputError(f"no domain has an adapter in {lake.root}; run {command('refresh --all')} first")
    reports = [_report(project, name, expect, is_domain=name in known) for name in asked]
    if as_json:
        print_json([{k: v for k, v in report.items() if k != "lines"} for report in reports])
    else:
        for report in reports:
            click.echo("\n".join(report["lines"]))
    sys.exit(0 if all(report["whole"] for report in reports) else 1)


@audit.command(epilog="Example: g2is audit show schedule_reasoning --json")
@config_option
@click.argument("domain")
@json_option
def show(config: Path | None, domain: str, as_json: bool) -> None:
    """Print the chain behind a domain's adapter: adapter, subset, features, checkpoint, sample, pool, sources.

    The views audit_lineage, audit_lineage_links and audit_lineage_rows hold the same.
    """
    from g2is_assets.reports.audit import chain_json, chain_lines, origins
    from g2is_assets.trail.chain import follow

    _, lake = open_lake(config, domain)
    chain = follow(lake, [lake.current(ADAPTER, domain)])
    mix = origins(lake, chain)
    if as_json:
        return print_json({"domain": domain, "trained_on": mix, "chain": chain_json(chain)})
    for name, counts in mix.items():
        click.echo(f"Rows trained on, by {name}: {', '.join(f'{key} {n}' for key, n in counts.items())}")
    click.echo("\n".join(chain_lines(chain)))


@audit.command(epilog="Example: g2is audit impact --license CC-BY-NC-4.0")
@config_option
@click.option("--row", "row_id", help="A row id, or its first 8 characters or more.")
@click.option("--source", help="All rows of a source.")
@click.option("--license", "license_", help="All rows under a licence.")
@records
def impact(config: Path | None, row_id: str | None, source: str | None, license_: str | None, form: str) -> None:
    """List every adapter, past and present, that was exposed to a row, a source or a licence, and how."""
    from g2is_assets.reports.audit import exposure_lines
    from g2is_assets.reports.why import find_row
    from g2is_assets.trail.exposure import Exposure, Exposures

    if not (row_id or source or license_) or (row_id and (source or license_)):
        raise SettingsError("name a --row, or a --source, a --license or both")
    project, lake = open_lake(config)
    if not lake.root.is_dir():
        raise MissingInputError(
            f"{lake.root} does not exist: nothing has been materialised yet; run {command('refresh --all')} first"
        )
    exposures = Exposures(lake)
    rows = {find_row(lake, row_id)} if row_id else exposures.rows_of(source=source, license=license_)
    found = exposures.of(rows)
    unreadable = list(dict.fromkeys(exposures.unreadable))
    uses = [asdict(exposure) | {"version": str(exposure.version)} for exposure in found]
    if form == "json":
        return print_json({"n_rows": len(rows), "exposures": uses, "unreadable": unreadable})
    if form == "csv":
        names = [field.name for field in fields(Exposure)]
        print_csv(names, [list(use.values()) for use in uses])
        for text in unreadable:
            click.echo(f"not readable, so not looked at: {text}", err=True)
        return
    what = f"row {next(iter(rows))}" if row_id else f"{len(rows)} rows"
    count = {0: "no exposure", 1: "1 exposure"}.get(len(found), f"{len(found)} exposures")
    click.echo(f"{what}: {count} in {lake.root}")
    lines = exposure_lines(found, project.domains)
    click.echo("\n".join([*lines, *(f"not readable, so not looked at: {text}" for text in unreadable)]))


@audit.command(epilog="Example: g2is audit diff schedule_reasoning 3f2a91c0 77be12d4")
@config_option
@click.argument("domain")
@click.argument("before")
@click.argument("after")
@json_option
def diff(config: Path | None, domain: str, before: str, after: str, as_json: bool) -> None:
    """Say which rows came and went between two versions of a domain's subset, and why.

    BEFORE and AFTER are version folders of the subset or of an adapter, or their first characters.
    """
    from g2is_assets.reports.audit import difference_lines
    from g2is_assets.trail.subset_diff import compare, subset_of

    _, lake = open_lake(config, domain)
    found = compare(lake, subset_of(lake, domain, before), subset_of(lake, domain, after))
    if as_json:
        names = {"before": found.before.folder.name, "after": found.after.folder.name}
        changes = [asdict(change) for change in found.changes]
        return print_json(names | {"n_kept": found.n_kept, "causes": found.causes, "changes": changes})
    click.echo("\n".join(difference_lines(found)))


def _report(project: Project, asked: str, expect: str | None, *, is_domain: bool) -> dict[str, Any]:
    """What verification says of the adapter that a domain has, or of the version at a path."""
    from g2is_assets.cli.jobs import open_instance
    from g2is_assets.orchestration.auditing import examine, reported_digests
    from g2is_assets.reports.audit import finding_lines
    from g2is_assets.store.lake import Lake
    from g2is_assets.trail.chain import label_of, version_at

    home, current = project.home / "lake", is_domain or asked in project.domains or not Path(asked).exists()
    if not is_domain and current:
        project.domain(asked)
    try:
        lake, head = (Lake(home), Lake(home).current(ADAPTER, asked)) if current else version_at(Path(asked))
    except StoreError as error:  # where a chain begins is part of it
        findings = [{"state": "altered", "where": asked, "what": str(error)}]
        lines = [f"{asked}: BROKEN at its head: {error}"]
        return {"head": asked, "manifest_sha256": None, "whole": False, "findings": findings, "lines": lines}
    witness: list[str] = []
    if not expect and lake.root.resolve() == home.resolve() and (project.home / ".dagster").is_dir():
        # Where that may not be written to, nobody but the head itself tells its digest, which is said.
        with suppress(StoreError), open_instance(project) as instance:
            witness = reported_digests(instance, head)
    with hashed_anew():
        found = examine(project, lake, head, witness, current=current, expect=expect)
    digest = head.as_input.manifest_sha256
    verdict = f"BROKEN, first at {found.broken[0].where}" if found.broken else "whole"
    return {
        "head": label_of(head),
        "manifest_sha256": digest,
        "whole": not found.broken,
        "findings": [asdict(finding) for finding in found.findings],
        "lines": [
            f"{label_of(head)}: {verdict}",
            f"  head {digest}; {len(found.chain)} versions with {found.n_files} files behind it",
            *(f"  {line}" for line in finding_lines(found.findings)),
        ],
    }
