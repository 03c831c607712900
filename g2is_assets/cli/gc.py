"""`g2is gc`: drop from the lake what nothing refers to, and say what it was."""

import json
from contextlib import nullcontext
from pathlib import Path

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from g2is_assets.settings.project import load_project
from g2is_assets.store.gc import KINDS, Report, collect_garbage
from g2is_assets.store.lake import Lake


def run_gc(config: Path | None, min_age_hours: float, dry_run: bool, as_json: bool) -> None:
    """Collect the garbage of the project's lake and print what went, or would go.

    Raises:
        G2isError: The settings are wrong, a run is in progress, or a file of the lake cannot be read or deleted.
    """
    from g2is_assets.orchestration.runs import no_runs

    project = load_project(config)
    lake = Lake(project.home / "lake")
    with nullcontext() if dry_run else no_runs(project.home / ".dagster"):
        report = collect_garbage(lake, project.settings.keep_versions, 3600 * min_age_hours, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps(_as_json(report, dry_run), indent=2))
        return
    console = Console()
    console.print(_as_table(report, dry_run))
    for reason in report.left_alone:
        console.print(f"Left alone: {reason}", markup=False, highlight=False, soft_wrap=True)


def _totals(report: Report) -> dict[str, tuple[int, int]]:
    """Number and bytes by kind, also where there was nothing."""
    sizes = {kind: [item.n_bytes for item in report.removed if item.kind == kind] for kind in KINDS}
    return {kind: (len(found), sum(found)) for kind, found in sizes.items()}


def _as_json(report: Report, dry_run: bool) -> dict[str, object]:
    totals = _totals(report)
    return {
        "dry_run": dry_run,
        "kinds": {kind: {"n": n, "n_bytes": n_bytes} for kind, (n, n_bytes) in totals.items()},
        "n_bytes": sum(n_bytes for _, n_bytes in totals.values()),
        "paths": [str(item.path) for item in report.removed],
        "left_alone": report.left_alone,
    }


def _as_table(report: Report, dry_run: bool) -> Table:
    totals = _totals(report)
    table = Table(title="Would leave the lake" if dry_run else "Left the lake", show_footer=True)
    table.add_column("kind", "total")
    table.add_column("number", str(len(report.removed)), justify="right")
    freed = decimal(sum(n_bytes for _, n_bytes in totals.values()))
    table.add_column("would be freed" if dry_run else "freed", freed, justify="right")
    for kind, (n, n_bytes) in totals.items():
        table.add_row(kind, str(n), decimal(n_bytes))
    return table
