"""From rows as read to token ids: the instructions tables, truncation, and batches."""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Final

import polars as pl

from g2is_assets.contracts import instructions as contracts
from g2is_assets.contracts.instructions import TURN_KEYS, Instruction, Turn, Unusable, stored, turns_of
from g2is_assets.errors import ContractError, ModelError
from g2is_assets.hashing import json_sha256
from g2is_assets.settings.config import AfterTurn, Turns
from g2is_assets.training.kept import split_thought
from g2is_assets.training.rendering import ChatTemplate, RefusedRow, Rendered

IGNORED: Final = -100
"""Label of tokens that carry no loss."""

RULES: Final = "2"
"""Version of what becomes of a row; in the digest of the template."""
N_ID: Final = 32
"""Characters of a row id."""
ROWS_AT_ONCE: Final = 1000
"""Rows that are tokenized together."""


@dataclass(frozen=True)
class Example:
    """One row as token ids.

    Attributes:
        row_id: The row.
        input_ids: All tokens within max_length.
        n_prompt: Where the response begins, which carries loss to the end; all tokens where max_length cut it off.
        earlier: Earlier answers that carry loss, from and to.
    """

    row_id: str
    input_ids: list[int]
    n_prompt: int
    earlier: tuple[tuple[int, int], ...] = ()

    @property
    def n_tokens(self) -> int:
        """All tokens."""
        return len(self.input_ids)

    @property
    def n_loss(self) -> int:
        """Tokens that carry loss."""
        return self.n_tokens - self.n_prompt + sum(stop - first for first, stop in self.earlier)

    @property
    def labels(self) -> list[int]:
        """The ids where they carry loss."""
        labels = [IGNORED] * self.n_prompt + self.input_ids[self.n_prompt :]
        for first, stop in self.earlier:
            labels[first:stop] = self.input_ids[first:stop]
        return labels

    def features(self) -> dict[str, list[int]]:
        """What transformers' collator pads: `input_ids`, `attention_mask` and `labels`."""
        return {"input_ids": self.input_ids, "attention_mask": [1] * self.n_tokens, "labels": self.labels}

    def cut(self, max_length: int) -> "Example":
        """The first tokens."""
        kept = ((first, min(stop, max_length)) for first, stop in self.earlier if first < max_length)
        return Example(self.row_id, self.input_ids[:max_length], min(self.n_prompt, max_length), tuple(kept))


