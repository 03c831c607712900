"""What leaves the lake: `g2is withdraw` records rows, `gc --erase` takes them out, `gc` drops what nobody needs."""

import shlex
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from pydantic import ValidationError
from rich.filesize import decimal

from g2is_assets.cli.options import open_lake, print_json
from g2is_assets.cli.tables import print_csv, print_table
from g2is_assets.errors import SettingsError, SourceError, StoreError, command
from g2is_assets.reports.audit import Consequences, adapter_line, consequences, find_row, trained_on
from g2is_assets.reports.words import counted
from g2is_assets.settings.project import Project
from g2is_assets.stages.catalog import kept_up_to_date
from g2is_assets.store.erasure import erase
from g2is_assets.store.gc import KINDS, collect_garbage
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import user_name
from g2is_assets.store.sources import find_files, find_in_files
from g2is_assets.store.withholding import Withdrawal, add_withdrawals, read_withdrawals


def run_withdraw(
    config: Path | None,
    asked: tuple[str, ...],
    reason: str,
    by: str | None,
    as_json: bool,
    *,
    dry_run: bool,
    undo: bool,
) -> None:
    """Withdraw all of these rows, or lift their withdrawals, or, if one is not known, none."""
    project, lake = open_lake(config)
    before = read_withdrawals(project.withdrawn)
    rows = list(dict.fromkeys(row if row in before else find_row(lake, row) for row in asked))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        entries = [Withdrawal(row_id=r, reason=reason, at=at, by=by or user_name(), lifted=undo) for r in rows]
    except ValidationError as error:
        name = error.errors()[0]["loc"][0]
        raise SettingsError(
            f"--{name} is empty or not Unicode; say it again, since the record stands for ever"
        ) from None
    would = [entry for entry in entries if (entry.row_id in before) == undo]
    new = would if dry_run else add_withdrawals(project.withdrawn, entries)
    recorded = {entry.row_id: entry for entry in entries} | before | {entry.row_id: entry for entry in new}
    outcome = [(recorded[row], recorded[row] in new, consequences(lake, row, project.domains)) for row in rows]
    if as_json:
        names = ("asset", "domain", "current")
        records = []
        for entry, is_new, follows in outcome:
            adapters = [{n: getattr(a, n) for n in names} | {"version": a.version.name} for a in follows.adapters]
            told = {"new": is_new, "dry_run": dry_run}
            records.append(entry.model_dump() | told | asdict(follows) | {"adapters": adapters})
        return print_json(records)
    for entry, is_new, follows in outcome:
        _print_withdrawn(entry, is_new, follows, dry_run)


def _print_withdrawn(entry: Withdrawal, is_new: bool, follows: Consequences, dry_run: bool) -> None:
    """What is recorded of a row, or would be, and what follows."""
    would = "would be " if dry_run else ""
    if entry.lifted:
        said = f"{would}withdrawn no more" if is_new else "is not withdrawn; nothing is changed"
        click.echo(f"{entry.row_id} {said} ({entry.reason})")
        if is_new:
            click.echo(
                f"  It may be used again from the next {command('refresh --pool')} on, if a source still holds it."
            )
        return
    already = f"was withdrawn already, on {entry.at} by {entry.by}; nothing is changed"
    click.echo(f"{entry.row_id} {f'{would}withdrawn' if is_new else already} ({entry.reason})")
    for line in follows.lines:
        click.echo(f"  {line}")
    if not dry_run:
        click.echo(f"  Its text and vectors stay in the lake until {command(f'gc --erase {entry.row_id}')}")


