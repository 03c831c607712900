"""Shapes of rows: what a record of a pool or domain file says, as turns with their tools and choices.

A record is one instruction with its response, a conversation (OpenAI's `messages`, ShareGPT's `conversations`), or a
preference pair. Text is kept to the character; what cannot be used is set aside with its reason.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from g2is_assets.contracts.instructions import LABELS, Instruction, Turn, Unusable, turn_text
from g2is_assets.errors import InColumn, UnknownShape, UnusableRow
from g2is_assets.settings.config import Source

PROMPTS: Final = ("instruction", "prompt", "question", "query")
PAIRS: Final = [
    *(pair.split("/") for pair in ("instruction/output", "prompt/response", "prompt/completion", "question/answer")),
    *([prompt, said] for prompt in PROMPTS for said in ("output", "response", "completion")),
]
"""Columns of one prompt and its response; the first pair that has both holds."""
EXTRA: Final = ("input", "context")
"""Columns whose text follows the instruction, question or prompt after a blank line."""
CONVERSATIONS: Final = ("messages", "conversations", "conversation")
KNOWN: Final = sorted({name for pair in PAIRS for name in pair} | {*CONVERSATIONS, "chosen"})
ROLES: Final = (
    {name: name for name in ("system", "developer", "user", "assistant", "tool")}
    | {"human": "user"}
    | dict.fromkeys(("gpt", "chatgpt", "bot", "model", "function_call"), "assistant")
    | dict.fromkeys(("function", "observation", "function_response", "tool_response"), "tool")
)
REASONING: Final = ("reasoning_content", "reasoning", "thinking")
SYSTEM, TOOLS = ("system", "system_prompt"), ("tools", "functions")
MEDIA: Final = ("image", "images", "video", "videos", "audio", "audios")
TEXTS: Final = ("text", "input_text", "output_text", None)


def instruction_of(record: Mapping[str, Any], file: str, line: int, base: Source) -> Instruction | Unusable:
    """The row that a record is, or the reason why it is set aside; `base` serves source and licence.

    Raises:
        UnknownShape: The record has the columns of no shape.
    """
    try:
        _refuse_surrogates(record)
        if seen := [name for name in MEDIA if record.get(name)]:
            raise UnusableRow(f"`{seen[0]}` holds what is no text; only text can be used")
        choices, answer, pair = _choices(record), _answer(record), _pair(record)
        if record.get("label") is False and (not pair or "completion" in pair):
            raise UnusableRow("`label` is false: this response is not wanted")
        if "answer" in pair and answer:
            record = {**record, "answer": _chosen(answer, choices) if choices else answer}
            answer = record["answer"] if choices else None  # a whole response is no short answer
        turns, preferred = _turns(record, pair)
        with InColumn(pair[1] if pair else "messages"):
            _check(turns, pair)
        said = {many: _labels(record, many, one) for many, one in LABELS.items()}
        if choices and answer:
            answer = _chosen(answer, choices, turn_text(turns[-1]))
        row = Instruction(
            turns=tuple(turns),
            source=said["sources"][0] if said["sources"] else str(base.source),
            license=said["licenses"][0] if said["licenses"] else base.license or "unknown",
            file=file,
            line=line,
            id=said["ids"][0] if said["ids"] else None,
            more={name: labels[1:] for name, labels in said.items()},
            answer=answer,
            choices=choices,
            tools=tuple(_tools(next((record[name] for name in TOOLS if _said(record, name)), None))),
            preferred=preferred,
        )
        if row.tools or any("tool_calls" in turn for turn in turns):
            _refuse_what_json_cannot_hold(row)
        return row
    except UnknownShape:
        raise
    except RecursionError:
        return Unusable(file, line, None, str(base.source), "nested too deep")
    except UnusableRow as error:
        known = {name: str(value) for name in ("id", "source") if (value := record.get(name)) is not None}
        named = {name: text.encode("utf-8", "replace").decode() for name, text in known.items()}
        own = base.columns.model_dump(exclude_none=True)
        return Unusable(file, line, named.get("id"), named.get("source") or str(base.source), error.told(own))


def _turns(record: Mapping[str, Any], pair: Sequence[str]) -> tuple[list[dict[str, Any]], bool]:
    """All turns, and whether the last is `chosen`; `pair` are the columns of prompt and response, if there are some."""
    preferred = _said(record, "chosen")
    for name in CONVERSATIONS:
        if value := _listed(record.get(name), name):
            with InColumn(name):
                turns = [_turn(turn) for turn in value]
            preferred = preferred and turns[-1]["role"] != "assistant"
            more = _conversation(record["chosen"], "assistant") if preferred else []
            return _with_system(record, turns + more), preferred
    if preferred:
        turns, prompt = _conversation(record["chosen"], "assistant"), [name for name in PROMPTS if _said(record, name)]
        turns = turns if len(turns) > 1 or not prompt else _asked(record, record[prompt[0]]) + turns
        return _with_system(record, turns), True
    if pair:
        with InColumn(pair[0]):
            asked = _asked(record, record[pair[0]])
        with InColumn(pair[1]):
            answered = _conversation(record[pair[1]], "assistant")
        return _with_system(record, asked + answered), False
    if named := [name for name in CONVERSATIONS if name in record]:
        raise UnusableRow(f"`{named[0]}` is empty", named[0])
    if half := [pair for pair in PAIRS if all(name in record for name in pair)]:
        empty = [name for name in half[0] if record[name] is None]
        raise UnusableRow(f"nothing in {' and '.join(f'`{name}`' for name in empty)}", *empty)
    raise UnknownShape("unknown columns")


def _pair(record: Mapping[str, Any]) -> Sequence[str]:
    """The columns of prompt and response; nothing beside a conversation or a pair of preferences."""
    if any(_said(record, name) for name in (*CONVERSATIONS, "chosen")):
        return ()
    there = [pair for pair in PAIRS if all(record.get(name) is not None for name in pair)]
    return next((pair for pair in there if all(_said(record, name) for name in pair)), (*there, ())[0])


def _said(record: Mapping[str, Any], name: str) -> bool:
    """Whether a column is there and holds anything."""
    value = record.get(name)
    return bool(value.strip()) if isinstance(value, str) else value is not None and value != []


def _asked(record: Mapping[str, Any], prompt: Any) -> list[dict[str, Any]]:
    """Earlier turns and the prompt with what belongs to it."""
    asked = _conversation(prompt, "user")
    history = _listed(record.get("history"), "history") or []
    if not all(isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2 for pair in history):
        raise UnusableRow("`history` is not a list of pairs of a question and an answer")
    for name in EXTRA:
        extra = record.get(name)
        if extra is not None and not isinstance(extra, str):
            raise UnusableRow(f"the {name} is not a string", name)
        if extra and extra.strip():
            asked[-1]["content"] += f"\n\n{extra}" if asked[-1]["content"] else extra
    said = (turn for pair in history for turn in zip(("user", "assistant"), pair, strict=True))
    return [*(turn for role, text in said for turn in _conversation(text, role)), *asked]


def _conversation(value: Any, role: str) -> list[dict[str, Any]]:
    """A text as one turn of that role, or a list of turns, or one turn."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    value = [value] if isinstance(value, Mapping) else value
    if not isinstance(value, list) or not value:
        raise UnusableRow(f"the {role} text is not a string")
    return [_turn(turn) for turn in value]


