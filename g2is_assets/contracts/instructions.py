"""Tables of the stage `instructions`: normalised rows, and those set aside; and a row before it is in one of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from g2is_assets.contracts.contract import DOMAIN, Column, Contract, count, row_id
from g2is_assets.hashing import json_sha256

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
    "n_prompt_tokens": count("Tokens of the rendered prompt"),
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


@dataclass(frozen=True)
class Instruction:
    """One usable row, before tokenization.

    Attributes:
        messages: The prompt's turns, each with `role` and `content`.
        response: The last assistant turn.
        source, license: As the row says, else as its pool source says, else the file's name and `unknown`.
        id, answer, choices: As the row says.
        file, line: Where it stands.
    """

    messages: tuple[Mapping[str, str], ...]
    response: str
    source: str
    license: str
    file: str
    line: int
    id: str | None = None
    answer: str | None = None
    choices: tuple[str, ...] | None = None

    @property
    def row_id(self) -> str:
        """Content hash: 128 bits over messages and response."""
        return json_sha256([[dict(m) for m in self.messages], self.response])[:32]

    @property
    def prompt(self) -> str:
        """The prompt's turns as text, for people."""
        if len(self.messages) == 1:
            return self.messages[0]["content"]
        return "\n".join(f"{m['role']}: {m['content']}" for m in self.messages)


@dataclass(frozen=True)
class Unusable:
    """A row set aside, with its reason."""

    file: str
    line: int
    id: str | None
    source: str
    reason: str
