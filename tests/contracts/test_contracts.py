"""A table keeps its contract or is refused with table, column and row."""

from typing import Any

import polars as pl
import pytest

from g2is_assets.contracts import graph, knowledge
from g2is_assets.contracts.contract import Column, Contract
from g2is_assets.contracts.tables import TABLES, main_table
from g2is_assets.errors import ContractError
from g2is_assets.trail.exposure import KINDS

CONTRACTS = list({id(contract): contract for contract in TABLES.values()}.values())

PEOPLE = Contract(
    (),
    "people",
    "A table to break",
    {
        "name": Column(pl.String, "Who", unique=True),
        "share": Column(pl.Float64, "A share", minimum=0, maximum=1),
        "age": Column(pl.Int64, "Years, where known", nullable=True, minimum=0),
    },
    sorted_by=("name",),
)


def people(**changed: Any) -> pl.DataFrame:
    columns = {"name": ["a", "b", "c"], "share": [0.0, 0.5, 1.0], "age": [3, None, 0]} | changed
    return pl.DataFrame(columns, schema_overrides={"age": pl.Int64} if "age" not in changed else None)


def refusal(table: pl.DataFrame, contract: Contract = PEOPLE, where: str = "") -> str:
    with pytest.raises(ContractError) as refused:
        contract.validate(table, where)
    return str(refused.value)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_every_contract_says_what_its_table_and_columns_mean(contract: Contract) -> None:
    assert contract.meaning.strip()
    assert contract.columns
    assert [name for name, column in contract.columns.items() if not column.meaning.strip()] == []


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_every_contract_is_sorted_by_columns_it_has_and_accepts_the_empty_table(contract: Contract) -> None:
    assert set(contract.sorted_by) <= contract.columns.keys()
    empty = pl.DataFrame(schema=contract.schema)
    assert contract.validate(empty) is empty


def test_contracts_have_names_of_their_own() -> None:
    names = [contract.name for contract in CONTRACTS]
    assert len(names) >= 15
    assert len(names) == len(set(names))


def test_every_asset_has_one_main_table() -> None:
    for asset in {asset for asset, _ in TABLES}:
        assert [key for key, contract in TABLES.items() if key[0] == asset and contract.main] == [
            (asset, main_table(asset).table)
        ]


def test_row_ids_are_those_of_assets_that_there_are() -> None:
    owners = {column.row_of for contract in CONTRACTS for column in contract.columns.values()}
    assert owners == {"", "instructions/pool", "instructions/target"}


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_what_becomes_of_a_table_can_be_done_with_its_columns(contract: Contract) -> None:
    """Rows are blanked and looked up by `row_id`; what stays whole, or of a pruned table, holds no text."""
    if contract.texts or contract.exposure:
        assert "row_id" in contract.columns
    assert not contract.texts or contract.pruned != "whole"
    assert not any(column.kept and column.text for column in contract.columns.values())
    assert contract.exposure != "split" or "split" in contract.columns
    assert contract.exposure in {"", "split", *KINDS}
    for name, column in contract.texts.items():
        values = pl.Series(name, [], dtype=contract.schema[name])
        blank = pl.select(column.blank(values).alias(name)).to_series()
        assert blank.dtype == values.dtype
        assert column.nullable or not blank.null_count()


def test_a_right_table_comes_back_itself() -> None:
    table = people()
    assert PEOPLE.validate(table) is table


def test_the_bounds_themselves_are_allowed_and_a_missing_value_where_the_contract_says_so() -> None:
    assert PEOPLE.validate(people(share=[0.0, 1.0, 1.0]))["age"].null_count() == 1


def test_another_type_is_refused() -> None:
    message = refusal(people(share=[0, 0, 1]))
    assert message == "people: columns differ from the contract (share: Int64 instead of Float64)"


def test_a_missing_column_is_refused() -> None:
    message = refusal(people().drop("age"))
    assert message.startswith("people: ")
    assert "age: None instead of Int64" in message


def test_an_extra_column_is_refused() -> None:
    message = refusal(people(extra=[1, 2, 3]))
    assert message.startswith("people: ")
    assert "extra: Int64 instead of None" in message


def test_another_order_of_columns_is_refused() -> None:
    assert refusal(people().select("share", "name", "age")) == (
        "people: columns differ from the contract (their order)"
    )


def test_a_missing_value_is_refused_by_column_and_row() -> None:
    message = refusal(people(share=[0.0, None, None]))
    assert message == "people: column share, row 1: value is missing (2 of 3 rows)"


def test_a_repeated_value_is_refused_by_column_and_row() -> None:
    message = refusal(people(name=["a", "b", "b"]))
    assert message == "people: column name, row 1: value is repeated (2 of 3 rows)"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_refused_by_column_and_row(value: float) -> None:
    message = refusal(people(share=[0.0, 0.5, value]))
    assert message == "people: column share, row 2: value is not finite (1 of 3 rows)"


def test_a_value_below_the_minimum_is_refused_by_column_and_row() -> None:
    assert refusal(people(share=[0.0, -0.01, 1.0])) == ("people: column share, row 1: value is below 0 (1 of 3 rows)")
    assert "column age, row 2: value is below 0" in refusal(people(age=[None, 0, -1]))


def test_a_value_above_the_maximum_is_refused_by_column_and_row() -> None:
    message = refusal(people(share=[1.01, 0.5, 1.0]))
    assert message == "people: column share, row 0: value is above 1 (1 of 3 rows)"


def test_rows_out_of_order_are_refused_by_column() -> None:
    message = refusal(people(name=["a", "c", "b"]))
    assert message.startswith("people: ")
    assert "rows are not sorted by name" in message


def test_rows_are_ordered_by_all_named_columns() -> None:
    pairs = Contract(
        (), "pairs", "Two keys", dict.fromkeys(("x", "y"), Column(pl.Int64, "A key")), sorted_by=("x", "y")
    )
    right = pl.DataFrame({"x": [1, 1, 2], "y": [1, 2, 0]})
    assert pairs.validate(right) is right
    assert "not sorted by x, y" in refusal(pl.DataFrame({"x": [1, 1, 2], "y": [2, 1, 0]}), pairs)


def test_the_place_of_the_table_stands_in_the_message() -> None:
    assert refusal(people(name=["a", "a", "b"]), where="lake/people/v1").startswith("people (lake/people/v1): column")


def test_vectors_may_have_any_width_and_no_other_type() -> None:
    contract = knowledge.COMPONENTS
    row = {"domain": "d", "component": 0, "weight": 1.0, "variance_share": 0.5, "flipped": False}
    for width in (1, 3):
        table = pl.DataFrame([row | {"direction": [1.0] * width}], schema=contract.schema_of_width(width))
        assert contract.validate(table) is table
    other = table.cast({"direction": pl.Array(pl.Float64, 3)})
    assert "direction: Array(Float64) instead of Array(Float32)" in refusal(other, contract)


def test_cosines_may_overshoot_by_rounding_only() -> None:
    edge = {"row_id": "a", "other_row_id": "b", "relation": "neighbor", "rank": 0}
    tables = [pl.DataFrame([edge | {"cosine": cosine}], schema=graph.EDGES.schema) for cosine in (1 + 2e-16, 1 + 1e-9)]
    assert graph.EDGES.validate(tables[0]) is tables[0]
    assert "column cosine, row 0: value is above" in refusal(tables[1], graph.EDGES)
