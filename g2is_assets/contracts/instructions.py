"""Tables of the stage `instructions`: normalised rows, and the rows set aside with their reason."""

from typing import Final

import polars as pl

from g2is_assets.contracts.contract import DOMAIN, Column, Contract, row_id

MESSAGES: Final = pl.List(pl.Struct({"role": pl.String(), "content": pl.String()}))

_DIGEST: Final = "First 32 hex digits of the SHA-256 of messages and response"
_ROW: Final = {
    "row_id": row_id(_DIGEST, unique=True),
    "ids": Column(pl.List(pl.String), "Every id that the sources gave this row", text=True),
    "sources": Column(pl.List(pl.String), "Every source that holds this row, sorted", kept=True),
    "licenses": Column(
        pl.List(pl.String),
        "Every licence under which it was found, sorted; `unknown` where none is said",
        kept=True,
    ),
    "messages": Column(MESSAGES, "The prompt's turns, before the chat template", text=True),
    "prompt": Column(pl.String, "The prompt's turns as text, for people", text=True),
    "response": Column(pl.String, "What the model is to answer; the only part that carries loss", text=True),
    "n_prompt_tokens": Column(pl.Int64, "Tokens of the rendered prompt", minimum=0),
    "n_response_tokens": Column(pl.Int64, "Response tokens left within max_length, end token included", minimum=1),
    "truncated": Column(pl.Boolean, "Whether max_length cut the response"),
    "answer": Column(pl.String, "Short exact answer, where the row has one", nullable=True, text=True),
    "choices": Column(pl.List(pl.String), "Candidate answers, where the row has some", nullable=True, text=True),
    "n_merged": Column(pl.Int64, "How many equal rows were merged into this one, itself included", minimum=1),
}

POOL: Final = Contract(
    ("instructions/pool",), "pool", "One row per distinct instruction", _ROW, sorted_by=("row_id",), main=True
)

TARGET: Final = Contract(
    ("instructions/target",),
    "target",
    "A domain's validation rows (they steer selection) and test rows (they only measure)",
    {
        "domain": DOMAIN,
        "split": Column(pl.String, "`validation` or `test`", kept=True),
        **_ROW,
        "row_id": row_id(_DIGEST),
    },
    sorted_by=("split", "row_id"),
    main=True,
    exposure="split",
)

REJECTED: Final = Contract(
    ("instructions/pool", "instructions/target"),
    "rejected",
    "Rows that cannot be used, each with its reason; nothing is dropped silently",
    {
        "file": Column(pl.String, "File or URI"),
        "line": Column(pl.Int64, "Line of a JSONL file, row of a Parquet file, counted from 1", minimum=1),
        "id": Column(pl.String, "The row's id, where it has one", nullable=True),
        "source": Column(pl.String, "The row's source"),
        "reason": Column(pl.String, "Why it was set aside"),
    },
)

WITHHELD: Final = Contract(
    ("instructions/pool", "instructions/target"),
    "withheld",
    "Usable rows that may not be used; they are in no sample, subset or baseline drawn since",
    {
        "row_id": row_id("The row", unique=True),
        "ids": _ROW["ids"],
        "sources": _ROW["sources"],
        "licenses": _ROW["licenses"],
        "reason": Column(pl.String, "`withdrawn` by request, or `license`: one of its licences is denied"),
        "detail": Column(pl.String, "The request's reason, or the licences in question"),
    },
    sorted_by=("row_id",),
    pruned="nothing",
    uses_rows=False,
)


def count_tokens(table: pl.DataFrame) -> int:
    """Tokens of all rows of such a table, prompts and responses."""
    return int(table.select(pl.sum("n_prompt_tokens", "n_response_tokens")).sum_horizontal().item())
