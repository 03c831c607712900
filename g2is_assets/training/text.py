"""From rows as read to token ids: the instructions tables, the tokenizer's chat template, truncation, and batches."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
from jinja2 import TemplateError

from g2is_assets.contracts import instructions as contracts
from g2is_assets.contracts.instructions import Instruction, Unusable
from g2is_assets.errors import ContractError, ModelError
from g2is_assets.hashing import json_sha256

IGNORED: Final = -100
"""Label of tokens that carry no loss."""

Message = Mapping[str, str]


@dataclass(frozen=True)
class Example:
    """One row as token ids: the first `n_prompt` carry no loss, the rest are the response with its end token."""

    row_id: str
    input_ids: list[int]
    n_prompt: int

    @property
    def n_tokens(self) -> int:
        """Tokens of prompt and response together."""
        return len(self.input_ids)

    @property
    def prompt(self) -> list[int]:
        """Token ids of the prompt."""
        return self.input_ids[: self.n_prompt]

    def features(self) -> dict[str, list[int]]:
        """What transformers' collator pads: `input_ids`, `attention_mask` and `labels`."""
        labels = [IGNORED] * self.n_prompt + self.input_ids[self.n_prompt :]
        return {"input_ids": self.input_ids, "attention_mask": [1] * self.n_tokens, "labels": labels}


class Template:
    """Renders a row with the tokenizer's chat template, without the default system message that some templates add.

    The response ends with the template's own end-of-turn token, which carries loss too. Without a chat template the
    prompt is the messages' text and a newline, and the response ends with the tokenizer's end token.
    """

    def __init__(self, tokenizer: Any, max_length: int, system: str | None = None) -> None:
        self.tokenizer, self.max_length, self.system = tokenizer, max_length, system
        self._default_prefix, self._kept_prefix = self._find_default_system()

    def token_counts(self, messages: Sequence[Message], response: str) -> tuple[int, int]:
        """Tokens of the rendered prompt and of the whole completion, before any cut."""
        prompt, completion = self.render(messages, response)
        return len(self._ids(prompt)), len(self._ids(completion))

    def encode(self, row_id: str, messages: Sequence[Message], response: str) -> Example | None:
        """Token ids of one row, cut at `max_length` tokens; None if no response token is left."""
        prompt, completion = self.render(messages, response)
        prompt_ids = self._ids(prompt)
        ids = (prompt_ids + self._ids(completion))[: self.max_length]
        return Example(row_id, ids, len(prompt_ids)) if len(ids) > len(prompt_ids) else None

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the prompt alone, from which a model goes on."""
        return self._ids(self.render(messages, "any response")[0])

    @property
    def ending(self) -> str:
        """The text that ends a response."""
        completion = self.render([{"role": "user", "content": "a"}], "a")[1]
        return completion[completion.index("a") + 1 :].strip()

    def render(self, messages: Sequence[Message], response: str) -> tuple[str, str]:
        """Prompt text and completion text."""
        turns = [dict(message) for message in messages]
        if self.system is not None and turns[0]["role"] != "system":
            turns = [{"role": "system", "content": self.system}, *turns]
        if self.tokenizer.chat_template is None:
            bos = self.tokenizer.bos_token or ""
            return bos + "\n".join(turn["content"] for turn in turns) + "\n", self._ended(response)
        prompt = self._apply(turns, add_generation_prompt=True)
        whole = self._apply([*turns, {"role": "assistant", "content": response}])
        completion = whole[len(prompt) :].rstrip() if whole.startswith(prompt) else response
        if completion.endswith(response.rstrip()):  # the template ends no turn
            completion = self._ended(completion)
        return self._strip_default(prompt, turns), completion

    def _ended(self, response: str) -> str:
        if self.tokenizer.eos_token is None:
            raise ModelError(
                "the tokenizer has neither a chat template that ends a turn nor an end token; set another model"
            )
        return response + str(self.tokenizer.eos_token)

    def _strip_default(self, prompt: str, turns: Sequence[Message]) -> str:
        if turns[0]["role"] == "system" or not prompt.startswith(self._default_prefix):
            return prompt
        return self._kept_prefix + prompt[len(self._default_prefix) :]

    def _find_default_system(self) -> tuple[str, str]:
        """The text that the template puts before a first user turn, and the part of it to keep (a start token)."""
        if self.tokenizer.chat_template is None:
            return "", ""
        first, answer, later = ({"role": role, "content": "a"} for role in ("user", "assistant", "user"))
        alone, pair = self._apply([first]), self._apply([first, answer])
        three = self._apply([first, answer, later])
        turn = three[len(pair) :] if three.startswith(pair) else alone
        if not alone.endswith(turn):
            return "", ""
        prefix, bos = alone[: len(alone) - len(turn)], self.tokenizer.bos_token or ""
        keeps = bool(bos) and prefix.startswith(bos) and not turn.startswith(bos)
        return prefix, bos if keeps else ""

    def _apply(self, turns: list[dict[str, str]], **options: Any) -> str:
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, **options))
        except TemplateError as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise ModelError(
                f"the model's chat template refuses a row with the roles {roles}: {error}; "
                "unset `system` or remove such rows"
            ) from error

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def template_digest(folder: Path, max_length: int, system: str | None) -> str:
    """SHA-256 of what determines the token ids, besides the tokenizer's files; those are read, nothing is loaded."""
    return json_sha256([chat_template(folder), max_length, system])


