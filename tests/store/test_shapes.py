"""Shapes of rows: what becomes of a record's columns."""

import json
from datetime import date
from typing import Any

import pytest

from g2is_assets.contracts.instructions import Instruction, Unusable
from g2is_assets.errors import UnknownShape
from g2is_assets.settings.config import Source
from g2is_assets.store.shapes import instruction_of
from g2is_assets.store.sources import unknown_columns

BASE = Source(path="rows.jsonl", source="rows")
CALL = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def row_of(record: dict[str, Any]) -> Instruction:
    row = instruction_of(record, "rows.jsonl", 3, BASE)
    assert isinstance(row, Instruction), row
    return row


def reason(record: dict[str, Any]) -> str:
    row = instruction_of(record, "rows.jsonl", 3, BASE)
    assert isinstance(row, Unusable), row
    assert row.line == 3
    return row.reason


@pytest.mark.parametrize(
    ("record", "turns"),
    [
        ({"question": "How?", "answer": "So."}, [user("How?"), assistant("So.")]),
        ({"instruction": "Sum up.", "context": "A text.", "response": "Text."}, [user("Sum up.\n\nA text."), "Text."]),
        ({"question": "Who?", "context": "Ann came.", "answer": "Ann"}, [user("Who?\n\nAnn came."), "Ann"]),
        ({"query": "q", "response": "r"}, [user("q"), "r"]),
        ({"instruction": "", "input": "Only this.", "output": "b"}, [user("Only this."), "b"]),
        ({"system_prompt": "Be brief.", "question": "q", "response": "r"}, [system("Be brief."), user("q"), "r"]),
        ({"messages": [{**user("a"), "from": None}, {"role": None, "from": "gpt", "value": "b"}]}, [user("a"), "b"]),
        (
            {"instruction": "c", "input": "", "output": "d", "system": "Be brief.", "history": [["a", "b"]]},
            [system("Be brief."), user("a"), assistant("b"), user("c"), "d"],
        ),
        ({"messages": [user("Hi"), assistant("Hallo")], "system": "German."}, [system("German."), user("Hi"), "Hallo"]),
        ({"messages": [system("x"), user("a"), assistant("b")], "system": "x"}, [system("x"), user("a"), "b"]),
        ({"prompt": [user("Hi")], "completion": [assistant("Hello")]}, [user("Hi"), "Hello"]),
        ({"prompt": [user("a"), assistant("b"), user("c")], "response": "d"}, [user("a"), "b", user("c"), "d"]),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": None},
            [user("a"), "b"],
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": " b"}]},
                       assistant("c")]}, [user("a b"), "c"]),
        ({"prompt": "a", "response": "b", "instruction": None, "output": None}, [user("a"), "b"]),
        ({"prompt": "a", "completion": "b", "response": None}, [user("a"), "b"]),
        ({"prompt": "a", "completion": "b", "response": ""}, [user("a"), "b"]),
        ({"prompt": "a", "response": "b", "messages": []}, [user("a"), "b"]),
        ({"prompt": "a", "response": "b", "messages": None, "conversations": ""}, [user("a"), "b"]),
        ({"messages": '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'}, [user("a"), "b"]),
        ({"messages": [user("a"), assistant("b", name=None, tool_calls=None)]}, [user("a"), "b"]),
        ({"prompt": "a", "response": "b", "image": False, "images": []}, [user("a"), "b"]),
    ],
)  # fmt: skip
def test_a_record_becomes_turns(record: dict[str, Any], turns: list[Any]) -> None:
    wanted = [assistant(turn) if isinstance(turn, str) else turn for turn in turns]
    assert list(row_of(record).turns) == wanted


def test_calls_results_and_tools_of_openai_are_kept() -> None:
    result = {"role": "tool", "tool_call_id": "c1", "content": "4 degrees"}
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", **CALL}]}
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "required": None}}}
    row = row_of({"messages": [user("Oslo?"), called, result, assistant("Cold.")], "tools": [tool]})
    assert row.turns[1] == assistant("", tool_calls=[{"id": "c1", **CALL}])
    assert row.turns[2] == result
    assert row.tools == ({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}},)
    assert row_of({"messages": [user("a"), assistant("b")], "functions": [tool]}).tools == row.tools
    assert row.row_id != row_of({"messages": [user("Oslo?"), called, result, assistant("Cold.")]}).row_id


