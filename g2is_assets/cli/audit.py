"""`g2is audit`: is it untouched, where from, what contains it, what changed. Heavy imports happen inside."""

import sys
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from g2is_assets.cli.options import config_option, json_option, open_lake, print_json, print_lines
from g2is_assets.cli.tables import print_csv, records
from g2is_assets.errors import MissingInputError, SettingsError, StoreError, command
from g2is_assets.hashing import hashed_anew
from g2is_assets.reports.words import counted
from g2is_assets.settings.project import Project
from g2is_assets.store.versions import partitions_of

if TYPE_CHECKING:
    from g2is_assets.orchestration.auditing import Examination
    from g2is_assets.store.lake import Lake
    from g2is_assets.trail.witness import Witness

ADAPTER: Final = "finetune/adapter"
UNWITNESSED: Final = 3
"""Exit code where all agrees with itself, and nobody else tells the digest of something."""


@click.group(epilog="Example: g2is audit verify schedule_reasoning")
def audit() -> None:
    """Verify and show what lies behind an adapter, or a row went into."""


@audit.command(epilog="Example: g2is audit verify schedule_reasoning")
@config_option
@click.argument("domain_or_path", required=False)
@click.option(
    "--expect", metavar="DIGEST", help="Digest that the head's manifest must have; its first 12 characters do."
)
@click.option(
    "--witness", "file", type=click.Path(dir_okay=False, path_type=Path), help="A file that `audit witness` wrote."
)
@json_option
def verify(
    config: Path | None, domain_or_path: str | None, expect: str | None, file: Path | None, as_json: bool
) -> None:
    """Recompute every digest, and say what was altered.

    Exit code 1 if something was altered. Exit code 3 if nothing is, but the lake alone says so of some of it: whoever
    can write to the lake could have made that anew, and neither Dagster's history nor a file of `audit witness` has a
    digest to hold against it.

    Without an argument, of everything in the lake: what is current and served of all domains, also of those whose
    folder is gone, and what is behind it. A path is that of a version's folder, or of a file in one. The last digests
    must be those that Dagster's events tell, and, with --witness, those in the file.
    """
    from g2is_assets.trail.witness import heads_in, read_witness

    project, lake = open_lake(config)
    if domain_or_path is None and expect:
        raise SettingsError("--expect needs a domain or a path")
    names = [name for name in partitions_of(lake, ADAPTER) if name]
    known = [name for name in names if (lake.place(ADAPTER, name) / "current.json").exists()]
    asked = known if domain_or_path is None else [domain_or_path]
    for name in asked:
        if name not in known and (name in project.domains or not Path(name).exists()):
            project.domain(name)
            lake.current(ADAPTER, name)  # which it has not, as is said before anything is looked for elsewhere
    kept = [read_witness(file)] if file else []
    reports = _reports(project, lake, asked, known, kept, expect, rest=domain_or_path is None)
    if as_json:
        print_json([{k: v for k, v in report.items() if k != "lines"} for report in reports])
    elif not (asked or heads_in(lake) or any(report["findings"] for report in reports)):
        click.echo(f"Nothing to verify: {lake.root} holds nothing yet; first {command('refresh --all')}")
    else:
        for report in reports:
            click.echo("\n".join(report["lines"]))
    whole, unwitnessed = all(r["whole"] for r in reports), any(r["unwitnessed"] for r in reports)
    sys.exit((UNWITNESSED if unwitnessed else 0) if whole else 1)


@audit.command(epilog="Example: g2is audit witness /mnt/elsewhere/witness.jsonl")
@config_option
@click.argument("file_or_url")
def witness(config: Path | None, file_or_url: str) -> None:
    """Record the digests of all that is current and served elsewhere.

    They are added to a file, in one line, or posted to a URL. Nothing is recorded that Dagster's last events
    contradict. `audit verify --witness FILE` compares.
    """
    from g2is_assets.cli.jobs import history
    from g2is_assets.orchestration.auditing import history_of
    from g2is_assets.trail.witness import compare, heads_in, write_witness

    project, lake = open_lake(config)
    heads = heads_in(lake)
    if not heads:
        raise MissingInputError(f"{lake.root} holds nothing yet; refresh a domain first")
    with history(project) as instance:
        witnesses = [history_of(instance)] if instance else []
    findings = compare(lake, {*heads, *(h for w in witnesses for h in w.said)}, witnesses, project.domains)
    if altered := [f"{finding.where}: {finding.what}" for finding in findings if finding.state == "altered"]:
        raise StoreError(f"nothing was recorded; {'; '.join(altered)}")
    n, is_new = write_witness(lake, file_or_url)
    click.echo(
        f"{counted(n, 'digest')} recorded in {file_or_url}"
        if is_new
        else f"{file_or_url} says so already; nothing is new"
    )


