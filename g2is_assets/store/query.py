"""Questions to the lake's DuckDB views: read-only, and sealed off from every file but the lake's."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from g2is_assets.contracts.tables import views
from g2is_assets.errors import MissingInputError, SettingsError, StoreError, command
from g2is_assets.store.files import refusal
from g2is_assets.store.lake import Lake
from g2is_assets.store.views import DATABASE


@dataclass(frozen=True)
class Answer:
    """What a query gave.

    Attributes:
        columns: Their names; one that came twice ends in `_1`, so that no value hides another.
        rows: As many as were asked for.
        more: Whether further rows were left out.
    """

    columns: list[str]
    rows: list[tuple[Any, ...]]
    more: bool


@dataclass(frozen=True)
class View:
    """A view: its name, what it holds, and of every column the name, the type and the meaning, where it is known.

    Without a size, a file behind it is gone or damaged, which a query says more of.
    """

    name: str
    meaning: str | None
    n_rows: int | None
    columns: list[tuple[str, str, str | None]]


def ask(lake: Lake, asked: str, limit: int | None = None) -> Answer:
    """The answer to one SELECT (or FROM, WITH, SHOW, DESCRIBE, SUMMARIZE), with so many rows at most.

    Raises:
        MissingInputError: There is no lake yet.
        SettingsError: The query is faulty, wants to write or reads files elsewhere.
        StoreError: A file behind a view is gone or damaged.
    """
    with _sealed(lake) as connection, _explained(lake):
        found = connection.extract_statements(asked)
        if len(found) != 1 or found[0].type != duckdb.StatementType.SELECT:
            what = f"{len(found)} statements" if len(found) != 1 else f"a statement of type {found[0].type.name}"
            raise SettingsError(f"one SELECT is needed, and this is {what}; the views can only be read")
        result = connection.execute(asked)
        rows = result.fetchall() if limit is None else result.fetchmany(limit + 1)
        columns = _distinct([name for name, *_ in result.description])
    return Answer(columns, rows[:limit], limit is not None and len(rows) > limit)


def list_views(lake: Lake) -> list[View]:
    """Every view by name.

    Raises:
        MissingInputError: There is no lake yet.
    """
    sql = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal ORDER BY 1, column_index"
    contracts = views()
    columns: dict[str, list[tuple[str, str, str | None]]] = {}
    for view, name, kind in ask(lake, sql).rows:
        known = contracts[view].columns.get(name) if view in contracts else None
        columns.setdefault(view, []).append((name, kind, known.meaning if known else None))
    held = {name: contracts[name].meaning if name in contracts else None for name in columns}
    return [View(name, held[name], n_rows, columns[name]) for name, n_rows in _sizes(lake, columns)]


def _sizes(lake: Lake, names: Iterable[str]) -> Iterator[tuple[str, int | None]]:
    with _sealed(lake) as connection:
        for name in names:
            try:
                (n_rows,) = connection.table(f'"{name}"').aggregate("count(*)").fetchall()[0]
            except duckdb.Error:
                n_rows = None
            yield name, n_rows


@contextmanager
def _sealed(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection whose settings cannot be changed.

    Views over Parquet files need access to files, so that is allowed below the lake and nowhere else, neither on this
    machine nor on the network: `read_csv('/etc/passwd')` is refused. Files of the lake can be read directly as well,
    which old versions need. Writing is refused twice, by the read-only database and, since `COPY ... TO` could write
    into the allowed folder, by taking nothing but one SELECT. What does not fit in memory is spilt to a scratch folder.
    """
    file = lake.root / DATABASE
    if not file.is_file():
        raise MissingInputError(
            f"{file} does not exist: nothing has been materialised yet; run {command('refresh --all')} first"
        )
    with tempfile.TemporaryDirectory(prefix="g2is-sql-") as scratch:
        try:
            connection = duckdb.connect(str(file), read_only=True, config={"python_enable_replacements": False})
        except duckdb.Error as error:
            raise StoreError(
                f"{file} cannot be opened: {_first_line(error)}; close other programs that write to it, or delete it: "
                "the next refresh makes it anew"
            ) from error
        with connection:
            connection.execute("SET temp_directory = ?", [scratch])
            connection.execute("SET allowed_directories = ?", [[f"{lake.root.resolve()}/"]])
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield connection


@contextmanager
def _explained(lake: Lake) -> Iterator[None]:
    try:
        yield
    except duckdb.PermissionException as error:
        raise SettingsError(
            f"{_first_line(error)}; a query can read the lake alone, {lake.root} (if it was moved there, the next "
            "refresh rebuilds its views)"
        ) from error
    except duckdb.IOException as error:
        mend = refusal(error) or f"{_first_line(error)}; a refresh mends the lake and rebuilds its views"
        raise StoreError(mend) from error
    except duckdb.Error as error:
        names = f" ({command('sql')} lists the views)"
        unknown = isinstance(error, duckdb.CatalogException | duckdb.BinderException)
        raise SettingsError(f"{_first_line(error)}{names if unknown else ''}") from error


def _first_line(error: Exception) -> str:
    """DuckDB's message up to its picture of the query: what was wrong and, where it has one, its guess."""
    lines = str(error).split("\nLINE ")[0].splitlines()
    return " ".join(line.strip() for line in lines if line.strip()) or type(error).__name__


def _distinct(names: list[str]) -> list[str]:
    taken: list[str] = []
    for name in names:
        candidates = (name, *(f"{name}_{n}" for n in range(1, len(names) + 1)))
        taken.append(next(candidate for candidate in candidates if candidate not in taken))
    return taken
