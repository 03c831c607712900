"""From messages to token ids: the tokenizer's chat template, truncation, and batches for the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import TemplateError

from g2is_assets.errors import ModelError
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
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.system = system
        self._default_prefix, self._kept_prefix = self._find_default_system()

    @property
    def digest(self) -> str:
        """SHA-256 of what determines the token ids, besides the tokenizer's files."""
        return json_sha256([self.tokenizer.chat_template, self.max_length, self.system])

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


def collator(tokenizer: Any) -> Any:
    """Transformers' collator: pads ids, mask and labels of a list of `Example.features()` to the longest."""
    from transformers import DataCollatorForSeq2Seq

    return DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=IGNORED)
