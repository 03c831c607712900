"""What a contract is and how a table is held to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from g2is_assets.errors import ContractError


@dataclass(frozen=True)
class Column:
    """One column: its type, its meaning for people, and what its values may be."""

    dtype: pl.DataType | type[pl.DataType]
    meaning: str
    nullable: bool = False
    unique: bool = False
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Contract:
    """A table's columns in order, and the columns that it is sorted by."""

    name: str
    meaning: str
    columns: Mapping[str, Column]
    sorted_by: tuple[str, ...] = field(default=())

    @property
    def schema(self) -> pl.Schema:
        """Column types by name, for building an empty or typed frame."""
        return pl.Schema({name: column.dtype for name, column in self.columns.items()})

    def validate(self, table: pl.DataFrame, where: str = "") -> pl.DataFrame:
        """The table itself, if it keeps the contract.

        Raises:
            ContractError: Columns or types differ, a value is missing, repeated, out of bounds or not a number, or the
                rows are not in order. The message names the table, the column and the first offending row.
        """
        label = f"{self.name}{f' ({where})' if where else ''}"
        wanted = self.schema
        if table.schema != wanted:
            differing = [n for n in {**wanted, **table.schema} if wanted.get(n) != table.schema.get(n)]
            pairs = ", ".join(f"{n}: {table.schema.get(n)} instead of {wanted.get(n)}" for n in differing)
            raise ContractError(f"{label}: columns differ from the contract ({pairs or 'their order'})")
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
