"""Rows in the words of other trainers, and what each must be told so that it trains on what was trained on here.

No format loses anything of a row unseen: a record is only given out if the reader of sources makes the same row of it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from g2is_assets.contracts.instructions import Instruction, Turn, decoded, with_arguments
from g2is_assets.errors import SettingsError
from g2is_assets.reports.words import counted
from g2is_assets.settings.config import Source, Turns
from g2is_assets.store.shapes import instruction_of

Format = Literal["messages", "alpaca", "sharegpt"]
Rows = Mapping[str, Instruction]
"""By row id of the pool, in the order of the file."""

_LACKS: Final[dict[Format, str]] = {
    "messages": "nothing that the reader lets through",
    "alpaca": "tools, reasoning, names, and turns that do not alternate between user and assistant",
    "sharegpt": "reasoning beside an answer, text beside calls of tools, and calls of other types",
}
_TO_SHAREGPT: Final = {"user": "human", "assistant": "gpt", "tool": "observation"}
_TAGS: Final = {f"{name}_tag": name for name in ("role", "content", "user", "assistant", "system")}
_ENTRIES: Final[dict[Format, dict[str, Any]]] = {
    "alpaca": {
        "columns": {"prompt": "instruction", "query": "input", "response": "output"}
        | {name: name for name in ("system", "history")}
    },
    "messages": {
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": _TAGS | {"observation_tag": "tool"},
    },
    "sharegpt": {
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
    },
}


def bodies(form: Format, rows: Rows, turns: Turns) -> list[dict[str, Any]]:
    """What records say of the rows; all have the same keys, since some readers take those of the first for all.

    Raises:
        SettingsError: There are rows that the format cannot hold.
    """
    made = {"messages": _messages, "alpaca": _alpaca, "sharegpt": _sharegpt}[form](list(rows.values()), turns)
    base = Source(path=form, source=form)
    read = [instruction_of(body, form, 1, base) for body in made]
    odd = [
        row_id
        for (row_id, row), back in zip(rows.items(), read, strict=True)
        if not isinstance(back, Instruction) or back.row_id != row.row_id
    ]
    if odd:
        raise SettingsError(
            f"{counted(len(odd), 'row has', 'rows have')} what {form} has no place for, such as {odd[0]}; it lacks "
            f"{_LACKS[form]}; use --format messages"
        )
    return made


def _messages(rows: Sequence[Instruction], turns: Turns) -> list[dict[str, Any]]:
    """OpenAI's turns; where only last answers carry loss, also as `prompt` and `completion`, which TRL masks itself."""
    with_tools, several = any(row.tools for row in rows), any(map(_n_earlier, rows))
    made = []
    for row in rows:
        said = [
            dict(turn) | ({"tool_calls": _calls(turn, _told)} if "tool_calls" in turn else {}) for turn in row.turns
        ]
        body: dict[str, Any] = {"messages": said}
        if several and turns == "last":
            body = {"messages": [turn | {"training": turn is said[-1]} for turn in said]}
        if not several or turns == "last":
            body |= {"prompt": said[:-1], "completion": said[-1:]}
        made.append(body | ({"tools": _json(row.tools) if row.tools else None} if with_tools else {}))
    return made


def _alpaca(rows: Sequence[Instruction], turns: Turns) -> list[dict[str, Any]]:
    made = []
    for row in rows:
        system, own = _apart(row)
        spoken = [turn["content"] for turn in own]
        history = [spoken[n : n + 2] for n in range(0, len(spoken) - 2, 2)]
        body = {"instruction": spoken[-2], "input": "", "output": spoken[-1]}
        made.append(body | {"system": system, "history": history})
    return made


def _sharegpt(rows: Sequence[Instruction], turns: Turns) -> list[dict[str, Any]]:
    made = []
    for row in rows:
        (system, own), tools = _apart(row), _json(row.tools) if row.tools else ""
        made.append({"conversations": [_spoken(turn) for turn in own], "system": system, "tools": tools})
    return made