def test_calls_results_and_tools_of_sharegpt_are_kept() -> None:
    said = [
        {"from": "human", "value": "Oslo?"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Oslo"}}'},
        {"from": "observation", "value": '{"temperature": 4}'},
        {"from": "gpt", "value": "4 degrees."},
    ]
    row = row_of({"conversations": said, "tools": '[{"name": "weather"}]'})
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    assert row.turns[1:3] == (assistant("", tool_calls=[call]), {"role": "tool", "content": '{"temperature": 4}'})
    assert row.tools == ({"type": "function", "function": {"name": "weather"}},)


def test_arguments_count_by_what_they_say_and_the_id_of_a_bare_call_is_its_own() -> None:
    said = {"name": "weather", "arguments": {"city": "Oslo"}}
    told = {"from": "function_call", "value": json.dumps(said | {"id": "c1"})}
    talk = row_of({"conversations": [{"from": "human", "value": "Oslo?"}, told]})
    assert talk.turns[1] == assistant("", tool_calls=[{"type": "function", "id": "c1", "function": said}])
    assert talk.row_id == row_of({"messages": [user("Oslo?"), assistant("", tool_calls=[{"id": "c1", **CALL}])]}).row_id


def test_a_null_of_json_arguments_is_kept() -> None:
    told = {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": null}}'}
    (call,) = row_of({"conversations": [{"from": "human", "value": "Oslo?"}, told]}).turns[1]["tool_calls"]
    assert call["function"]["arguments"] == {"city": None}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"messages": json.dumps([user("\ud800"), assistant("b")])}, "half a character"),
        ({"prompt": "a", "response": "b", "tools": '[{"name": "\\udfff"}]'}, "half a character"),
        ({"prompt": "a", "response": "b", "tools": '[{"name": "f", "at": NaN}]'}, "JSON cannot hold"),
        (
            {"messages": [user("a"), assistant("", tool_calls=[{"name": "f", "arguments": '{"a": 1e999}'}])]},
            "JSON cannot",
        ),
        ({"messages": [user("a"), assistant("", tool_calls=[{"name": "f", "arguments": '{"a": "\\ud800"}'}])]}, "JSON"),
    ],
)
def test_json_that_says_what_no_file_can_hold_costs_its_row_alone(record: dict[str, Any], said: str) -> None:
    assert said in reason(record)


def test_a_call_may_be_the_response() -> None:
    row = row_of({"messages": [user("Oslo?"), {"role": "assistant", "content": None, "tool_calls": [CALL]}]})
    assert '"weather"' in row.response


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_kept_apart(name: str) -> None:
    row = row_of({"messages": [user("a"), assistant("b", **{name: "because"})]})
    assert row.turns[-1] == assistant("b", reasoning_content="because")
    assert row.row_id != row_of({"prompt": "a", "response": "b"}).row_id


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Pick.", "chosen": "A", "rejected": "B"},
        {"prompt": "Pick.", "chosen": [user("Pick."), assistant("A")], "rejected": []},
        {"prompt": [user("Pick.")], "chosen": [assistant("A")], "rejected": [assistant("B")]},
        {"chosen": [user("Pick."), assistant("A")], "rejected": [user("Pick."), assistant("B")]},
        {"instruction": "Pick.", "input": "", "chosen": "A", "rejected": "B"},
        {"question": "Pick.", "chosen": assistant("A"), "rejected": assistant("B")},
        {"conversations": [{"from": "human", "value": "Pick."}], "chosen": {"from": "gpt", "value": "A"}},
    ],
)
def test_of_a_preference_pair_the_chosen_response_is_used_and_it_is_said_so(record: dict[str, Any]) -> None:
    row = row_of(record)
    assert (list(row.turns), row.preferred) == ([user("Pick."), assistant("A")], True)
    assert not row_of({"prompt": "Pick.", "response": "A"}).preferred
    assert not row_of({"messages": [user("Pick."), assistant("A")], "chosen": 5}).preferred


