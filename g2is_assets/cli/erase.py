"""`g2is gc --erase`: text and vectors of withdrawn rows leave every version in the lake."""

import json
from contextlib import nullcontext
from pathlib import Path

import click

from g2is_assets.errors import SettingsError, SourceError, StoreError
from g2is_assets.reports.rows import find_row
from g2is_assets.reports.withdrawal import adapter_line, trained_on
from g2is_assets.settings.config import Source
from g2is_assets.settings.project import Project, load_project
from g2is_assets.store.erasure import Erased, erase
from g2is_assets.store.lake import Lake
from g2is_assets.store.sources import find_files, find_in_files
from g2is_assets.store.withdrawals import Withdrawal, read_withdrawals


def run_erase(config: Path | None, asked: tuple[str, ...], reason: str | None, dry_run: bool, as_json: bool) -> None:
    """Erase these rows, and say what still holds something of them.

    Raises:
        G2isError: A run is in progress, a row is not withdrawn or still used, or a part of the lake is damaged and
            could not be searched.
    """
    from g2is_assets.orchestration.runs import no_runs

    project = load_project(config)
    lake = Lake(project.home / "lake")
    withdrawals = read_withdrawals(project.withdrawn)
    rows = [_withdrawn(lake, row, withdrawals) for row in dict.fromkeys(asked)]
    why = reason or "; ".join(dict.fromkeys(withdrawals[row].reason for row in rows))
    with nullcontext() if dry_run else no_runs(project.home / ".dagster"):
        report = erase(lake, rows, why, set(project.domains), dry_run=dry_run)
    found, faults = find_in_sources(project, rows)
    adapters = {row: trained_on(lake, row) for row in rows}
    shown = _shown_in_history(project, rows)
    if as_json:
        record = _as_json(report, dry_run) | {
            "rows": rows,
            "sources": {row: [f"{file}:{line}" for file, line in found.get(row, [])] for row in rows},
            "sources_not_searched": faults,
            "history": shown,
            "adapters": {row: [adapter_line(adapter) for adapter in adapters[row]] for row in rows},
        }
        click.echo(json.dumps(record, indent=2))
    else:
        click.echo("\n".join(_lines(report, dry_run)))
        for row in rows:
            click.echo(row)
            for file, line in found.get(row, []):
                click.echo(f"  still in your source, remove it there: {file}, line {line}")
            if shown[row]:
                wipe = f"DAGSTER_HOME={project.home / '.dagster'} dagster asset wipe {' '.join(shown[row])}"
                click.echo(f"  its beginning is shown in Dagster's history, which this deletes: {wipe}")
            for adapter in adapters[row]:
                click.echo(f"  trained on it and left as it is: {adapter_line(adapter)}")
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
    files += [(file, Source(path=file)) for file in sorted(own)]
    found, more = find_in_files(files, folder, rows)
    return found, faults + more


def _shown_in_history(project: Project, rows: list[str]) -> dict[str, list[str]]:
    from g2is_assets.cli.instance import open_instance, prepare_instance
    from g2is_assets.orchestration.history import assets_showing

    if not (project.home / ".dagster").is_dir():
        return {row: [] for row in rows}
    with open_instance(prepare_instance(project)) as instance:
        return assets_showing(instance, rows)


def _withdrawn(lake: Lake, asked: str, withdrawals: dict[str, Withdrawal]) -> str:
    row_id = asked if asked in withdrawals else find_row(lake, asked)
    if row_id not in withdrawals:
        raise SettingsError(
            f"row {row_id} is not withdrawn, so it may come back; run: g2is withdraw --row {row_id} --reason ..., then "
            "refresh, then erase"
        )
    return row_id


def _lines(report: Erased, dry_run: bool) -> list[str]:
    counts = (
        f"{len(report.versions)} versions and {len(report.shards)} gradient shards rewritten, {len(report.pruned)} old "
        f"versions pruned, {len(report.copies)} copies deleted"
    )
    return [
        ("Would be erased: " if dry_run else "Erased: ") + counts,
        "Means, principal directions and adapters in which these rows are one of many stay as they are.",
    ]


def _as_json(report: Erased, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "versions": [str(path) for path in report.versions],
        "shards": report.shards,
        "pruned": [str(path) for path in report.pruned],
        "copies": [str(path) for path in report.copies],
        "left_alone": report.left_alone,
    }