def _spoken(turn: Turn) -> dict[str, str]:
    """A turn in ShareGPT's words, calls as JSON."""
    named = {name: turn[name] for name in ("tool_call_id", "name") if name in turn}
    if "tool_calls" not in turn:
        return {"from": _TO_SHAREGPT.get(turn["role"], turn["role"]), "value": turn["content"], **named}
    calls = [call["function"] | ({"id": call["id"]} if "id" in call else {}) for call in _calls(turn, decoded)]
    return {"from": "function_call", "value": _json(calls if len(calls) > 1 else calls[0]), **named}


def _apart(row: Instruction) -> tuple[str, Sequence[Turn]]:
    """The text of a first system turn, and the others."""
    first = row.turns[0]
    return (first["content"], row.turns[1:]) if first["role"] == "system" else ("", row.turns)


def _calls(turn: Turn, change: Callable[[Any], Any]) -> list[dict[str, Any]]:
    return [with_arguments(call, change) for call in turn["tool_calls"]]


def _told(arguments: Any) -> Any:
    """Arguments as a table, as chat templates want them; as JSON text where a null is one, which tables may lose."""
    found = decoded(arguments)
    return arguments if _has_null(found) else found


def _has_null(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(map(_has_null, parts))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def entry(form: Format, rows: Rows) -> dict[str, Any] | None:
    """What LLaMA-Factory's `dataset_info.json` says of such a file; nothing if it would not read all of it."""
    if form != "messages":
        return _ENTRIES[form]
    own = _ENTRIES[form]
    if any(_unread(row) for row in rows.values()):
        return None
    tools = {"tools": "tools"} if any(row.tools for row in rows.values()) else {}
    return own | {"columns": own["columns"] | tools}


def axolotl(name: str, rows: Rows, turns: Turns) -> str:
    """What Axolotl's configuration says of such a file of messages: YAML."""
    lines = ["datasets:", f"  - path: {_json(name)}", "    ds_type: json", "    type: chat_template"]
    lines += ["    field_messages: messages", "    roles_to_train: [assistant]", "    train_on_eos: turn"]
    if any(row.tools for row in rows.values()):
        lines.append("    field_tools: tools")
    if turns == "last" and any(map(_n_earlier, rows.values())):
        lines.append("    message_field_training: training")
    return "\n".join([*lines, "chat_template: tokenizer_default", ""])


def notes(form: Format, rows: Rows, turns: Turns) -> list[str]:
    """What a person has to set, or to know, who trains on such a file."""
    said, n_earlier = [], sum(map(_n_earlier, rows.values()))
    if n_earlier and turns == "last":
        said.append(
            f"{counted(n_earlier, 'earlier answer is', 'earlier answers are')} context here, without loss; "
            "LLaMA-Factory needs `mask_history: true`."
        )
    if n_earlier and turns == "all" and form == "messages":
        said.append(
            f"{counted(n_earlier, 'earlier answer carries', 'earlier answers carry')} loss here; TRL trains on all "
            "tokens, users' too, unless `assistant_only_loss=True`, which needs a chat template with "
            "`{% generation %}`."
        )
    if form == "messages" and (n := sum(map(_unread, rows.values()))):
        said.append(
            f"{counted(n, 'row calls', 'rows call')} tools or reason beside the answer, which LLaMA-Factory drops of "
            "messages: no entry for it; use --format sharegpt, which holds calls."
        )
    if n := sum(not _alternates(row) for row in rows.values()):
        said.append(
            f"{counted(n, 'row does', 'rows do')} not alternate between user and assistant: LLaMA-Factory skips such."
        )
    return said


def _unread(row: Instruction) -> bool:
    return any(turn.keys() & {"tool_calls", "reasoning_content"} for turn in row.turns)


def _n_earlier(row: Instruction) -> int:
    return sum(turn["role"] == "assistant" for turn in row.turns[:-1])


def _alternates(row: Instruction) -> bool:
    """Whether, after a system message at most, users or tools and assistants take turns."""
    roles = ["user" if turn["role"] == "tool" else turn["role"] for turn in _apart(row)[1]]
    return roles == ["user", "assistant"] * (len(roles) // 2)
