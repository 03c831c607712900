"""Formats of exports: a record reads back as the row that it was made from, or is not given out."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.contracts.instructions import Instruction
from g2is_assets.errors import SettingsError
from g2is_assets.export.formats import Format, axolotl, bodies, entry, notes
from g2is_assets.settings.config import Source
from g2is_assets.store.files import json_text
from g2is_assets.store.sources import read_rows

CALL = {"type": "function", "id": "c1", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"properties": {"city": {}}}}}
ASKED, CALLED = {"role": "user", "content": "Oslo?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT, REPLY = {"role": "tool", "tool_call_id": "c1", "content": ""}, {"role": "assistant", "content": "Cold."}
REASONED = REPLY | {"reasoning_content": "Norway."}

texts = st.text(alphabet=st.sampled_from("a \n\t\"\\\u2028\u2029\u0085é{}[]<'")).filter(lambda text: text.strip())


def tables(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    values = st.recursive(leaves, lambda v: st.dictionaries(texts, v, max_size=2), max_leaves=3)
    return st.dictionaries(texts, values, max_size=2)


plain = st.booleans() | st.integers() | texts
arguments = tables(plain) | tables(st.none() | plain).map(json.dumps)
functions = st.fixed_dictionaries({"name": texts, "arguments": arguments})


def said(role: str, **more: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"role": st.just(role), "content": texts}, **more)


def rows(*answers: st.SearchStrategy[dict[str, Any]], tools: bool) -> st.SearchStrategy[Instruction]:
    """Rows of a system text or none, and of pairs whose second is one of `answers`."""
    definitions = st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": tables(plain)}), max_size=2)
    pairs = st.lists(st.tuples(said("user"), st.one_of(*answers)), min_size=1, max_size=3)
    return st.builds(
        lambda system, pairs, tools: row(*system, *(turn for pair in pairs for turn in pair), tools=tools),
        st.lists(said("system"), max_size=1),
        pairs,
        definitions if tools else st.just([]),
    )


def row(*turns: dict[str, Any], tools: Any = ()) -> Instruction:
    return Instruction(turns, "", "", "", 0, tools=tuple(tools))


def back(form: Format, *made: Instruction, turns: Any = "all") -> list[str]:
    """Row ids of what the reader makes of an exported file."""
    records = bodies(form, {str(n): each for n, each in enumerate(made)}, turns)
    assert len({frozenset(record) for record in records}) == 1
    with TemporaryDirectory() as folder:
        file = Path(folder) / "made.jsonl"
        file.write_text("".join(json_text(record) + "\n" for record in records), encoding="utf-8")
        read = list(read_rows(str(file), Source(path=str(file)), Path(folder)))
    assert all(isinstance(each, Instruction) for each in read), read
    return [each.row_id for each in read if isinstance(each, Instruction)]


calls = st.fixed_dictionaries({"type": st.just("function"), "function": functions}, optional={"id": texts})
called = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.just(""), "tool_calls": st.lists(calls, min_size=1, max_size=2)}
)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.lists(rows(said("assistant"), tools=False), min_size=1, max_size=3), st.sampled_from(["last", "all"]))
def test_rows_of_text_come_back_equal_from_every_format(made: list[Instruction], turns: Any) -> None:
    for form in ("messages", "sharegpt", "alpaca"):
        assert back(form, *made, turns=turns) == [each.row_id for each in made]


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.lists(rows(said("assistant"), called, tools=True), min_size=1, max_size=3))
def test_calls_and_tools_come_back_equal_from_messages_and_sharegpt(made: list[Instruction]) -> None:
    for form in ("messages", "sharegpt"):
        assert back(form, *made) == [each.row_id for each in made]


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(rows(said("assistant", optional={"reasoning_content": texts, "name": texts}), called, tools=True))
def test_reasoning_comes_back_equal_from_messages(made: Instruction) -> None:
    assert back("messages", made) == [made.row_id]


def test_what_one_row_has_the_others_have_as_nothing() -> None:
    plain, tooled = row(ASKED, REPLY), row(ASKED, CALLED, RESULT, REPLY, tools=[TOOL])
    first, second = bodies("messages", {"a": plain, "b": tooled}, "all")
    assert (first["tools"], json.loads(second["tools"])) == (None, [TOOL])
    assert "tools" not in bodies("messages", {"a": plain}, "all")[0]
    assert [body["tools"] == "" for body in bodies("sharegpt", {"a": plain, "b": tooled}, "all")] == [True, False]


def test_arguments_are_tables_for_templates_and_for_llama_factory() -> None:
    made = {"a": row(ASKED, CALLED, RESULT, REPLY)}
    (messages,), (talk,) = bodies("messages", made, "all"), bodies("sharegpt", made, "all")
    assert messages["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}
    assert json.loads(talk["conversations"][1]["value"]) == {
        "name": "weather",
        "arguments": {"city": "Oslo"},
        "id": "c1",
    }
    assert [turn["from"] for turn in talk["conversations"]] == ["human", "function_call", "observation", "gpt"]


@pytest.mark.parametrize(
    ("form", "turns", "tools"),
    [
        ("alpaca", (ASKED, ASKED, REPLY), []),
        ("alpaca", (ASKED, CALLED, RESULT, REPLY), []),
        ("alpaca", (ASKED, REPLY), [TOOL]),
        ("alpaca", (ASKED, REASONED), []),
        ("alpaca", (ASKED, REPLY | {"name": "Ann"}), []),
        ("sharegpt", (ASKED, REASONED), []),
        ("sharegpt", (ASKED, CALLED | {"content": "One moment."}), []),
    ],
)
def test_what_a_format_cannot_hold_is_refused_by_row_with_the_format_that_can(
    form: Format, turns: Any, tools: Any
) -> None:
    made = {"fine": row(ASKED, REPLY), "odd": row(*turns, tools=tools)}
    with pytest.raises(SettingsError, match=rf"1 row has what {form} has no place for, such as odd; .*messages"):
        bodies(form, made, "all")
    assert back("messages", *made.values()) == [each.row_id for each in made.values()]


def test_trl_masks_the_prompt_by_itself_where_the_last_answer_is_all_that_carries_loss() -> None:
    one, two = {"a": row(ASKED, REPLY)}, {"a": row(ASKED, REPLY, ASKED, REPLY)}
    for made, turns in ((one, "all"), (one, "last"), (two, "last")):
        (body,) = bodies("messages", made, turns)  # type: ignore[arg-type]
        assert body["prompt"] + body["completion"] == list(made["a"].turns)
        assert body["completion"] == [REPLY]
    (body,) = bodies("messages", two, "all")
    assert body.keys() == {"messages"}
    assert "assistant_only_loss=True" in notes("messages", two, "all")[0]
    assert notes("messages", one, "all") == []


def test_each_trainer_is_told_what_masks_earlier_answers() -> None:
    two = {"a": row(ASKED, REPLY, ASKED, REPLY)}
    assert "mask_history: true" in notes("alpaca", two, "last")[0]
    assert notes("alpaca", two, "all") == []
    (body,) = bodies("messages", two, "last")
    assert [turn["training"] for turn in body["messages"]] == [False, False, False, True]
    (block,) = yaml.safe_load(axolotl("a 'b'.jsonl", two, "last"))["datasets"]
    assert (block["path"], block["message_field_training"]) == ("a 'b'.jsonl", "training")
    assert "message_field_training" not in axolotl("a.jsonl", two, "all")


def test_llama_factory_gets_no_entry_for_messages_of_which_it_would_drop_something() -> None:
    for turns in ((ASKED, CALLED, RESULT, REPLY), (ASKED, REASONED)):
        made = {"a": row(*turns)}
        assert entry("messages", made) is None
        assert "LLaMA-Factory drops" in notes("messages", made, "all")[-1]
    tooled = entry("messages", {"a": row(ASKED, REPLY, tools=[TOOL])})
    assert tooled is not None
    assert tooled["columns"] == {"messages": "messages", "tools": "tools"}
