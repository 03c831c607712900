"""From rows as read to the tables: equal rows merged, unusable rows kept apart with their reason."""

from typing import Any

import polars as pl
import pytest

from g2is_assets.contracts import instructions as contracts
from g2is_assets.contracts.rows import Instruction, Unusable
from g2is_assets.errors import ContractError
from g2is_assets.training.instructions import examples, normalise
from g2is_assets.training.text import Template


def row(question: str, response: str = "Yes.", **values: Any) -> Instruction:
    given = {"source": "s", "license": "MIT", "file": "pool.jsonl", "line": 1} | values
    return Instruction(messages=({"role": "user", "content": question},), response=response, **given)


@pytest.fixture(scope="module")
def template(tools: Any) -> Template:
    return Template(tools.tokenizer(), max_length=64)


def test_rows_are_sorted_by_row_id_with_the_tokens_counted(template: Template):
    given = [row(f"Question {i}?") for i in range(8)]
    found = normalise(given, template)
    assert [record["row_id"] for record in found.rows] == sorted(item.row_id for item in given)
    assert found.n_merged == 0
    assert found.rejected.is_empty()
    for record in found.rows:
        prompt, completion = template.render(record["messages"], record["response"])
        counted = [len(template.tokenizer(text)["input_ids"]) for text in (prompt, completion)]
        assert [record["n_prompt_tokens"], record["n_response_tokens"]] == counted
        assert not record["truncated"]


def test_the_order_of_the_files_does_not_matter(template: Template):
    given = [row("a", id="1", source="x"), row("b"), row("a", id="2", source="y"), row("c")]
    assert normalise(given, template).rows == normalise(given[::-1], template).rows


def test_equal_rows_are_merged_with_all_their_sources_licences_and_ids(template: Template):
    given = [
        row("a", id="z", source="first", license="MIT"),
        row("b"),
        row("a", id="k", source="second", license="Apache-2.0", answer="Yes", choices=("Yes", "No")),
        row("a", source="first", license="MIT"),
    ]
    found = normalise(given, template)
    merged = next(record for record in found.rows if record["prompt"] == "a")
    assert len(found.rows) == 2
    assert found.n_merged == 2
    assert merged["sources"] == ["first", "second"]
    assert merged["licenses"] == ["Apache-2.0", "MIT"]
    assert merged["ids"] == ["k", "z"]
    assert merged["n_merged"] == 3
    assert (merged["answer"], merged["choices"]) == ("Yes", ["Yes", "No"])


def test_rows_that_differ_in_the_response_only_stay_apart(template: Template):
    found = normalise([row("a", "Yes."), row("a", "No.")], template)
    assert sorted(record["response"] for record in found.rows) == ["No.", "Yes."]


def test_unusable_rows_are_kept_apart_with_place_and_reason(template: Template):
    bad = Unusable("pool.jsonl", 7, "id7", "s", "no response")
    long = row("x" * 100, id="long", line=9)
    found = normalise([bad, row("a"), long], template)
    n_prompt, _ = template.token_counts(long.messages, long.response)
    assert [record["prompt"] for record in found.rows] == ["a"]
    assert found.rejected.to_dicts() == [
        {"file": "pool.jsonl", "line": 7, "id": "id7", "source": "s", "reason": "no response"},
        {
            "file": "pool.jsonl",
            "line": 9,
            "id": "long",
            "source": "s",
            "reason": f"no response left: the prompt's {n_prompt} tokens fill max_length = 64",
        },
    ]
    assert dict(found.rejected.schema) == dict(contracts.REJECTED.schema)


def test_a_response_that_is_cut_is_marked_and_counted_as_it_is_used(template: Template):
    found = normalise([row("a", "y" * 200)], template)
    (record,) = found.rows
    example = template.encode("a", record["messages"], record["response"])
    assert example is not None
    assert record["truncated"]
    assert record["n_prompt_tokens"] + record["n_response_tokens"] == example.n_tokens == 64


def test_a_limit_keeps_the_first_rows_by_row_id(template: Template):
    given = [row(f"Question {i}?") for i in range(10)]
    limited = normalise(given, template, limit=4)
    assert limited.rows == normalise(given, template).rows[:4]
    assert normalise(given, template, limit=99).rows == normalise(given, template).rows


def test_a_row_that_joins_displaces_at_most_one_from_a_limited_pool(template: Template):
    given = [row(f"Question {i}?") for i in range(10)]
    before, after = (
        {record["row_id"] for record in normalise(some, template, limit=4).rows} for some in (given[:-1], given)
    )
    assert len(before - after) <= 1


def test_no_rows_at_all_give_empty_tables(template: Template):
    found = normalise([], template)
    assert (found.rows, found.n_merged, len(found.rejected)) == ([], 0, 0)
    assert found.table(contracts.POOL.schema).schema == pl.Schema(contracts.POOL.schema)


def test_the_table_has_the_contracts_columns(template: Template):
    table = normalise([row("a"), row("b")], template).table(contracts.POOL.schema)
    assert dict(table.schema) == dict(contracts.POOL.schema)
    assert len(table) == 2


def test_the_examples_of_a_table_are_its_rows_encoded_in_order(template: Template):
    table = normalise([row("a"), row("b", "y" * 200)], template).table(contracts.POOL.schema)
    found = examples(table, template)
    assert [example.row_id for example in found] == table["row_id"].to_list()
    counted = (table["n_prompt_tokens"] + table["n_response_tokens"]).to_list()
    assert [example.n_tokens for example in found] == counted


def test_a_table_made_with_a_larger_max_length_is_refused(template: Template, tools: Any):
    table = normalise([row("abc" * 8)], template).table(contracts.POOL.schema)
    with pytest.raises(ContractError, match=f"{table['row_id'][0]} has no response within max_length.*again"):
        examples(table, Template(tools.tokenizer(), max_length=16))