@pytest.mark.parametrize(
    ("record", "answer", "response"),
    [
        ({"question": "Capital?", "answer": "Oslo", "choices": ["Oslo", "Bergen"]}, "Oslo", "Oslo"),
        ({"question": "Capital?", "answer": 1, "choices": ["Bergen", "Oslo"]}, "Oslo", "Oslo"),
        ({"question": "Capital?", "answer": 0, "choices": ["Bergen", "Oslo"]}, "Bergen", "Bergen"),
        ({"prompt": "Wetter?", "response": "sea", "choices": ["sea", "sand"], "answer": "A"}, "sea", "sea"),
        ({"prompt": "Wetter?", "response": "The sea.", "choices": ["sea", "sand"], "answer": "(a)"}, "sea", "The sea."),
        ({"prompt": "Taller?", "response": "elm", "choices": ["oak", "elm"], "answer": 1}, "elm", "elm"),
        ({"prompt": "Sum?", "response": "It is 2.", "choices": [1, 2], "answer": 2}, "2", "It is 2."),
        ({"prompt": "Q", "response": "Yes", "choices": ["yes", "no"], "answer": " Yes"}, "yes", "Yes"),
        ({"prompt": "Q", "response": "b", "choices": {"text": ["a", "b"]}, "answer": "B"}, "b", "b"),
        ({"question": "Q", "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]}, "answer": "2"}, "b", "b"),
        ({"question": "Q", "choices": {"label": ["A"]}, "answer": "A"}, None, "A"),
        ({"question": "Q", "options": ["a", "b"], "answer": "B"}, "b", "b"),
        ({"question": "Q", "options": {"A": "x", "B": "y"}, "answer": "B"}, "y", "y"),
        ({"question": "Why?", "answer": "A long story."}, None, "A long story."),
        ({"question": "2 + 2?", "answer": 4}, None, "4"),
        ({"prompt": "P", "completion": "c", "label": True}, None, "c"),
        ({"prompt": "Is it?", "response": "no", "label": False}, None, "no"),
        ({"prompt": "Sum?", "response": "So 4.", "answer": 4}, "4", "So 4."),
    ],
)  # fmt: skip
def test_an_answer_is_one_of_the_choices_or_names_one_by_letter_or_number(
    record: dict[str, Any], answer: str | None, response: str
) -> None:
    row = row_of(record)
    assert (row.answer, row.response) == (answer, response)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"prompt": "Q", "response": "oak", "choices": ["oak", "elm"], "answer": 1}, "'1' is not one of the choices"),
        ({"prompt": "Q", "response": "oak", "choices": ["oak", "elm"], "answer": "C"}, "'C' is not one of the choices"),
        ({"prompt": "Q", "response": "b", "choices": ["b", None], "answer": "b"}, "`choices` holds"),
        ({"prompt": "Q", "response": "b", "choices": ["b", "b"], "answer": "b"}, "`choices` holds an entry twice"),
        ({"question": "Q", "choices": ["a", "b"], "answer": "9" * 5000}, "is not one of the choices"),
        ({"prompt": "Q", "response": "b", "answer": {"text": "b"}}, "the answer is not a text"),
        ({"messages": [user("a"), assistant("b")], "system": 5}, "the system text is not a string"),
        ({"messages": [system("x"), user("a"), assistant("b")], "system": "y"}, "two system texts"),
        ({"instruction": "c", "output": "d", "history": [["a"]]}, "`history` is not a list of pairs"),
        ({"messages": [user("a"), assistant(None)]}, "the assistant text is not a string"),
        ({"messages": [user("a"), assistant("", tool_calls=[{"function": {}}])]}, "a call of a tool without a name"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, assistant("b")]}, "type image_url"),
        ({"messages": [user([{"type": "image", "text": ""}, {"type": "text", "text": "a"}]), assistant("b")]}, "image"),
        ({"messages": [user(["a", 3]), assistant("b")]}, "a part of type None in the user text"),
        ({"messages": [user("<image>a"), assistant("b")], "images": ["a.png"]}, "`images` holds what is no text"),
        ({"messages": [user("a"), assistant("b", weight=0), user("c"), assistant("d")]}, "is to carry no loss"),
        ({"prompt": "a", "response": "b", "tools": [{"name": "f", "since": date(2020, 1, 1)}]}, "JSON cannot hold"),
        ({"messages": {"role": "user"}}, "`messages` is not a list"),
        ({"messages": [user("a"), assistant("b")], "tools": "weather"}, "`tools` is neither a list nor the JSON"),
        ({"prompt": "p", "completion": "c", "label": False}, "this response is not wanted"),
        ({"messages": [user("a"), assistant("b")], "label": False}, "this response is not wanted"),
        ({"conversations": [{"from": "Ann", "value": "a"}]}, "a role that is known: 'Ann'; known are system,"),
        ({"prompt": "p", "response": None}, "nothing in `response`"),
        ({"prompt": "Pick.", "chosen": 3, "rejected": "B"}, "the assistant text is not a string"),
    ],
)  # fmt: skip
def test_a_fault_of_a_row_is_told_when_it_is_read(record: dict[str, Any], said: str) -> None:
    assert said in reason(record)


def test_a_record_that_is_nested_too_deep_is_set_aside() -> None:
    deep: Any = "a"
    for _ in range(5000):
        deep = [deep]
    assert reason({"prompt": "a", "response": "b", "more": deep}) == "nested too deep"


@pytest.mark.parametrize(
    ("record", "near"),
    [
        ({"Question": "a", "Answer": "b"}, "is `Question` the known `question`?"),
        ({"promt": "a", "respnse": "b"}, "is `promt` the known `prompt`?"),
        ({"input": "a", "output": "b"}, "beside `output` stands no prompt"),
        ({"text": "free"}, "unknown columns: text; known are instruction/input/output"),
        ({}, "unknown columns: none"),
    ],
)
def test_an_unknown_shape_is_refused_with_the_nearest_one(record: dict[str, Any], near: str) -> None:
    with pytest.raises(UnknownShape):
        instruction_of(record, "rows.jsonl", 1, BASE)
    assert near in unknown_columns(record)
