"""From rows as read to the instructions tables: tokens counted, duplicates merged, unusable rows set aside."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from g2is_assets.contracts import instructions as contracts
from g2is_assets.contracts.rows import Instruction, Unusable
from g2is_assets.errors import ContractError
from g2is_assets.training.text import Example, Template


@dataclass(frozen=True)
class Instructions:
    """Usable rows, sorted by row id, and those set aside.

    Attributes:
        rows: One record per distinct row, with the columns of the pool's contract.
        rejected: Contract `rejected rows`.
        n_merged: Rows that were merged into an equal one.
    """

    rows: list[dict[str, Any]]
    rejected: pl.DataFrame
    n_merged: int

    def table(self, schema: pl.Schema) -> pl.DataFrame:
        """The rows as a frame with these columns."""
        return pl.DataFrame([{name: row[name] for name in schema} for row in self.rows], schema=schema)


def normalise(found: Iterable[Instruction | Unusable], template: Template, limit: int | None = None) -> Instructions:
    """Count tokens, merge equal rows (all sources, licences and ids kept) and set aside those without a response.

    Args:
        found: Rows as read, usable or not.
        template: Renders and cuts rows.
        limit: Keep only the first rows by row id, which is a hash: a repeatable random sample.
    """
    rows: dict[str, dict[str, Any]] = {}
    rejected: list[Unusable] = []
    n_merged = 0
    for item in found:
        if isinstance(item, Unusable):
            rejected.append(item)
            continue
        row_id = item.row_id
        if row_id in rows:
            _merge(rows[row_id], item)
            n_merged += 1
            continue
        prompt, completion = template.token_counts(item.messages, item.response)
        kept = min(completion, template.max_length - prompt)
        if kept < 1:
            reason = f"no response left: the prompt's {prompt} tokens fill max_length = {template.max_length}"
            rejected.append(Unusable(item.file, item.line, item.id, item.source, reason))
            continue
        rows[row_id] = {
            "row_id": row_id,
            "ids": [item.id] if item.id else [],
            "sources": [item.source],
            "licenses": [item.license],
            "messages": [dict(message) for message in item.messages],
            "prompt": item.prompt,
            "response": item.response,
            "n_prompt_tokens": prompt,
            "n_response_tokens": kept,
            "truncated": kept < completion,
            "n_merged": 1,
            "answer": item.answer,
            "choices": list(item.choices) if item.choices else None,
        }
    ordered = [rows[row_id] for row_id in sorted(rows)][:limit]
    records = [{"file": r.file, "line": r.line, "id": r.id, "source": r.source, "reason": r.reason} for r in rejected]
    return Instructions(ordered, pl.DataFrame(records, schema=contracts.REJECTED.schema), n_merged)


def _merge(row: dict[str, Any], item: Instruction) -> None:
    row["sources"] = sorted({*row["sources"], item.source})
    row["licenses"] = sorted({*row["licenses"], item.license})
    row["ids"] = sorted({*row["ids"], item.id}) if item.id else row["ids"]
    row["answer"] = row["answer"] or item.answer
    row["choices"] = row["choices"] or (list(item.choices) if item.choices else None)
    row["n_merged"] += 1


def examples(table: pl.DataFrame, template: Template) -> list[Example]:
    """Token ids of every row of a table with `row_id`, `messages` and `response`, in its order.

    Raises:
        ContractError: A row has no response left, though such rows are set aside when the table is made.
    """
    encoded = []
    for row in table.iter_rows(named=True):
        example = template.encode(row["row_id"], row["messages"], row["response"])
        if example is None:
            raise ContractError(
                f"row {row['row_id']} has no response within max_length; materialise instructions again"
            )
        encoded.append(example)
    return encoded
