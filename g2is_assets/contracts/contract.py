"""What a contract is: all that is to be known of a table, and how a table is held to it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
import polars as pl

from g2is_assets.errors import ContractError

Pruned = Literal["whole", "ids", "nothing"]
Exposure = Literal["", "trained on", "random baseline", "warmup", "split"]
_ANY_WIDTH: Final = 0


@dataclass(frozen=True)
class Column:
    """One column: its type, its meaning for people, what its values may be, and what becomes of them.

    Attributes:
        dtype: Its type; `vector(...)` where the width depends on settings.
        meaning: For people: the description in the UI and in `g2is sql`.
        nullable: Whether values may be missing.
        unique: Whether no value comes twice.
        minimum, maximum: Bounds, themselves allowed.
        text: Whether it holds what a row says, in words or as a vector; an erasure of the row leaves `blank` there.
        row_of: The asset whose rows' ids stand here, where it is one asset: column lineage leads there.
        kept: Whether it stays, in the list of row ids, when its table is pruned: without text, and enough to tell
            years later which adapters hold rows of a source or a licence.
        part: The asset of which versions are named here: parts that the version with this table is made of.
    """

    dtype: pl.DataType | type[pl.DataType]
    meaning: str
    nullable: bool = False
    unique: bool = False
    minimum: float | None = None
    maximum: float | None = None
    text: bool = False
    row_of: str = ""
    kept: bool = False
    part: str = ""

    def blank(self, values: pl.Series) -> pl.Expr:
        """What an erasure leaves of one of these values: nothing, the empty list, the empty text or zeros."""
        dtype: Any = values.dtype
        zeros = bytes(len(values[0]) if len(values) else 0) if dtype == pl.Binary else 0.0 if dtype.is_numeric() else ""
        value: Any = None if self.nullable else [] if isinstance(dtype, pl.List) else zeros
        return pl.lit(pl.Series([value], dtype=dtype))


def vector(inner: type[pl.DataType]) -> pl.Array:
    """The type of vectors whose width depends on settings: a table may have them in any one width."""
    return pl.Array(inner, _ANY_WIDTH)


def type_name(dtype: Any) -> str:
    """A column's type for people, whatever the width of its vectors and the fields of its records."""
    if isinstance(dtype, pl.Array | pl.List):
        return f"{type(dtype).__name__}({type_name(dtype.inner)})"
    return "Struct" if isinstance(dtype, pl.Struct) else str(dtype)


def row_id(meaning: str, of: str = "", *, unique: bool = False) -> Column:
    """The column `row_id`: which row a line is about."""
    return Column(pl.String, meaning, unique=unique, row_of=of, kept=True)


def pool_row(meaning: str, *, nullable: bool = False) -> Column:
    """A column that names a row of the pool besides the one that a line is about."""
    return Column(pl.String, meaning, nullable=nullable, row_of="instructions/pool")


def count(meaning: str, *, unique: bool = False) -> Column:
    """A column of whole numbers from 0."""
    return Column(pl.Int64, meaning, unique=unique, minimum=0)


def share(meaning: str, *, nullable: bool = False) -> Column:
    """A column of numbers in [0, 1]."""
    return Column(pl.Float64, meaning, nullable=nullable, minimum=0, maximum=1)


DOMAIN: Final = Column(pl.String, "The target domain")