def chat_template(folder: Path) -> str | None:
    """The chat template of a model folder, from where transformers takes it; None where there is none.

    Raises:
        ModelError: `tokenizer_config.json` is no JSON.
    """
    own, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    if not config.is_file():
        return None
    try:
        said = json.loads(config.read_text(encoding="utf-8")).get("chat_template")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{config} is damaged: {error}; get the model again") from error
    if isinstance(said, list):  # several by name
        return next((one["template"] for one in said if one["name"] == "default"), None)
    return said


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
        rows: One record per distinct row, with the columns of the pool's contract.
        rejected: Contract `rejected rows`.
        n_merged: Rows that were merged into an equal one.
    """

    rows: list[dict[str, Any]]
    rejected: pl.DataFrame
    n_merged: int


def normalise(found: Iterable[Instruction | Unusable], template: Template, limit: int | None = None) -> Instructions:
    """Count tokens, merge equal rows (all sources, licences and ids kept) and set aside those without a response.

    With a limit, only the first rows by row id are kept; as that is a hash, they are a repeatable random sample.
    """
    rows: dict[str, dict[str, Any]] = {}
    rejected: list[Unusable] = []
    for item in found:
        if isinstance(item, Unusable):
            rejected.append(item)
            continue
        row_id = item.row_id
        if row_id not in rows:
            prompt, completion = template.token_counts(item.messages, item.response)
            kept = min(completion, template.max_length - prompt)
            if kept < 1:
                reason = f"no response left: the prompt's {prompt} tokens fill max_length = {template.max_length}"
                rejected.append(Unusable(item.file, item.line, item.id, item.source, reason))
                continue
            rows[row_id] = {
                "row_id": row_id,
                "messages": [dict(message) for message in item.messages],
                "prompt": item.prompt,
                "response": item.response,
                "n_prompt_tokens": prompt,
                "n_response_tokens": kept,
                "truncated": kept < completion,
                **dict.fromkeys(("ids", "sources", "licenses"), ()),
                **dict.fromkeys(("answer", "choices")),
                "n_merged": 0,
            }
        _merge(rows[row_id], item)
    n_merged = sum(row["n_merged"] - 1 for row in rows.values())
    ordered = [rows[row_id] for row_id in sorted(rows)][:limit]
    return Instructions(ordered, contracts.REJECTED.table_of(map(vars, rejected)), n_merged)


def _merge(row: dict[str, Any], item: Instruction) -> None:
    row["sources"] = sorted({*row["sources"], item.source})
    row["licenses"] = sorted({*row["licenses"], item.license})
    row["ids"] = sorted({*row["ids"], item.id} - {None, ""})
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
