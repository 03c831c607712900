"""`g2is sql`: questions to the lake's views, as a table, JSON or CSV; without a question, the views themselves."""

import csv
import json
import math
import sys
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import click
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from g2is_assets.cli.options import open_lake, print_json
from g2is_assets.reports.words import printable
from g2is_assets.store.query import Answer, View, ask, list_views

SHOWN_ROWS: Final = 40
"""Rows of a table in a terminal, unless it is said otherwise."""
MIN_WIDTH: Final = 10
"""Characters that a long column of a table gets at least; columns for which there is no room are left out."""
BORDER: Final = 3
"""Characters between one column and the next."""


def run_sql(config: Path | None, query: str | None, limit: int | None, form: str) -> None:
    """Print the answer to a query, or without one the views, as `table`, `json` or `csv`."""
    _, lake = open_lake(config)
    if query is None:
        return _print_views(list_views(lake), form)
    answer = ask(lake, query, SHOWN_ROWS if limit is None and form == "table" else limit)
    if form == "json":
        print_json([dict(zip(answer.columns, map(_plain, row), strict=True)) for row in answer.rows])
    elif form == "csv":
        _print_csv(answer.columns, answer.rows)
    else:
        _print_table(answer)
    if answer.more:
        said = f"Only the first {len(answer.rows)} rows; there are more: raise --limit."
        click.echo(said, err=form != "table")


def _print_views(views: list[View], form: str) -> None:
    if form == "json":
        names = ("name", "type", "meaning")
        columns = [[dict(zip(names, column, strict=True)) for column in view.columns] for view in views]
        records = [asdict(view) | {"columns": each} for view, each in zip(views, columns, strict=True)]
        print_json(records)
    elif form == "csv":
        _print_csv(["view", "column", "type", "meaning"], [(v.name, *column) for v in views for column in v.columns])
    else:
        console = Console()
        for view in views:
            console.print(Text.assemble((view.name, "bold"), f"  {view.meaning}" if view.meaning else ""))
            table = Table(box=None, show_header=False, padding=(0, 1, 0, 2))
            for name, kind, meaning in view.columns:
                # What a struct is made of is told by --json.
                short = f"STRUCT{'[]' if kind.endswith('[]') else ''}" if kind.startswith("STRUCT") else kind
                table.add_row(Text(name), Text(short), Text(meaning or ""))
            console.print(table)


def _print_table(answer: Answer) -> None:
    console = Console()
    cells = [[_cell(value) for value in row] for row in answer.rows]
    natural = [max(cell_len(name), *(cell_len(row[n]) for row in cells), 1) for n, name in enumerate(answer.columns)]
    widths = _widths(natural, console.width)
    table = Table()
    for n, width in enumerate(widths):
        is_number = all(isinstance(row[n], int | float | None) and not isinstance(row[n], bool) for row in answer.rows)
        side: JustifyMethod = "right" if is_number and answer.rows else "left"
        table.add_column(Text(answer.columns[n]), width=width, no_wrap=True, overflow="ellipsis", justify=side)
    for row in cells:
        table.add_row(*map(Text, row[: len(widths)]))
    console.print(table)
    if left_out := answer.columns[len(widths) :]:
        click.echo(f"Too narrow for {', '.join(left_out)}: name the columns you want, or use --json.")
    if not answer.rows:
        click.echo("No rows.")


def _widths(natural: list[int], total: int) -> list[int]:
    """Widths of the columns that fit: each gets what it needs or `MIN_WIDTH`, then the widest share what is left."""
    widths = [min(MIN_WIDTH, width) for width in natural]
    while len(widths) > 1 and sum(widths) + BORDER * len(widths) + 1 > total:
        widths.pop()
    for _ in range(total - sum(widths) - BORDER * len(widths) - 1):
        wanting = [n for n, width in enumerate(widths) if width < natural[n]]
        if not wanting:
            break
        widths[min(wanting, key=lambda n: widths[n])] += 1
    return widths


def _cell(value: Any) -> str:
    """A value in one line of a terminal."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    plain = _plain(value)
    return printable(json.dumps(plain, ensure_ascii=False) if isinstance(plain, list | dict) else str(plain))


def _plain(value: Any) -> Any:
    """A value as JSON has it: numbers that are not finite become null, dates and the like text, bytes hex digits."""
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return value if value is None or isinstance(value, str | int) else str(value)


def _print_csv(columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(columns)
    for row in rows:
        values = map(_plain, row)
        out.writerow(json.dumps(v, ensure_ascii=False) if isinstance(v, list | dict) else v for v in values)
