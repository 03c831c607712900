"""`g2is sql`: questions to the lake's views, as a table, JSON or CSV; without a question, the views themselves."""

import json
from collections.abc import Collection
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import click

from g2is_assets.cli.options import open_lake, print_json
from g2is_assets.cli.tables import plain, print_csv, print_records, print_table
from g2is_assets.errors import command
from g2is_assets.reports.words import counted, printable
from g2is_assets.store.query import Answer, View, ask, list_views

SHOWN_ROWS: Final = 40
"""Rows of a table in a terminal, unless it is said otherwise."""


def run_sql(config: Path | None, query: str | None, limit: int | None, form: str) -> None:
    """Print the answer to a query, or without one the views, as `table`, `wide`, `json` or `csv`."""
    _, lake = open_lake(config)
    if query is None:
        return _print_views(list_views(lake), form)
    if query.isidentifier() and (asked := [view for view in list_views(lake) if view.name == query]):
        return _print_columns(asked[0], form)
    is_table = form not in ("json", "csv")
    answer = ask(lake, query, SHOWN_ROWS if limit is None and is_table else limit)
    if form == "json":
        print_json([dict(zip(answer.columns, map(plain, row), strict=True)) for row in answer.rows])
    elif form == "csv":
        print_csv(answer.columns, answer.rows)
    else:
        _print_answer(answer, form)
    if answer.more:
        said = f"Only the first {counted(len(answer.rows), 'row')}; there are more: raise --limit."
        click.echo(said, err=not is_table)


def _print_views(views: list[View], form: str) -> None:
    if form == "json":
        names = ("name", "type", "meaning")
        columns = [[dict(zip(names, column, strict=True)) for column in view.columns] for view in views]
        records = [asdict(view) | {"columns": each} for view, each in zip(views, columns, strict=True)]
        print_json(records)
    elif form == "csv":
        print_csv(["view", "column", "type", "meaning"], [(v.name, *column) for v in views for column in v.columns])
    else:
        rows = [{"view": view.name, "rows": _cell(view.n_rows), "meaning": view.meaning or ""} for view in views]
        print_table(form, rows, right={"rows"}, cut={"meaning"})
        click.echo(f"The columns of one, and what they mean: {command(f'sql {views[0].name}')}")


def _print_columns(view: View, form: str) -> None:
    found = [dict(zip(("column", "type", "meaning"), column, strict=True)) for column in view.columns]
    if print_records(form, found):
        return
    rows = []
    for name, kind, meaning in view.columns:
        # What a struct is made of is told by --json.
        short = f"STRUCT{'[]' if kind.endswith('[]') else ''}" if kind.startswith("STRUCT") else kind
        rows.append({"column": name, "type": short, "meaning": meaning or ""})
    print_table(form, rows, title=view.meaning or "")


def _print_answer(answer: Answer, form: str) -> None:
    if not answer.rows:
        return click.echo(f"No rows; the columns: {', '.join(map(printable, answer.columns))}")
    numbers = {
        name
        for n, name in enumerate(answer.columns)
        if all(isinstance(row[n], int | float | Decimal | None) and not isinstance(row[n], bool) for row in answer.rows)
    }
    rows = [dict(zip(answer.columns, map(_cell, row), strict=True)) for row in answer.rows]
    packed = {name for n, name in enumerate(answer.columns) if any(isinstance(r[n], list | dict) for r in answer.rows)}
    order = sorted(answer.columns, key=lambda name: _rank(name, packed))
    print_table(form, rows, right=numbers, cut=set(answer.columns) - numbers, order=order)


def _rank(name: str, packed: Collection[str]) -> int:
    """What people read comes first, prompts before all, ids and what other records are packed in last."""
    from g2is_assets.contracts.instructions import POOL

    if name in packed or name.endswith("id"):
        return 3
    said = POOL.texts.get(name)
    return 0 if name == "prompt" else 1 if said and not said.nullable else 2


def _cell(value: Any) -> str:
    """A value in one line of a terminal."""
    if value is None:
        return ""
    if isinstance(value, float | Decimal):
        return f"{value:.6g}"
    found = plain(value)
    return json.dumps(found, ensure_ascii=False) if isinstance(found, list | dict) else str(found)