class Template(ChatTemplate):
    """Rows as tokens: the ids that template and tokenizer write together, cut at `max_length`."""

    def __init__(self, tokenizer: Any, max_length: int, **rendering: Any) -> None:
        """Look at the template, which is told `rendering` (as `ChatTemplate` has it: system, turns, …)."""
        if not tokenizer.is_fast:
            raise ModelError("the tokenizer does not tell where its tokens stand; set a model with tokenizer.json")
        super().__init__(tokenizer, **rendering)
        self.max_length = max_length
        self._added_ids = set(tokenizer.added_tokens_decoder)

    def encode(
        self, row_id: str, turns: Sequence[Turn], tools: Sequence[Any] = (), carry: Turns | None = None
    ) -> Example:
        """Token ids of a whole row, not cut; raises as `render` does."""
        (example,) = self.tokens([(row_id, self.render(turns, tools, carry))])
        return example

    def tokens(self, rows: Sequence[tuple[str, Rendered]]) -> list[Example]:
        """Token ids of rendered rows, not cut."""
        texts = [rendered.text for _, rendered in rows]
        if not texts:
            return []
        encoded = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        found = []
        for (row_id, rendered), ids, offsets in zip(rows, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            # Blanks that a tokenizer puts before words stand, by their offsets, behind them.
            firsts = list(accumulate((first for first, _ in reversed(offsets)), min))[::-1]
            stops = list(accumulate((stop for _, stop in offsets), max))
            spans = []
            for first, stop in rendered.answers:
                # A token that is partly of an answer carries loss: else a blank that it begins with would take it away.
                at = bisect_right(stops, first)
                # But one of the template's own, which only takes up the answer's blanks, does not.
                at += at < len(ids) and ids[at] in self._added_ids and bool(rendered.text[firsts[at] : first].strip())
                spans.append((at, max(at, bisect_left(firsts, stop))))
            found.append(Example(row_id, list(ids), spans[-1][0], tuple(spans[:-1])))
        return found

    def prompt_ids(self, turns: Sequence[Turn], tools: Sequence[Any] = ()) -> list[int]:
        """Token ids from which a model goes on to answer as the last turn does, with a thought or without."""
        thought = {"reasoning_content": "any thought"} if split_thought(turns[-1])[0].strip() else {}
        row = self.encode("", [*turns[:-1], {"role": "assistant", "content": "any response", **thought}], tools, "last")
        return row.input_ids[: row.n_prompt]


def template_digest(
    folder: Path, max_length: int, system: str | None, turns: Turns, after_turn: AfterTurn, day: date
) -> str:
    """SHA-256 of what determines the token ids, besides the tokenizer's files; those are read, nothing is loaded."""
    kept = [after_turn] if after_turn == "keep" else []  # where nothing is kept, digests are those of before
    return json_sha256([RULES, chat_templates(folder), max_length, system, turns, day.isoformat(), *kept])


def chat_templates(folder: Path) -> Any:
    """The chat templates of a model folder, from where transformers takes them; None where there is none.

    Raises:
        ModelError: `tokenizer_config.json` is no JSON.
    """
    config = folder / "tokenizer_config.json"
    own = [folder / "chat_template.jinja", *sorted((folder / "additional_chat_templates").glob("*.jinja"))]
    if own[0].is_file():
        return [file.read_text(encoding="utf-8") for file in own]
    if not config.is_file():
        return None
    try:
        return json.loads(config.read_text(encoding="utf-8")).get("chat_template")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{config} is damaged: {error}; get the model again") from error


def collator(tokenizer: Any) -> Any:
    """Transformers' collator: pads ids, mask and labels of a list of `Example.features()` to the longest."""
    from transformers import DataCollatorForSeq2Seq

    return DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=IGNORED)


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group positions into `lengths`, tokens per row, shortest first, so that rows × longest stays in `batch_tokens`.

    Equal lengths keep their order, so the plan depends on the lengths alone. A row longer than that is a batch of its
    own.
    """
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        # Sorted by length, so the row at hand is the batch's longest.
        if batches and (len(batches[-1]) + 1) * lengths[position] <= batch_tokens:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches


@dataclass(frozen=True)
class Instructions:
    """Usable rows, sorted by row id, and those set aside.

    Attributes:
        rows: One row per distinct row, with the columns of the pool's contract.
        rejected: Contract `rejected rows`.
    """

    rows: pl.DataFrame
    rejected: pl.DataFrame

    @property
    def n_merged(self) -> int:
        """Rows that were merged into an equal one."""
        return int(self.rows["n_merged"].sum()) - len(self.rows)


def normalise(found: Iterable[Instruction | Unusable], template: Template, limit: int | None = None) -> Instructions:
    """Count tokens, merge equal rows (all sources, licences and ids kept) and set aside those that cannot be used.

    With a limit, only the first rows by row id are kept; as that is a hash, they are a repeatable random sample.
    """
    known: set[str] = set()
    tables, labels = [_table([], _CONTENT)], [_table([], contracts.MENTION)]
    rejected: list[Unusable] = []
    rows = iter(found)
    while some := [(_key(row) if isinstance(row, Instruction) else "", row) for row in islice(rows, ROWS_AT_ONCE)]:
        new = {key: row for key, row in some if isinstance(row, Instruction) and key not in known}
        usable, refused = _encoded(new, template)
        known |= usable.keys()
        rejected += [
            row if isinstance(row, Unusable) else Unusable(row.file, row.line, row.id, row.source, refused[key])
            for key, row in some
            if key not in known
        ]
        tables.append(_table([_record(*each) for each in usable.values()], _CONTENT))
        mentions = [(key[:N_ID], row) for key, row in some if key in known and isinstance(row, Instruction)]
        labels.append(
            _table([vars(row) | row.labels | {"row_id": row_id} for row_id, row in mentions], contracts.MENTION)
        )
    return Instructions(
        _merged(tables, labels).slice(0, limit),
        contracts.REJECTED.table_of(map(vars, rejected)),
    )


def _key(row: Instruction) -> str:
    """The row's id, and how its calls and definitions are written where there are some: equal ones may be otherwise."""
    said = [row.tools, *(turn["tool_calls"] for turn in row.turns if "tool_calls" in turn)]
    return row.row_id + (json_sha256(json.dumps(said)) if any(said) else "")