def _with_system(record: Mapping[str, Any], turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    system = next((record[name] for name in SYSTEM if _said(record, name)), None)
    if system is None or turns[0] == {"role": "system", "content": system}:
        return turns
    if not isinstance(system, str):
        raise UnusableRow("the system text is not a string", "system")
    if turns[0]["role"] == "system":
        raise UnusableRow("two system texts: `system` and the first turn", "system")
    return [{"role": "system", "content": system}, *turns]


def _turn(turn: Any) -> dict[str, Any]:
    """One turn of a conversation, in OpenAI's or in ShareGPT's words."""
    said = (turn.get("role") or turn.get("from")) if isinstance(turn, Mapping) else None
    role = ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        raise UnusableRow(f"a turn without a role that is known: {said!r:.40}; known are {', '.join(ROLES)}")
    if role == "assistant" and (turn.get("weight") == 0 or turn.get("train") is False):
        raise UnusableRow("an answer that says it is to carry no loss (`weight` 0 or `train` false)")
    content = turn.get("content") if turn.get("content") is not None else turn.get("value")
    calls = _called(turn, said, content)
    made = {"role": role, "content": "" if said == "function_call" or (calls and content is None) else content}
    made["content"] = _content(made["content"], role)
    for name in REASONING:
        if turn.get(name) is not None and "reasoning_content" not in made and turn[name] != "":
            made["reasoning_content"] = _content(turn[name], "reasoning")
    made |= {"tool_calls": calls} if calls else {}
    for name in ("tool_call_id", "name"):
        if isinstance(turn.get(name), str):
            made[name] = turn[name]
    return made


def _called(turn: Mapping[str, Any], said: Any, content: Any) -> list[Any]:
    """Calls of tools, as OpenAI writes them."""
    calls = _listed(turn.get("tool_calls"), "tool_calls") or []
    if said == "function_call":
        calls = _listed(content if isinstance(content, list) else f"[{content}]", "function_call") or []
        calls = [call for each in calls for call in (each if isinstance(each, list) else [each])]
    elif turn.get("function_call") is not None:
        calls = [turn["function_call"]]
    calls = [call if isinstance(call, Mapping) and call.get("function") else _wrapped(call) for call in calls]
    if not all(isinstance(call["function"], Mapping) and call["function"].get("name") for call in calls):
        raise UnusableRow("a call of a tool without a name")
    own = said == "function_call" and isinstance(content, str)  # of JSON text, whose nulls are its own
    return [{"type": "function"} | (dict(call) if own else _whole(call)) for call in calls]


def _wrapped(function: Any) -> dict[str, Any]:
    """A bare call in OpenAI's words."""
    if not isinstance(function, Mapping) or function.get("id") is None:
        return {"function": function}
    return {"id": function["id"], "function": {key: value for key, value in function.items() if key != "id"}}


def _tools(value: Any) -> list[Any]:
    """Definitions of tools; bare functions are wrapped as OpenAI does."""
    tools = _listed(value, "tools") or []
    if not all(isinstance(tool, Mapping) for tool in tools):
        raise UnusableRow("`tools` is not a list of definitions")
    return [_whole(tool) if "function" in tool else {"type": "function", "function": _whole(tool)} for tool in tools]


def _whole(value: Any) -> Any:
    """Nested values without the nulls that Parquet writes for keys that others have."""
    if isinstance(value, Mapping):
        return {key: _whole(item) for key, item in value.items() if item is not None}
    return [_whole(item) for item in value] if isinstance(value, list) else value


def _content(value: Any, role: str) -> str:
    """A turn's text; parts are joined."""
    if isinstance(value, list):
        parts = [part if isinstance(part, Mapping) else {"text": part} for part in value]
        if odd := [part for part in parts if part.get("type") not in TEXTS or not isinstance(part.get("text"), str)]:
            raise UnusableRow(f"a part of type {odd[0].get('type')} in the {role} text; only text can be used")
        value = "".join(part["text"] for part in parts)
    if not isinstance(value, str):
        raise UnusableRow(f"the {role} text is not a string")
    return value


def _check(turns: Sequence[Turn], pair: Sequence[str]) -> None:
    if not turns or turns[-1]["role"] != "assistant":
        raise UnusableRow("no response: the last message is not the assistant's")
    for turn in turns:
        if not turn["content"].strip() and not turn.get("tool_calls") and turn["role"] != "tool":
            last = turn is turns[-1]
            raise UnusableRow("empty response" if last else f"empty {turn['role']} text", *pair[last : last + 1])
    if all(turn["role"] != "user" for turn in turns):
        raise UnusableRow("no prompt: no message is the user's", *pair[:1])


def _choices(record: Mapping[str, Any]) -> tuple[str, ...] | None:
    choices = _offered(record)
    choices = _listed(choices.get("text") if isinstance(choices, Mapping) else choices, "choices")
    if not choices:
        return None
    texts = [_short(choice, "choice") or "" for choice in choices]
    if not all(map(str.strip, texts)) or len(set(texts)) < len(texts):
        raise UnusableRow("`choices` holds an entry twice, or one without text", "choices")
    return tuple(texts)


def _offered(record: Mapping[str, Any]) -> Any:
    """Choices as a list, or as ARC has them, texts beside their labels; also of those who call them options."""
    given = record["choices"] if record.get("choices") is not None else record.get("options")
    if isinstance(given, Mapping) and not given.keys() & {"text", "label"}:
        return {"label": list(given), "text": list(given.values())}
    return given


def _answer(record: Mapping[str, Any]) -> str | None:
    """The short answer; where choices have labels of their own, the choice of that label."""
    answer, choices = _short(record.get("answer"), "answer"), _offered(record)
    if not isinstance(choices, Mapping) or answer is None:
        return answer
    labels, texts = (_listed(choices.get(name), "choices") or [] for name in ("label", "text"))
    return _short(dict(zip(map(str, labels), texts, strict=False)).get(answer, answer), "answer")


def _chosen(answer: str, choices: Sequence[str], response: str | None = None) -> str:
    """The choice that an answer is, or names by its letter or its number from 0, if the response says so too."""
    if answer in choices:
        return answer
    if len(same := [choice for choice in choices if choice.strip().casefold() == answer.strip().casefold()]) == 1:
        return same[0]
    letter = answer.strip(" ().").upper()
    place = int(letter) if letter.isdecimal() and len(letter) < 4 else ord(letter) - 65 if len(letter) == 1 else -1
    if 0 <= place < len(choices) and (response is None or choices[place].casefold() in response.casefold()):
        return choices[place]
    raise UnusableRow(f"the answer {answer[:40]!r} is not one of the choices", "answer", "choices")


def _listed(value: Any, name: str) -> list[Any] | None:
    """A list, which a table may hold as JSON; None where there is nothing."""
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise UnusableRow(f"`{name}` is neither a list nor the JSON of one", name) from None
        _refuse_surrogates(value)
    if isinstance(value, Mapping) and name == "tools":
        return [value]
    if value is not None and not isinstance(value, list):
        raise UnusableRow(f"`{name}` is not a list", name)
    return value


def _labels(record: Mapping[str, Any], many: str, one: str) -> list[str]:
    """What a row says of itself, by itself and in the list that an export has of it."""
    if one != "id" and not isinstance(record.get(one), str | None):  # else the file's own would stand in for it
        raise UnusableRow(f"the {one} is not a string", one)
    label, listed = _short(record.get(one), one), record.get(many) if one == "license" or "row_id" in record else []
    more = [other for other in listed if isinstance(other, str)] if isinstance(listed, list) else []
    found = dict.fromkeys([label or "", *(more if more != ["unknown"] else [])])
    return [text if one == "id" else text.strip() for text in found if text.strip()]


def _short(value: Any, name: str) -> str | None:
    """A text or number as text."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str | int | float):
        raise UnusableRow(f"the {name} is not a text", name)
    return str(value)


def _refuse_surrogates(value: Any) -> None:
    """Refuse half characters, which neither files nor tokenizers can hold."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise UnusableRow(f"half a character, \\u{ord(value[error.start]):04x}, which is no text") from None
    elif isinstance(value, Mapping | list):
        for item in [*value, *value.values()] if isinstance(value, Mapping) else value:
            _refuse_surrogates(item)


def _refuse_what_json_cannot_hold(row: Instruction) -> None:
    try:
        json.dumps([row.row_id, row.turns, row.tools], allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnusableRow(f"a call or definition of a tool that JSON cannot hold: {error}") from None
