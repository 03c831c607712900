"""`g2is withdraw`: record that rows may no longer be used, and say what follows."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from pydantic import ValidationError

from g2is_assets.errors import SettingsError
from g2is_assets.reports.rows import find_row
from g2is_assets.reports.withdrawal import Consequences, consequences
from g2is_assets.settings.project import load_project
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import user_name
from g2is_assets.store.withdrawals import Withdrawal, add_withdrawals, read_withdrawals


def run_withdraw(config: Path | None, asked: tuple[str, ...], reason: str, by: str | None, as_json: bool) -> None:
    """Withdraw all of these rows or, if one is not known, none.

    Raises:
        G2isError: A row is not known, or the file of withdrawals is damaged.
    """
    project = load_project(config)
    lake = Lake(project.home / "lake")
    rows = list(dict.fromkeys(find_row(lake, row) for row in asked))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        entries = [Withdrawal(row_id=row, reason=reason, at=at, by=by or user_name()) for row in rows]
    except ValidationError as error:
        name = error.errors()[0]["loc"][0]
        raise SettingsError(
            f"--{name} is empty or not Unicode; say it again, since the record stands for ever"
        ) from None
    new = {entry.row_id for entry in add_withdrawals(project.withdrawn, entries)}
    recorded = read_withdrawals(project.withdrawn)
    outcome = [(recorded[row], row in new, consequences(lake, row)) for row in rows]
    if as_json:
        click.echo(json.dumps([_as_json(*each) for each in outcome], indent=2))
        return
    for entry, is_new, follows in outcome:
        said = "withdrawn" if is_new else f"was withdrawn already, on {entry.at} by {entry.by}; nothing is changed"
        click.echo(f"{entry.row_id} {said} ({entry.reason})")
        for line in follows.lines:
            click.echo(f"  {line}")
        click.echo(f"  Its text and vectors stay in the lake until: g2is gc --erase {entry.row_id}")


def _as_json(entry: Withdrawal, is_new: bool, follows: Consequences) -> dict[str, object]:
    names = ("asset", "domain", "current")
    adapters = [{n: getattr(a, n) for n in names} | {"version": a.version.name} for a in follows.adapters]
    return entry.model_dump() | {"new": is_new} | asdict(follows) | {"adapters": adapters}