def run_erase(config: Path | None, asked: tuple[str, ...], reason: str | None, dry_run: bool, as_json: bool) -> None:
    """Erase these rows, unless one is not withdrawn or still used, and say what still holds something of them."""
    from g2is_assets.orchestration.runs import no_runs

    project, lake = open_lake(config)
    withdrawals = read_withdrawals(project.withdrawn)
    rows = [_withdrawn(lake, row, withdrawals) for row in dict.fromkeys(asked)]
    why = reason or "; ".join(dict.fromkeys(withdrawals[row].reason for row in rows))
    with nullcontext() if dry_run else no_runs(project.home / ".dagster"):
        report = erase(lake, rows, why, kept_up_to_date(project.domains), dry_run=dry_run)
    found, faults = find_in_sources(project, rows)
    adapters = {row: [adapter_line(adapter) for adapter in trained_on(lake, row)] for row in rows}
    shown = _shown_in_history(project, rows)
    if as_json:
        done = {name: [str(item) for item in items] for name, items in asdict(report).items()}
        places = {row: [f"{file}:{line}" for file, line in found.get(row, [])] for row in rows}
        record = {"dry_run": dry_run, **done, "rows": rows, "sources": places, "sources_not_searched": faults}
        print_json(record | {"history": shown, "adapters": adapters})
    else:
        click.echo(
            f"{'Would be erased' if dry_run else 'Erased'}: {counted(len(report.versions), 'version')} rewritten, "
            f"shards among them, {counted(len(report.pruned), 'old one')} pruned, "
            f"{counted(len(report.copies), 'copy', 'copies')} deleted"
        )
        click.echo("Means, principal directions and adapters in which these rows are one of many stay as they are.")
        for row in rows:
            click.echo(row)
            for file, line in found.get(row, []):
                click.echo(f"  still in your source, remove it there: {file}, line {line}")
            if shown[row]:
                home = shlex.quote(str(project.home / ".dagster"))
                wipe = f"DAGSTER_HOME={home} dagster asset wipe {' '.join(shown[row])}"
                click.echo(f"  its beginning is shown in Dagster's history, which this deletes: {wipe}")
            for adapter in adapters[row]:
                click.echo(f"  trained on it and left as it is: {adapter}")
        for fault in faults:
            click.echo(f"not searched: {fault}")
    if report.left_alone:
        raise StoreError("not everything could be searched: " + "; ".join(report.left_alone))


def find_in_sources(project: Project, rows: list[str]) -> tuple[dict[str, list[tuple[str, int]]], list[str]]:
    """Where the project's sources and domain files hold rows; and what is wrong with those that cannot be searched."""
    folder, files, faults = project.path.parent, [], []
    for source in project.settings.instructions.sources:
        try:
            files += [(file, source) for file in find_files(source, folder)]
        except SourceError as error:
            faults.append(str(error))
    own = {str(file) for domain in project.domains.values() for file in (*domain.validation, *domain.test)}
    files += [(file, project.rows_of(Path(file))) for file in sorted(own)]
    found, more = find_in_files(files, folder, rows)
    return found, faults + more


def _shown_in_history(project: Project, rows: list[str]) -> dict[str, list[str]]:
    from g2is_assets.cli.jobs import history
    from g2is_assets.orchestration.auditing import assets_showing

    with history(project) as instance:
        return assets_showing(instance, rows) if instance else {row: [] for row in rows}


def _withdrawn(lake: Lake, asked: str, withdrawals: dict[str, Withdrawal]) -> str:
    row_id = asked if asked in withdrawals else find_row(lake, asked)
    if row_id not in withdrawals:
        raise SettingsError(
            f"row {row_id} is not withdrawn, so it may come back; run "
            f"{command(f'withdraw --row {row_id} --reason ...')}, then {command('refresh --all')}, then erase"
        )
    return row_id


def run_gc(config: Path | None, min_age_hours: float, dry_run: bool, removed: bool, form: str) -> None:
    """Collect the garbage of the project's lake, while no run is in progress, and print what went, or would go."""
    from g2is_assets.orchestration.runs import no_runs

    project, lake = open_lake(config)
    with nullcontext() if dry_run else no_runs(project.home / ".dagster"):
        domains = project.domains if removed else None
        report = collect_garbage(lake, project.settings.keep_versions, 3600 * min_age_hours, domains, dry_run=dry_run)
    sizes = {kind: [item.n_bytes for item in report.removed if item.kind == kind] for kind in KINDS}
    n_bytes = sum(map(sum, sizes.values()))
    if form == "json":
        return print_json(
            {
                "dry_run": dry_run,
                "kinds": {kind: {"n": len(found), "n_bytes": sum(found)} for kind, found in sizes.items()},
                "n_bytes": n_bytes,
                "paths": [str(item.path) for item in report.removed],
                "left_alone": report.left_alone,
            }
        )
    if form == "csv":
        print_csv(["kind", "path", "n_bytes"], [(item.kind, item.path, item.n_bytes) for item in report.removed])
    else:
        totals = {kind: (len(found), sum(found)) for kind, found in sizes.items()}
        totals["total"] = (len(report.removed), n_bytes)
        freed = "would be freed" if dry_run else "freed"
        rows = [{"kind": kind, "number": str(n), freed: decimal(size)} for kind, (n, size) in totals.items()]
        title = "Would leave the lake" if dry_run else "Left the lake"
        print_table(form, rows, right={"number", freed}, title=title)
    for reason in report.left_alone:
        click.echo(f"Left alone: {reason}", err=form == "csv")