@audit.command(epilog="Example: g2is audit show schedule_reasoning --json")
@config_option
@click.argument("domain")
@json_option
def show(config: Path | None, domain: str, as_json: bool) -> None:
    """Print the chain behind a domain's adapter, back to the sources.

    The views audit_lineage, audit_lineage_links and audit_lineage_rows hold the same.
    """
    from g2is_assets.reports.audit import chain_json, chain_lines, origins
    from g2is_assets.reports.words import printable
    from g2is_assets.trail.chain import follow

    _, lake = open_lake(config, domain)
    chain = follow(lake, [lake.current(ADAPTER, domain)])
    mix = origins(lake, chain)
    if as_json:
        return print_json({"domain": domain, "trained_on": mix, "chain": chain_json(chain)})
    mixed = {name: ", ".join(f"{printable(key)} {n}" for key, n in counts.items()) for name, counts in mix.items()}
    print_lines([*(f"Rows trained on, by {name}: {said}" for name, said in mixed.items()), *chain_lines(chain)])


@audit.command(epilog="Example: g2is audit impact --license CC-BY-NC-4.0")
@config_option
@click.option("--row", "row_id", help="A row id, or its first 8 characters or more.")
@click.option("--source", help="All rows of a source.")
@click.option("--license", "license_", help="All rows under a licence.")
@records
def impact(config: Path | None, row_id: str | None, source: str | None, license_: str | None, form: str) -> None:
    """List the adapters exposed to a row, source or licence, and how.

    Past ones too.
    """
    from g2is_assets.reports.audit import exposure_lines, find_row
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
    what = f"row {next(iter(rows))}" if row_id else counted(len(rows), "row")
    count = counted(len(found), "exposure") if found else "no exposure"
    click.echo(f"{what}: {count} in {lake.root}")
    lines = exposure_lines(found, project.domains)
    print_lines([*lines, *(f"not readable, so not looked at: {text}" for text in unreadable)])


@audit.command(epilog="Example: g2is audit versions schedule_reasoning")
@config_option
@click.argument("domain")
@json_option
def versions(config: Path | None, domain: str, as_json: bool) -> None:
    """List the versions of a domain's subset, the newest last.

    With the adapter of each, and what it is worth.
    """
    from g2is_assets.reports.audit import version_lines
    from g2is_assets.store.serving import served_name
    from g2is_assets.trail.subset_diff import chosen_ever

    _, lake = open_lake(config, domain)
    found, served = chosen_ever(lake, domain), served_name(lake.place(ADAPTER, domain))
    if not found:
        raise MissingInputError(
            f"'{domain}' has no subset in {lake.root}; first {command(f'refresh --domain {domain}')}"
        )
    if as_json:
        return print_json(
            [
                {
                    "subset": one.subset.folder.name,
                    "created_at": one.subset.manifest.created_at,
                    "n_rows": one.subset.manifest.n_rows["subset"],
                    "adapter": one.adapter.folder.name if one.adapter else None,
                    "served": one.adapter is not None and one.adapter.folder.name == served,
                    "metrics": one.metrics,
                }
                for one in found
            ]
        )
    print_lines(version_lines(found, served))


