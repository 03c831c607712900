"""Tables of the stage `instructions`: rows as they were read, and those set aside; and a row before it is in one."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from g2is_assets.contracts.contract import DOMAIN, Column, Contract, count, row_id
from g2is_assets.hashing import json_sha256

TURN_KEYS: Final = ("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name")
"""What a turn may say; those that it does not say are null in tables. `tool_calls` is JSON."""

_DIGEST: Final = "First 32 hex digits of the SHA-256 of the turns and tools"
CONVERSATION: Final = {
    "messages": Column(
        pl.List(pl.Struct(dict.fromkeys(TURN_KEYS, pl.String()))),
        "Every turn before the chat template, the assistant's response last; `tool_calls` is JSON",
        text=True,
    ),
    "tools": Column(pl.String, "Definitions of tools as JSON, where the row has some", nullable=True, text=True),
    "response": Column(pl.String, "The last turn as text: what the model is to answer", text=True),
}
"""A row as the chat template needs it, in the pool, in domains and in the warmup's sample."""

CONTENT: Final = {
    "row_id": row_id(_DIGEST, unique=True),
    **CONVERSATION,
    "prompt": Column(pl.String, "The turns before the response as text, for people", text=True),
    "n_prompt_tokens": count("Tokens within max_length that carry no loss"),
    "n_response_tokens": Column(
        pl.Int64, "Tokens within max_length that carry loss: of the answers, ends of turn included", minimum=1
    ),
    "truncated": Column(pl.Boolean, "Whether max_length cut the row"),
    "lost": Column(pl.List(pl.String), "What tokenizer and chat template do not keep of the row, in words"),
    "n_thoughts": count("Answers whose reasoning carries loss"),
}
"""What equal rows have in common."""
LABELS: Final = {"ids": "id", "sources": "source", "licenses": "license"}
"""Columns of what equal rows are called, and what each of these says of itself; exports have the columns."""
MENTION: Final = {
    "row_id": pl.String(),
    **dict.fromkeys(LABELS, pl.List(pl.String())),
    "answer": pl.String(),
    "choices": pl.List(pl.String()),
    "preferred": pl.Boolean(),
}
"""What each of them says of itself."""
_ROW: Final = {
    "row_id": CONTENT["row_id"],
    "ids": Column(pl.List(pl.String), "Every id that the sources gave this row", text=True),
    "sources": Column(pl.List(pl.String), "Every source that holds this row, sorted", kept=True),
    "licenses": Column(
        pl.List(pl.String),
        "Every licence under which it was found, sorted; `unknown` where none is said",
        kept=True,
    ),
    **CONTENT,
    "preferred": Column(pl.Boolean, "Whether a source has the response as the chosen one of a preference pair"),
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
        "file": Column(pl.String, "File, URI, or file of a data set on the hub"),
        "line": Column(pl.Int64, "Line where it begins; in JSON arrays and Parquet the row's number", minimum=1),
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


def count_lost(table: pl.DataFrame) -> dict[str, int]:
    """Of how many rows tokenizer and chat template do not keep something, by what that is, most first."""
    kinds = table["lost"].explode().drop_nulls().value_counts().sort(["count", "lost"], descending=[True, False])
    return dict(kinds.iter_rows())


def count_tokens(table: pl.DataFrame) -> int:
    """Tokens of all rows of such a table, prompts and responses."""
    return int(table.select(pl.sum("n_prompt_tokens", "n_response_tokens")).sum_horizontal().item())


Turn = Mapping[str, Any]
"""One turn: `role`, `content` as text, and of `TURN_KEYS` what else it says; `tool_calls` as a list."""


@dataclass(frozen=True)
class Instruction:
    """One usable row, before tokenization.

    Attributes:
        turns: All turns, the last is the assistant's.
        source, license: As the row says, else as its pool source says, else the file's name and `unknown`.
        id, answer, choices: As the row says; the answer is one of the choices.
        tools: Definitions of tools.
        preferred: Whether the response is the chosen one of a pair.
        more: Further ids, sources and licences by column, of a row that was merged of several before.
        file, line: Where it stands.
    """

    turns: tuple[Turn, ...]
    source: str
    license: str
    file: str
    line: int
    id: str | None = None
    answer: str | None = None
    choices: tuple[str, ...] | None = None
    tools: tuple[Any, ...] = ()
    preferred: bool = False
    more: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, list[str]]:
        """All ids, sources and licences by column."""
        own = {many: getattr(self, one) for many, one in LABELS.items()}
        return {many: [label for label in (one, *self.more.get(many, ())) if label] for many, one in own.items()}

    @property
    def row_id(self) -> str:
        """Content hash: 128 bits over turns and tools; arguments of calls count by what they say, in JSON or not."""
        *before, last = (
            {**turn, "tool_calls": [with_arguments(call, decoded) for call in turn["tool_calls"]]}
            if "tool_calls" in turn
            else dict(turn)
            for turn in self.turns
        )
        said: list[Any] = [before, last["content"] if last.keys() == {"role", "content"} else last]
        return json_sha256(said + ([list(self.tools)] if self.tools else []))[:32]

    @property
    def response(self) -> str:
        """The last turn as text."""
        return turn_text(self.turns[-1])

    @property
    def prompt(self) -> str:
        """The turns before it as text, for people."""
        before = self.turns[:-1]
        if len(before) == 1:
            return turn_text(before[0])
        return "\n".join(f"{turn['role']}: {turn_text(turn)}" for turn in before)


def stored(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Turns as the column `messages` holds them."""
    calls = [{"tool_calls": json.dumps(turn["tool_calls"])} if "tool_calls" in turn else {} for turn in turns]
    return [dict(turn) | call for turn, call in zip(turns, calls, strict=True)]


def turns_of(row: Mapping[str, Any]) -> tuple[Sequence[Turn], Sequence[Any]]:
    """Turns and tools of a table's row, as `Instruction` has them."""
    turns: list[dict[str, Any]] = [
        {name: value for name, value in turn.items() if value is not None} for turn in row["messages"]
    ]
    for turn in turns:
        if "tool_calls" in turn:
            turn["tool_calls"] = json.loads(turn["tool_calls"])
    return turns, json.loads(row["tools"] or "[]")


def with_arguments(call: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A call of a tool with other arguments."""
    function = call["function"]
    return {**call, "function": {**function, "arguments": change(function.get("arguments", {}))}}


def decoded(arguments: Any) -> Any:
    """Arguments as a table, as templates want them, if they are the JSON of one."""
    try:
        found = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return arguments
    return found if isinstance(found, dict) else arguments


def encoded(arguments: Any) -> str:
    """Arguments as text: their JSON, if they are no text yet."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def turn_text(turn: Turn) -> str:
    """What a turn says; its calls as JSON where it says nothing else."""
    calls = json.dumps(turn["tool_calls"], ensure_ascii=False) if turn.get("tool_calls") else ""
    return "\n".join(part for part in (turn["content"], calls) if part)


@dataclass(frozen=True)
class Unusable:
    """A row set aside, with its reason."""

    file: str
    line: int
    id: str | None
    source: str
    reason: str