def _encoded(
    rows: Mapping[str, Instruction], template: Template
) -> tuple[dict[str, tuple[Instruction, Rendered, Example, int]], dict[str, str]]:
    """Rows as text and tokens, cut, by row id; and why others cannot be used."""
    rendered: dict[str, Rendered] = {}
    usable, refused = {}, {}
    for row_id, row in rows.items():
        try:
            rendered[row_id] = template.render(row.turns, row.tools)
        except RefusedRow as error:
            refused[row_id] = str(error)
    for whole in template.tokens(list(rendered.items())):
        row, example = rows[whole.row_id], whole.cut(template.max_length)
        first = min(start for start, _ in (*whole.earlier, (whole.n_prompt, 0)))
        if not example.n_loss:
            reason = f"no response left: the prompt's {first} tokens fill max_length = {template.max_length}"
            refused[whole.row_id] = reason
        elif row.answer is not None and example.n_prompt == example.n_tokens:
            refused[whole.row_id] = f"its answer is asked after more than max_length = {template.max_length} tokens"
        else:
            text = rendered[whole.row_id]
            if example.n_tokens == whole.n_tokens and not _decodes(template, example, text):
                text = replace(text, lost=(*text.lost, "characters that the tokenizer does not know"))
            usable[whole.row_id] = row, text, example, whole.n_tokens
    return usable, refused


def _decodes(template: Template, example: Example, rendered: Rendered) -> bool:
    """Whether the tokens that carry loss say the answers, but for white space."""
    ids = [label for label in example.labels if label != IGNORED]
    text = template.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    said = "".join(rendered.text[first:stop] for first, stop in rendered.answers)
    return "".join(said.split()) in "".join(text.split())


def _record(row: Instruction, rendered: Rendered, example: Example, n_tokens: int) -> dict[str, Any]:
    return {
        "row_id": example.row_id[:N_ID],
        "messages": stored(row.turns),
        "tools": json.dumps(row.tools) if row.tools else None,
        "response": row.response,
        "prompt": row.prompt,
        "n_prompt_tokens": example.n_tokens - example.n_loss,
        "n_response_tokens": example.n_loss,
        "truncated": example.n_tokens < n_tokens,
        "lost": list(rendered.lost),
        "n_thoughts": rendered.n_thoughts,
    }


_CONTENT: Final = {name: column.dtype for name, column in contracts.CONTENT.items()}


def _table(records: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> pl.DataFrame:
    columns: dict[str, Any] = {name: [record[name] for record in records] for name in schema}
    if "messages" in columns:  # from flat columns: built of dictionaries, it would hold thirty times its size
        flat = [(row, *map(turn.get, TURN_KEYS)) for row, turns in enumerate(columns["messages"]) for turn in turns]
        turns = pl.DataFrame(flat, {"row": pl.Int64, **dict.fromkeys(TURN_KEYS, pl.String)}, orient="row")
        columns["messages"] = turns.group_by("row", maintain_order=True).agg(pl.struct(TURN_KEYS))[TURN_KEYS[0]]
    return pl.DataFrame(columns, schema=schema)


def _merged(tables: list[pl.DataFrame], labels: list[pl.DataFrame]) -> pl.DataFrame:
    """One row per row id, with whatever its equal rows are called."""
    # Answer and choices are of one row: of one that has both, if there is one, whichever was read first.
    asked = pl.col("answer"), pl.col("choices").list.join("\0")
    said = pl.concat(labels).sort(*(said.is_null() for said in asked), *asked).group_by("row_id", maintain_order=True)
    labels.clear()  # what is not needed any more is not held
    merged = said.agg(
        *(pl.col(name).explode().drop_nulls().unique().sort() for name in contracts.LABELS),
        pl.col("answer", "choices").first(),
        pl.col("preferred").any(),
        pl.len().cast(pl.Int64).alias("n_merged"),
    ).sort("row_id")
    del said
    rows = pl.concat(tables)
    tables.clear()
    if rows["row_id"].is_duplicated().any():  # calls or definitions that are written in several ways
        rows = rows.sort("row_id", "tools", "prompt", "response").unique("row_id", keep="first")
    # Both have each row once.
    return merged.hstack(rows.sort("row_id").drop("row_id")).select(*contracts.POOL.columns)


def examples(table: pl.DataFrame, template: Template) -> list[Example]:
    """Token ids of every row of a table of the contract `CONVERSATION` with `row_id`, in its order.

    Raises:
        ContractError: A row has no response left, though such rows are set aside when the table is made.
    """
    encoded = []
    for part in table.iter_slices(ROWS_AT_ONCE):
        rows = [(row["row_id"], template.render(*turns_of(row))) for row in part.iter_rows(named=True)]
        encoded += [row.cut(template.max_length) for row in template.tokens(rows)]
    for row in encoded:
        if not row.n_loss:
            raise ContractError(f"row {row.row_id} has no response within max_length; materialise instructions again")
    return encoded
