"""How commands print lists: a table that fits the terminal, all columns, JSON or CSV; said once for all of them."""

import csv
import json
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from functools import wraps
from typing import Any, Final

import click
from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from g2is_assets.cli.options import print_json
from g2is_assets.reports.terminal import PastTheFilter, Terminal
from g2is_assets.reports.words import printable

FORMS: Final = {
    "wide": "Print all columns, in lines as long as they need.",
    "json": "Print JSON.",
    "csv": "Print CSV.",
}
CUT: Final = 10
"""Characters that a long text gets at least where a row is to stay one line."""
BORDER: Final = 3
"""Characters between one column and the next."""

Row = Mapping[str, str]
"""What people see of a record: texts by the heads of their columns, the same heads in all rows of a table."""


def _giving(*forms: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command these options of `FORMS`, and call it with `form`: one of them, or `table`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def chosen(*arguments: Any, **options: Any) -> Any:
            asked = [form for form in forms if options.pop(f"as_{form}")]
            if len(asked) > 1:
                raise click.UsageError(f"--{asked[0]} and --{asked[1]} exclude each other")
            return command(*arguments, form=asked[0] if asked else "table", **options)

        for form in reversed(forms):
            chosen = click.option(f"--{form}", f"as_{form}", is_flag=True, help=FORMS[form])(chosen)
        return chosen

    return decorate


listing = _giving("wide", "json", "csv")
"""For commands that print a table."""
records = _giving("json", "csv")
"""For those that print records in words of their own."""


def print_records(form: str, found: Sequence[Mapping[str, Any]]) -> bool:
    """Print records as JSON or CSV, if that was asked for; whether it was."""
    if form == "json":
        print_json(list(found))
    elif form == "csv":
        names = list(dict.fromkeys(name for record in found for name in record))
        print_csv(names, [[record.get(name) for name in names] for record in found])
    return form in ("json", "csv")


def print_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print CSV: what is no plain value as JSON. A file gets every character, a terminal none that commands it."""
    out = csv.writer(sys.stdout if sys.stdout.isatty() else PastTheFilter(sys.stdout), lineterminator="\n")
    out.writerow(columns)
    for row in rows:
        out.writerow(json.dumps(v, ensure_ascii=False) if isinstance(v, list | dict) else v for v in map(plain, row))


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers that are not finite become null, dates and the like text, bytes hex digits."""
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    return value if value is None or isinstance(value, str | int) else str(value)


def print_table(
    form: str,
    rows: Sequence[Row],
    *,
    right: Collection[str] = (),
    extra: Collection[str] = (),
    cut: Collection[str] = (),
    order: Sequence[str] = (),
    title: str = "",
    lines: bool = True,
) -> None:
    """Print a table that is no wider than the terminal: words break at spaces only, and what has no room is named.

    Args:
        form: `table`, or `wide` for all columns however long.
        rows: At least one; what stands in it is made printable here.
        right: Columns of numbers.
        extra: Columns of `wide` alone.
        cut: Columns of long text, of which a table shows the beginning, in one line.
        order: All columns in the order in which they have room where not all do; as they come by default.
        title: Said above.
        lines: Whether there are lines and heads.
    """
    heads = [head for head in rows[0] if form == "wide" or head not in extra]
    texts = {head: [printable(row[head]) for row in rows] for head in heads}
    natural = {head: max(map(cell_len, [printable(head), *texts[head]])) for head in heads}
    console = Terminal(width=sum(natural.values()) + BORDER * len(heads) + 1) if form == "wide" else Terminal()
    least = {}
    for head in heads:
        word = _longest_word([printable(head)] if head in cut else [printable(head), *texts[head]])
        least[head] = max(word, min(CUT, natural[head])) if head in cut else word
    widths = natural if form == "wide" else _widths(natural, least, console.width)
    if len(widths) < len(heads) and order:
        widths = _widths({head: natural[head] for head in order}, least, console.width)
    table = Table(title=Text(printable(title)) if title else None)
    if not lines:
        table = Table(box=None, show_header=False, padding=(0, 1, 0, 2))
    for head, width in widths.items():
        table.add_column(Text(printable(head)), width=width, justify="right" if head in right else "left")
    for n in range(len(rows)):
        table.add_row(*(Text(_cut(texts[h][n], w) if h in cut else texts[h][n]) for h, w in widths.items()))
    console.print(table)
    if left_out := [printable(head) for head in heads if head not in widths]:
        said = f"Too narrow for {', '.join(left_out)}: --wide shows all, --json and --csv print all."
        console.print(said, markup=False, highlight=False)


def _longest_word(texts: Sequence[str]) -> int:
    return max((cell_len(word) for text in texts for word in text.split()), default=1)


def _widths(natural: Mapping[str, int], least: Mapping[str, int], total: int) -> dict[str, int]:
    """Widths of the columns that fit, the first ones: each gets what it must have, then the narrowest what is left."""
    heads = list(natural)
    while len(heads) > 1 and sum(least[head] for head in heads) + BORDER * len(heads) + 1 > total:
        heads.pop()
    widths = {head: least[head] for head in heads}
    for _ in range(total - sum(widths.values()) - BORDER * len(heads) - 1):
        if not (wanting := [head for head in heads if widths[head] < natural[head]]):
            break
        widths[min(wanting, key=lambda head: widths[head])] += 1
    return {head: min(width, max(1, total - BORDER - 1)) for head, width in widths.items()}


def _cut(text: str, width: int) -> str:
    """The beginning of a text, up to a space if one is near, with dots where it goes on."""
    if cell_len(text) <= width:
        return text
    beginning = set_cell_size(text, width - 1)
    at = beginning.rfind(" ")  # a space before the dots says that the word before them is whole
    return f"{beginning[: at + 1] if 2 * at > width else beginning}…"