@audit.command(epilog="Example: g2is audit diff schedule_reasoning 3f2a91c0 77be12d4")
@config_option
@click.argument("domain")
@click.argument("before", required=False)
@click.argument("after", required=False)
@json_option
def diff(config: Path | None, domain: str, before: str | None, after: str | None, as_json: bool) -> None:
    """Say which rows came and went between two subsets, and why.

    BEFORE and AFTER are version folders of the subset or of an adapter, or their first characters; without AFTER it is
    the newest, and without both the newest two.
    """
    from g2is_assets.reports.audit import difference_lines
    from g2is_assets.trail.subset_diff import chosen_ever, compare, subset_of

    _, lake = open_lake(config, domain)
    if after is None:
        ever = [one.subset.folder.name for one in chosen_ever(lake, domain)]
        if len(ever) < (1 if before else 2):
            raise MissingInputError(f"'{domain}' has fewer than two versions of its subset in {lake.root}")
        before, after = before or ever[-2], ever[-1]
    found = compare(lake, subset_of(lake, domain, str(before)), subset_of(lake, domain, after))
    if as_json:
        names = {"before": found.before.folder.name, "after": found.after.folder.name}
        more = {"n_kept": found.n_kept, "causes": found.causes, "sources": found.sources, "results": found.results}
        return print_json(names | more | {"changes": [asdict(change) for change in found.changes]})
    print_lines(difference_lines(found))


def _reports(
    project: Project,
    lake: "Lake",
    asked: list[str],
    known: list[str],
    kept: "list[Witness]",
    expect: str | None,
    *,
    rest: bool,
) -> list[dict[str, Any]]:
    """What verification says of the adapters of domains or of a version, and of the rest of the lake."""
    from g2is_assets.cli.jobs import history
    from g2is_assets.orchestration.auditing import Examination, examine_rest, history_of

    reports, done = [], list[Examination]()
    with history(project) as instance:
        told = [*([history_of(instance, None if rest else asked[0])] if instance else []), *kept]
    with hashed_anew():
        for name in asked:
            report, found = _report(project, name, expect, told, kept, is_domain=name in known)
            reports.append(report)
            done += [found] if found else []
        if rest:
            found = examine_rest(project, lake, told, done, asked)
            if found.chain or found.findings:
                reports.append(_said("everything else", None, found))
    return reports


def _report(
    project: Project,
    asked: str,
    expect: str | None,
    told: "list[Witness]",
    kept: "list[Witness]",
    *,
    is_domain: bool,
) -> "tuple[dict[str, Any], Examination | None]":
    """What verification says of the adapter that a domain has, or of the version at a path."""
    from g2is_assets.cli.jobs import history
    from g2is_assets.orchestration.auditing import every_event_of, examine
    from g2is_assets.store.lake import Lake
    from g2is_assets.trail.chain import label_of, version_at

    home, current = project.home / "lake", is_domain or asked in project.domains or not Path(asked).exists()
    try:
        lake, head = (Lake(home), Lake(home).current(ADAPTER, asked)) if current else version_at(Path(asked))
    except StoreError as error:  # where a chain begins is part of it
        findings = [{"state": "altered", "where": asked, "what": str(error)}]
        lines = [f"{asked}: BROKEN at its head: {error}"]
        report = {"head": asked, "manifest_sha256": None, "whole": False, "unwitnessed": False, "findings": findings}
        return report | {"lines": lines}, None
    if not current:
        with history(project) if lake.root.resolve() == home.resolve() else nullcontext() as instance:
            told = [*([every_event_of(instance, head)] if instance else []), *kept]
    found = examine(project, lake, head, told, current=current, expect=expect)
    return _said(label_of(head), head.as_input.manifest_sha256, found), found


def _said(head: str, digest: str | None, found: "Examination") -> dict[str, Any]:
    from g2is_assets.reports.audit import finding_lines

    verdict = f"BROKEN, first at {found.broken[0].where}" if found.broken else "whole"
    verdict += ", UNWITNESSED" if found.unwitnessed and not found.broken else ""
    behind = f"{counted(len(found.chain), 'version')} with {counted(found.n_files, 'file')}"
    return {
        "head": head,
        "manifest_sha256": digest,
        "whole": not found.broken,
        "unwitnessed": found.unwitnessed,
        "findings": [asdict(finding) for finding in found.findings],
        "lines": [
            f"{head}: {verdict}",
            f"  head {digest}; {behind} behind it" if digest else f"  {behind}",
            *(f"  {line}" for line in finding_lines(found.findings)),
        ],
    }
