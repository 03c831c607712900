"""Rows as text: what the tokenizer's chat template writes of a row, and which of it carries loss.

Where an answer stands is read off the template itself: the row is rendered once more with a mark in the place of that
answer, and what differs is the answer. So no template is known by name, and what it makes of thoughts, calls, system
messages and white space is seen, not assumed.
"""

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from g2is_assets.contracts.instructions import Turn, decoded, encoded, with_arguments
from g2is_assets.errors import G2isError, ModelError
from g2is_assets.settings.config import DAY, AfterTurn, Turns
from g2is_assets.training.kept import Span, split_thought, what_is_lost

MARK: Final = "\ue000"
"""Stands in for an answer: of a private area, so that neither row nor template has it."""
TODAY: Final = re.compile(r"strftime_now\s*\(\s*(['\"])(.*?)\1\s*\)")
UNTOLD: Final = re.compile(r"\bstrftime_now\b(?!\s+is\b)|\|\s*random\b|\blipsum\b")


class RefusedRow(G2isError):
    """The template cannot write a row."""


@dataclass(frozen=True)
class Rendered:
    """A row as text.

    Attributes:
        text: All of it.
        answers: Where the answers that carry loss stand, end of turn included; the last is the response.
        lost: What the template did not keep of the row, in words.
        n_thoughts: Answers whose reasoning is in the text.
    """

    text: str
    answers: tuple[Span, ...]
    lost: tuple[str, ...] = ()
    n_thoughts: int = 0

    @property
    def prompt(self) -> str:
        """What stands before the response."""
        return self.text[: self.answers[-1][0]]

    @property
    def completion(self) -> str:
        """The response with its end of turn."""
        return self.text[slice(*self.answers[-1])]