@dataclass(frozen=True)
class Contract:
    """A table: whose it is, what it means, its columns in order, and what becomes of it.

    Attributes:
        assets: The assets that have such a table.
        table: Its name, and that of its file.
        meaning: For people.
        columns: By name, in order.
        sorted_by: Columns that its rows are sorted by.
        main: Whether it is its assets' main table: it gives them their row count, columns and first rows in the UI.
        pruned: What stays when a version is pruned: the `whole` table, since it holds ids and numbers and no text; the
            `ids` of its rows, with its other columns `kept`; or `nothing`, where its rows were not used, or not all of
            them, and their ids would seem to have been.
        exposure: What it means for an adapter that a row of this table is behind it: a kind of exposure, or `split` if
            that column says the kind; empty if nothing.
        quoted: Whether the UI shows the text of its rows, which stands in another asset's table.
        uses_rows: Whether its rows are in use, so that none can be erased before its current version is made anew.
    """

    assets: tuple[str, ...]
    table: str
    meaning: str
    columns: Mapping[str, Column]
    sorted_by: tuple[str, ...] = ()
    main: bool = False
    pruned: Pruned = "ids"
    exposure: Exposure = ""
    quoted: bool = False
    uses_rows: bool = True

    @property
    def file(self) -> str:
        """Name of its file in a version."""
        return f"{self.table}.parquet"

    @property
    def name(self) -> str:
        """What messages call it: the asset and the table, where that has another name; of a shared one the table."""
        if len(self.assets) != 1:
            return self.table
        return self.assets[0] + ("" if self.assets[0].endswith(f"/{self.table}") else f" {self.table}")

    @property
    def texts(self) -> dict[str, Column]:
        """The columns that hold what a row says."""
        return {name: column for name, column in self.columns.items() if column.text}

    @property
    def schema(self) -> pl.Schema:
        """Column types by name, for building an empty or typed frame."""
        return self.schema_of_width(_ANY_WIDTH)

    def schema_of_width(self, width: int) -> pl.Schema:
        """The same with vectors of that width."""
        return pl.Schema({name: _of_width(column.dtype, width) for name, column in self.columns.items()})

    def write(self, table: pl.DataFrame, to: Path | BinaryIO) -> None:
        """Write a table that keeps the contract as its Parquet file."""
        table.write_parquet(to, compression="zstd")

    def table_of(self, records: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
        """A table of records, which may have more than its columns."""
        return pl.DataFrame([{name: record[name] for name in self.columns} for record in records], schema=self.schema)

    def validate(self, table: pl.DataFrame, where: str = "") -> pl.DataFrame:
        """The table itself, if it keeps the contract.

        Raises:
            ContractError: Columns or types differ, a value is missing, repeated, out of bounds or not a number, or the
                rows are not in order. The message names the table, the column and the first offending row.
        """
        label = f"{self.name}{f' ({where})' if where else ''}"
        wanted = self.schema
        found = {name: _of_width(dtype, _ANY_WIDTH) for name, dtype in table.schema.items()}
        if list(found.items()) != list(wanted.items()):
            differing = [n for n in {**wanted, **found} if wanted.get(n) != found.get(n)]
            said = [f"{n}: {type_name(found.get(n))} instead of {type_name(wanted.get(n))}" for n in differing]
            raise ContractError(f"{label}: columns differ from the contract ({', '.join(said) or 'their order'})")
        for name, column in self.columns.items():
            self._validate_column(label, name, column, table[name])
        if self.sorted_by and not table.select(self.sorted_by).equals(
            table.select(self.sorted_by).sort(self.sorted_by, maintain_order=True)
        ):
            raise ContractError(f"{label}: rows are not sorted by {', '.join(self.sorted_by)}")
        return table

    def _validate_column(self, label: str, name: str, column: Column, values: pl.Series) -> None:
        def refuse(bad: pl.Series, fault: str) -> None:
            if (row := bad.arg_true()).len():
                raise ContractError(
                    f"{label}: column {name}, row {row[0]}: {fault} ({row.len()} of {len(values)} rows)"
                )

        if not column.nullable:
            refuse(values.is_null(), "value is missing")
        if column.unique:
            refuse(values.is_duplicated(), "value is repeated")
        if values.dtype.is_float():
            refuse((~values.is_finite()).fill_null(False), "value is not finite")
        elif isinstance(values.dtype, pl.Array) and values.dtype.inner.is_float() and len(values):
            refuse(pl.Series(~np.isfinite(values.to_numpy()).all(axis=1)), "an entry is not finite")
        if column.minimum is not None:
            refuse((values < column.minimum).fill_null(False), f"value is below {column.minimum}")
        if column.maximum is not None:
            refuse((values > column.maximum).fill_null(False), f"value is above {column.maximum}")


def _of_width(dtype: Any, width: int) -> Any:
    """A vector's type in another width; any other type as it is."""
    return pl.Array(dtype.inner, width) if isinstance(dtype, pl.Array) else dtype