class ChatTemplate:
    """Renders rows with the tokenizer's chat template, without the default system message that some templates add.

    An answer carries loss from its own first character, be it of its reasoning or of a call, to the template's end of
    turn; where the template ends no turn, the response ends with the tokenizer's end token. What the template writes
    before every answer, such as an empty thought, is prompt. What it writes behind an end of turn is left out or, with
    `after_turn = "keep"`, carries loss where no mark of the template parts it from the answer. Without a chat template
    the turns' texts are lines.
    """

    def __init__(
        self,
        tokenizer: Any,
        system: str | None = None,
        turns: Turns = "all",
        after_turn: AfterTurn = "drop",
        day: date = DAY,
    ) -> None:
        """Look at how the template writes a simple row.

        Raises:
            ModelError: It cannot, no end token can end a response, or equal rows would be unequal on another day.
        """
        self.tokenizer, self.system, self.turns, self._keeps = tokenizer, system, turns, after_turn == "keep"
        given = tokenizer.chat_template
        named = given if isinstance(given, dict) else {"default": given}
        if "default" not in named:
            raise ModelError(
                f"none of the chat templates {', '.join(named)} is named default; rename one in its folder"
            )
        self._chat, self._chat_with_tools = (
            _without_today(named.get(name, named.get("default")), day) for name in ("default", "tool_use")
        )
        added = {str(token): token.special for token in tokenizer.added_tokens_decoder.values()}
        added |= dict.fromkeys(tokenizer.all_special_tokens, True)
        self._special = _any_of(token for token, special in added.items() if special)
        self._added = _any_of(token for token in added if token.strip())
        self.ending, self._between, self._in_parts = "", "", False
        self._prefix, self._kept_prefix = self._find_default_system()
        try:
            try:
                self.ending = self._find_ending()
            except RefusedRow:  # of a model that sees pictures, too
                self._in_parts = True
                self._prefix, self._kept_prefix = self._find_default_system()
                self.ending = self._find_ending()
        except RefusedRow as error:
            raise ModelError(f"{error}; set another model, or mend its chat template") from error

    def _find_ending(self) -> str:
        """The text that ends a response; what ends an answer that others follow is found on the way."""
        simple: list[Turn] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        rendered = self.render(simple, carry="last")
        if self._chat is not None:
            asked, said, later = (chr(ord(MARK) + n) for n in range(3))
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
            with suppress(RefusedRow):
                row = self._apply([*turns, {"role": "user", "content": later}], [])
                end = re.match(rf"\s*(?:{self._special})", row.partition(said)[2])
                # What ends a question too; else it may be how the next turn begins.
                self._between = end[0] if end and row.partition(asked)[2].startswith(end[0]) else ""
        return rendered.completion.rpartition("b")[2].strip()

    def render(self, turns: Sequence[Turn], tools: Sequence[Any] = (), carry: Turns | None = None) -> Rendered:
        """A row as text.

        Args:
            turns: All turns, as `Instruction` has them; the last is the response.
            tools: Definitions of tools.
            carry: Which answers carry loss, else as the template was made for.

        Raises:
            RefusedRow: The template refuses the row, or keeps nothing of the response.
        """
        said = [self._worded(turn) for turn in turns]
        if self.system is not None and said[0]["role"] != "system":
            said = [{"role": "system", "content": self.system}, *said]
        places = [n for n, turn in enumerate(said) if turn["role"] == "assistant"]
        places = places[-1:] if (carry or self.turns) == "last" else places
        whole, answers = (
            self._chatted(said, places, list(tools)) if self._chat is not None else self._plain(said, places)
        )
        if len(said) - 1 not in answers:
            raise RefusedRow("the model's chat template keeps nothing of the response")
        lost, n_thoughts = what_is_lost(said, whole, {place: answers.get(place, (0, 0)) for place in places})
        if tools and "tools" not in (self._chat_with_tools or ""):
            lost.append("definitions of tools")
        start = self._prefix if self._chat is not None and said[0]["role"] != "system" else ""
        if start and whole.startswith(start):
            less = len(start) - len(self._kept_prefix)
            whole = self._kept_prefix + whole[len(start) :]
            answers = {place: (first - less, stop - less) for place, (first, stop) in answers.items()}
        return Rendered(whole, tuple(answers.values()), tuple(dict.fromkeys(lost)), n_thoughts)

    def _plain(self, said: list[dict[str, Any]], places: Sequence[int]) -> tuple[str, dict[int, Span]]:
        text, answers = self.tokenizer.bos_token or "", {}
        for place, turn in enumerate(said):
            if place in places and turn["content"]:
                answers[place] = (len(text), len(text) + len(turn["content"]))
            text += turn["content"] + "\n"
        return self._ended(text, answers, len(said) - 1)

    def _chatted(
        self, said: list[dict[str, Any]], places: Sequence[int], tools: list[Any]
    ) -> tuple[str, dict[int, Span]]:
        whole, answers, last = self._apply(said, tools), {}, len(said) - 1
        blocks = self._marked(said, tools)
        for place in places:
            first, stop = self._own(whole, said, tools, place)
            limit = len(whole)
            if blocks is not None:  # the template says itself what an assistant writes
                first, limit = next(((max(first, a), b) for a, b in blocks if a < stop and first < b), (stop, stop))
            if not whole[first:stop].strip():
                continue
            rest = whole[stop:limit] if whole[stop:limit].strip() else whole[stop:]  # its end may follow the block
            end = rest.rstrip() if place == last else self._end_of_turn(rest, "tool_calls" in said[place])
            stop += len(end)
            more = len(whole[stop:]) - len(whole[stop:].lstrip()) if self._keeps and end else 0
            answers[place] = (first, stop + more if blocks is None else max(stop, min(stop + more, limit)))
            if place == last:
                whole = whole[: answers[place][1]]
                if not end and blocks is None:
                    whole, answers = self._ended(whole, answers, last)
                whole, answers = self._thinking_aloud(whole, answers, said, tools)
        return whole, answers

    def _end_of_turn(self, rest: str, has_calls: bool) -> str:
        """What ends an answer that others follow: as it ends a response or a question; of a call any special token."""
        blanks = rest[: len(rest) - len(rest.lstrip())]  # as Llama 2 has one before its end token
        known = (blanks + end.lstrip() for end in (self.ending, self._between) if end)
        ends = [end for end in known if rest.startswith(end)]
        if not ends and has_calls and self._between:
            ends = [found[0] for found in [re.match(rf"\s*(?:{self._special})", rest)] if found]
        return ends[0] if ends else ""

    def _own(self, whole: str, said: list[dict[str, Any]], tools: list[Any], place: int) -> Span:
        """Where the text stands that is an answer's own."""
        if (calls := said[place].get("tool_calls")) and place + 1 < len(said):
            # Without its call a result might be refused or left out: seen without it, if that is how the row begins,
            # with what else it says or, where the template drops that or puts it behind the result, without.
            bare = {"role": "assistant", "content": "", "tool_calls": calls}
            for turn in (said[place], {**bare, "content": said[place]["content"]}, bare):
                begun = self._apply([*said[:place], turn], tools)
                first, stop = self._own(begun, [*said[:place], turn], tools, place)
                if first < stop and whole.startswith(begun[:stop]):
                    return first, stop
        mark = next(sign for sign in map(chr, range(ord(MARK), ord(MARK) + 0x1900)) if sign not in whole)
        try:
            turn = {"role": "assistant", "content": mark}
            other = self._apply([*said[:place], turn, *said[place + 1 :]], tools)
        except RefusedRow:
            return 0, 0
        start, end = other.find(mark), other.rfind(mark) + 1
        if start < 0:
            return 0, 0
        first = start if whole[:start] == other[:start] else _common(whole, other)
        tail = len(other) - end
        if len(whole) - tail < first or whole[len(whole) - tail :] != other[end:]:
            room = min(len(whole) - first, tail)
            tail = _common(whole[len(whole) - room :][::-1], other[len(other) - room :][::-1])
        stop = len(whole) - tail
        if (first, tail) != (start, len(other) - end):
            for token in re.finditer(self._special, whole):  # a token is whole or not at all
                stop = token.start() if token.start() < stop < token.end() else stop
            for token in (*re.finditer(self._added, whole), *re.finditer(self._added, other)):
                first = token.start() if token.start() < first < token.end() else first
        return first, max(first, stop)

    def _ended(self, text: str, answers: dict[int, Span], last: int) -> tuple[str, dict[int, Span]]:
        """The text up to the response, and an end token."""
        if self.tokenizer.eos_token is None:
            raise ModelError(
                "the tokenizer has neither a chat template that ends a turn nor an end token; set another model"
            )
        if last not in answers:
            return text, answers
        text = text[: answers[last][1]] + str(self.tokenizer.eos_token)
        return text, answers | {last: (answers[last][0], len(text))}

    def _thinking_aloud(
        self, whole: str, answers: dict[int, Span], said: list[dict[str, Any]], tools: list[Any]
    ) -> tuple[str, dict[int, Span]]:
        """The row as a model goes on from a prompt that opens a thought, where the template drops it once finished."""
        thought, content = split_thought(said[-1])
        first, stop = answers[len(said) - 1]
        if not thought.strip() or thought.strip() in whole[first:stop] or not content:
            return whole, answers
        prompt = self._apply(said[:-1], tools, add_generation_prompt=True)
        if not prompt.rstrip().endswith("<think>") or content.strip() not in whole[first:stop]:
            return whole, answers
        own = said[-1]["content"].partition("<think>")[2] or f"\n{thought}\n</think>\n\n{content}"
        ending = whole[first:stop].rpartition(content.strip())[2]
        text = prompt + (own.removeprefix("\n") if prompt.endswith("\n") else own).rstrip() + ending
        return text, answers | {len(said) - 1: (len(prompt), len(text))}

    def _worded(self, turn: Turn) -> dict[str, Any]:
        """A turn in the words that the template knows."""
        chat, said = self._chat_with_tools or "", dict(turn)
        if said["role"] == "developer" and "developer" not in chat:
            said["role"] = "system"
        if "tool_calls" in said:
            said["tool_calls"] = [with_arguments(call, decoded) for call in said["tool_calls"]]
        if thought := said.get("reasoning_content"):
            if "thinking" in chat:
                said["thinking"] = thought
            elif "reasoning_content" not in chat and "</think>" in chat:
                said["content"] = f"<think>\n{said.pop('reasoning_content')}\n</think>\n\n{said['content']}"
        return said

    def _marked(self, said: list[dict[str, Any]], tools: list[Any]) -> list[Span] | None:
        """What a template with `{% generation %}` says that an assistant writes; None for others."""
        chat = self._chat_with_tools if tools else self._chat
        if chat is None or not re.search(r"\{%-?\s*generation\s*-?%\}", chat):
            return None
        from transformers.utils.chat_template_utils import render_jinja_template

        special = self.tokenizer.special_tokens_map
        marked = {"chat_template": chat, "return_assistant_tokens_mask": True, "tools": tools or None, **special}
        _, (blocks,) = render_jinja_template(conversations=[self._given(said)], **marked)
        return [(first, stop) for first, stop in blocks]

    def _find_default_system(self) -> tuple[str, str]:
        """The text that the template puts before a first user turn, and the part of it to keep (a start token)."""
        if self._chat is None:
            return "", ""
        first, answer, later = ({"role": role, "content": "a"} for role in ("user", "assistant", "user"))
        try:
            alone, pair, three = (
                self._apply(turns, []) for turns in ([first], [first, answer], [first, answer, later])
            )
        except RefusedRow:
            return "", ""
        turn = three[len(pair) :] if three.startswith(pair) else alone
        if not alone.endswith(turn):
            return "", ""
        with suppress(RefusedRow):  # where a system message changes nothing of it, it is how every row begins
            if self._apply([{"role": "system", "content": MARK}, first], []).startswith(
                alone[: len(alone) - len(turn)]
            ):
                return "", ""
        prefix, bos = alone[: len(alone) - len(turn)], self.tokenizer.bos_token or ""
        keeps = bool(bos) and prefix.startswith(bos) and not turn.startswith(bos)
        return prefix, bos if keeps else ""

    def _given(self, turns: Sequence[Turn]) -> list[Turn]:
        parts = [{"content": [{"type": "text", "text": turn["content"]}]} if self._in_parts else {} for turn in turns]
        return [{**turn, **part} for turn, part in zip(turns, parts, strict=True)]

    def _apply(self, turns: Sequence[Turn], tools: list[Any], **options: Any) -> str:
        chat, said = self._chat_with_tools if tools else self._chat, self._given(turns)
        options = {"tools": tools or None, "chat_template": chat, "tokenize": False, **options}
        try:
            try:
                return str(self.tokenizer.apply_chat_template(said, **options))
            except TypeError:  # it joins arguments to text
                calls = {n: turn["tool_calls"] for n, turn in enumerate(said) if "tool_calls" in turn}
                if not calls:
                    raise
                for n, made in calls.items():
                    said[n] = {**said[n], "tool_calls": [with_arguments(call, encoded) for call in made]}
                return str(self.tokenizer.apply_chat_template(said, **options))
        except Exception as error:  # a template is a program
            roles = ", ".join(turn["role"] for turn in turns)
            raise RefusedRow(f"the model's chat template refuses the roles {roles}: {error}") from error


def _without_today(chat: str | None, day: date) -> str | None:
    """A chat template that is told a fixed day.

    Raises:
        ModelError: It would still write something else for an equal row.
    """
    fixed = TODAY.sub(lambda call: json.dumps(day.strftime(call[2])), chat or "")
    if UNTOLD.search(re.sub(r"\{#.*?#\}", "", fixed, flags=re.DOTALL)):
        raise ModelError(
            "the model's chat template writes another text on another day or at every call; set a model whose template "
            "calls strftime_now with a plain format, or mend chat_template.jinja in its folder"
        )
    return None if chat is None else fixed


def _any_of(tokens: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(filter(None, tokens), key=len, reverse=True))) or r"(?!)"


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low
