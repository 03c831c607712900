"""Rows of every format come in whole, or are set aside or refused with file, line and reason."""

import json
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from g2is_assets.contracts.instructions import REJECTED, Instruction, Unusable
from g2is_assets.errors import SourceError
from g2is_assets.settings.config import Source
from g2is_assets.store.sources import find_files, read_rows, relative_name
from support.rows import write_jsonl

ANY = Source(path="any")
GOOD = {"prompt": "Say hi.", "response": "Hi."}


def read(file: Path, source: Source = ANY) -> list[Instruction | Unusable]:
    return list(read_rows(str(file), source, file.parent))


def read_text(folder: Path, text: str | bytes, source: Source = ANY) -> list[Instruction | Unusable]:
    file = folder / "rows.jsonl"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(file, source)


def read_records(folder: Path, *records: Any, source: Source = ANY) -> list[Instruction | Unusable]:
    return read_text(folder, "".join(json.dumps(record) + "\n" for record in records), source)


def usable(folder: Path, record: dict[str, Any], source: Source = ANY) -> Instruction:
    (row,) = read_records(folder, record, source=source)
    assert isinstance(row, Instruction)
    return row


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(SourceError) as refused:
        read_text(folder, text)
    return str(refused.value)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


FORMATS = [
    ({"instruction": "Add.", "input": "1 + 1", "output": "2"}, [user("Add.\n\n1 + 1")], "2"),
    ({"instruction": "Add 1 and 1.", "input": "", "output": "2"}, [user("Add 1 and 1.")], "2"),
    ({"instruction": "Add 1 and 1.", "output": "2"}, [user("Add 1 and 1.")], "2"),
    ({"prompt": "Add 1 and 1.", "response": "2"}, [user("Add 1 and 1.")], "2"),
    ({"prompt": "Add 1 and 1.", "completion": " 2\n"}, [user("Add 1 and 1.")], " 2\n"),
    (
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                user("1 + 1?"),
                assistant("2"),
                user("And 1 more?"),
                assistant("3"),
            ]
        },
        [{"role": "system", "content": "Be brief."}, user("1 + 1?"), assistant("2"), user("And 1 more?")],
        "3",
    ),
]


@pytest.mark.parametrize(("record", "messages", "response"), FORMATS)
def test_each_format_becomes_turns_and_a_response(
    tmp_path: Path, record: dict[str, Any], messages: list[dict[str, str]], response: str
) -> None:
    row = usable(tmp_path, record)
    assert list(row.turns) == [*messages, assistant(response)]
    assert row.response == response


@pytest.mark.parametrize(("record", "messages", "response"), FORMATS)
def test_each_format_is_the_same_row_in_parquet(
    tmp_path: Path, record: dict[str, Any], messages: list[dict[str, str]], response: str
) -> None:
    file = tmp_path / "rows.parquet"
    pl.DataFrame([record]).write_parquet(file)
    (row,) = read(file)
    assert isinstance(row, Instruction)
    assert row.row_id == usable(tmp_path, record).row_id
    assert list(row.turns) == [*messages, assistant(response)]


def test_the_prompt_for_people_names_the_roles_only_where_there_are_several_turns(tmp_path: Path) -> None:
    assert usable(tmp_path, GOOD).prompt == "Say hi."
    turns = {"messages": [{"role": "system", "content": "Be brief."}, user("Hi?"), assistant("Hi.")]}
    assert usable(tmp_path, turns).prompt == "system: Be brief.\nuser: Hi?"


def test_what_a_row_says_of_itself_comes_along(tmp_path: Path) -> None:
    said = {"id": 7, "answer": 2, "choices": ["1", "2"], "source": " sums ", "license": "mit"}
    row = usable(tmp_path, GOOD | said)
    assert (row.id, row.answer, row.choices, row.source, row.license) == ("7", "2", ("1", "2"), "sums", "mit")


def test_an_exported_row_brings_all_its_ids_sources_and_licences(tmp_path: Path) -> None:
    source = Source(path="any", source="again", license="cc0")
    said = {"row_id": "x", "ids": ["a", "b"], "sources": ["sums", "words"], "licenses": ["mit", "unknown"]}
    assert usable(tmp_path, GOOD | said, source).labels == {name: said[name] for name in ("ids", "sources", "licenses")}
    none = usable(tmp_path, GOOD | {"row_id": "x", "ids": [], "licenses": ["unknown"]}, source)
    assert none.labels == {"ids": [], "sources": ["again"], "licenses": ["cc0"]}
    other = usable(tmp_path, GOOD | {"sources": ["https://example.org"], "licenses": ["gpl"]}, source)
    assert (other.labels["sources"], other.labels["licenses"]) == (["again"], ["gpl"])


def test_a_row_without_source_and_licence_takes_the_pool_sources_then_the_files_name(tmp_path: Path) -> None:
    named = usable(tmp_path, GOOD, Source(path="any", source="sums", license="mit"))
    assert (named.source, named.license) == ("sums", "mit")
    own = usable(tmp_path, GOOD | {"source": "own", "license": "cc0"}, Source(path="any", source="sums", license="mit"))
    assert (own.source, own.license) == ("own", "cc0")
    bare = usable(tmp_path, GOOD)
    assert (bare.source, bare.license, bare.id, bare.answer, bare.choices) == ("rows", "unknown", None, None, None)


def test_rows_of_parquet_are_counted_from_one(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    pl.DataFrame({"prompt": ["a", "b"], "response": ["x", None]}).write_parquet(file)
    first, second = read(file)
    assert (first.line, first.file) == (1, "rows.parquet")
    assert second == Unusable("rows.parquet", 2, None, "rows", "nothing in `response`")


def test_files_are_named_relative_to_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "pool" / "a.jsonl"
    file.parent.mkdir()
    file.write_text(json.dumps(GOOD))
    (row,) = read_rows(str(file), ANY, tmp_path)
    assert row.file == "pool/a.jsonl"
    assert relative_name(str(file), tmp_path / "data") == "../pool/a.jsonl"
    assert relative_name("hf://datasets/x/y.parquet", tmp_path) == "hf://datasets/x/y.parquet"


def test_a_malformed_line_is_refused_by_file_and_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, json.dumps(GOOD) + '\n\n{"prompt": \n')
    assert f"{tmp_path / 'rows.jsonl'}, line 3: not valid JSON" in message


@pytest.mark.parametrize("line", ["[1]", '"text"', "5", "null", "true"])
def test_a_line_that_is_no_object_is_set_aside_by_file_and_line(tmp_path: Path, line: str) -> None:
    _, row, _ = read_text(tmp_path, f"{json.dumps(GOOD)}\n{line}\n{json.dumps(GOOD)}")
    assert isinstance(row, Unusable)
    assert (row.file, row.line, row.source) == ("rows.jsonl", 2, "rows")
    assert "a JSON object is needed" in row.reason


def test_missing_columns_are_refused_with_those_found(tmp_path: Path) -> None:
    message = refusal(tmp_path, '{"Questions": "a", "answr": "b"}\n')
    assert "rows.jsonl, line 1: unknown columns: Questions, answr; is `Questions` the known `question`?" in message
    assert "prompt/response" in message
    line = 'sources = [{ path = "any", columns = { prompt = "...", response = "..." } }]'
    assert f"name others in the settings, below [instructions]: `{line}`" in message
    own = write_jsonl(tmp_path / "tickets" / "test.jsonl", [{"Frage": "a"}])
    with pytest.raises(SourceError, match=r'name others in .*/tickets/domain.toml: `columns = \{ prompt = "\.\.\.", '):
        list(read_rows(str(own), Source(path=str(own)), tmp_path))
    assert "unknown columns: none" in refusal(tmp_path, "{}\n")


@pytest.mark.parametrize(
    ("columns", "record", "reason"),
    [
        ({}, {"Frage": "Wie?", "Lösung": None}, "nothing in `Lösung`"),
        ({}, {"Frage": None, "Lösung": None}, "nothing in `Frage` and `Lösung`"),
        ({}, {"Frage": "Wie?", "Lösung": " "}, "empty response (in `Lösung`)"),
        ({}, {"Frage": " ", "Lösung": "So."}, "empty user text (in `Frage`)"),
        ({}, {"Frage": 3, "Lösung": "So."}, "the user text is not a string (in `Frage`)"),
        ({"input": "Text"}, {"Frage": "Wie?", "Text": 3, "Lösung": "So."}, "the input is not a string (in `Text`)"),
        (
            {"license": "Recht"},
            {"Frage": "Wie?", "Recht": 3, "Lösung": "So."},
            "the license is not a string (in `Recht`)",
        ),
        (
            {"answer": "Wahl", "choices": "Von"},
            {"Frage": "Wie?", "Lösung": "So.", "Wahl": "c", "Von": ["a", "b"]},
            "the answer 'c' is not one of the choices (in `Wahl`)",
        ),
        (
            {"choices": "Von"},
            {"Frage": "Wie?", "Lösung": "So.", "Von": "a"},
            "`Von` is neither a list nor the JSON of one",
        ),
    ],
)
def test_a_row_set_aside_is_told_in_the_names_that_its_columns_have(
    tmp_path: Path, columns: dict[str, str], record: dict[str, Any], reason: str
) -> None:
    named = {"prompt": "Frage", "response": "Lösung"} | columns
    (row,) = read_records(tmp_path, record, source=Source.model_validate({"path": "any", "columns": named}))
    assert isinstance(row, Unusable)
    assert row.reason == reason


def test_so_is_one_of_a_conversation(tmp_path: Path) -> None:
    source = Source.model_validate({"path": "any", "columns": {"messages": "Gespräch"}})
    rows = read_records(tmp_path, {"Gespräch": []}, {"Gespräch": [user("a")]}, {"Gespräch": [{"x": 1}]}, source=source)
    reasons = [row.reason for row in rows if isinstance(row, Unusable)]
    assert reasons[:2] == [
        "`Gespräch` is empty",
        "no response: the last message is not the assistant's (in `Gespräch`)",
    ]
    assert reasons[2].endswith("(in `Gespräch`)")
    other = Source.model_validate({"path": "any", "columns": {"answer": "Lösung"}})
    with pytest.raises(SourceError, match="unknown columns: Frage, Lösung; known are"):
        read_records(tmp_path, {"Frage": "Wie?", "Lösung": "So."}, source=other)


def test_a_row_of_unknown_columns_costs_itself_alone_where_others_are_known(tmp_path: Path) -> None:
    good, bad = read_records(tmp_path, GOOD, {"text": "free text"})
    assert isinstance(good, Instruction)
    assert isinstance(bad, Unusable)
    assert bad.reason.startswith("unknown columns: text; known are instruction/input/output, prompt/response")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": "a", "response": " \n"}, "empty response"),
        ({"prompt": "\t", "response": "b"}, "empty user text"),
        ({"instruction": "", "input": "", "output": "b"}, "empty user text"),
        ({"prompt": 5, "response": "b"}, "the user text is not a string"),
        ({"prompt": "a", "response": 5}, "the assistant text is not a string"),
        ({"prompt": "a", "response": ["b"]}, "without a role"),
        ({"prompt": "a", "completion": None}, "nothing in `completion`"),
        ({"instruction": None, "input": "x", "output": "y"}, "nothing in `instruction`"),
        ({"messages": []}, "`messages` is empty"),
        ({"messages": [assistant("b")]}, "no prompt"),
        ({"messages": [user("a")]}, "no response"),
        ({"messages": [user("a"), assistant("b"), user("c")]}, "no response"),
        ({"messages": ["a", "b"]}, "without a role"),
        ({"messages": [{"content": "a"}, assistant("b")]}, "without a role"),
        ({"messages": [{"role": "narrator", "content": "a"}, assistant("b")]}, "without a role"),
        ({"messages": [{"role": "tool", "content": "a"}, assistant("b")]}, "no prompt"),
        ({"messages": [{"role": ["user"], "content": "a"}, assistant("b")]}, "without a role"),
        ({"messages": [{"role": {}, "content": "a"}, assistant("b")]}, "without a role"),
        ({"messages": [user("a"), {"role": "assistant"}]}, "the assistant text is not a string"),
        ({"messages": [{"role": "system", "content": ""}, user("a"), assistant("b")]}, "empty system text"),
    ],
)
def test_an_unusable_row_is_set_aside_with_its_reason_and_line(
    tmp_path: Path, record: dict[str, Any], reason: str
) -> None:
    good, bad, last = read_records(tmp_path, GOOD, record | {"id": "x1", "source": "mine"}, GOOD)
    assert isinstance(good, Instruction)
    assert isinstance(last, Instruction)
    assert isinstance(bad, Unusable)
    assert (bad.file, bad.line, bad.id, bad.source) == ("rows.jsonl", 2, "x1", "mine")
    assert reason in bad.reason


def test_an_input_that_is_no_string_is_not_dropped_from_the_prompt(tmp_path: Path) -> None:
    (row,) = read_records(tmp_path, {"instruction": "Double it.", "input": 21, "output": "42"})
    assert isinstance(row, Unusable)
    assert row.line == 1


@pytest.mark.parametrize("choices", [5, True, "ab"])
def test_choices_that_are_no_list_set_the_row_aside(tmp_path: Path, choices: Any) -> None:
    (row,) = read_records(tmp_path, GOOD | {"choices": choices})
    assert isinstance(row, Unusable)
    assert "choices" in row.reason


def test_blank_lines_are_skipped_without_shifting_line_numbers(tmp_path: Path) -> None:
    rows = read_text(tmp_path, f"\n{json.dumps(GOOD)}\n  \t\n\r\n{json.dumps(GOOD)}")
    assert [row.line for row in rows] == [2, 5]
    assert read_text(tmp_path, "") == []


def test_separators_inside_of_a_text_do_not_end_its_line(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three\x0bfour"
    rows = read_text(tmp_path, json.dumps({"prompt": text, "response": "b"}, ensure_ascii=False) + "\n")
    assert [(row.line, row.prompt) for row in rows if isinstance(row, Instruction)] == [(1, text)]


def test_a_file_that_is_not_utf8_is_refused_by_name_and_line(tmp_path: Path) -> None:
    assert "rows.jsonl, line 1: not UTF-8 (byte 0xff)" in refusal(tmp_path, b'{"prompt": "\xff", "response": "b"}')


def test_an_unknown_ending_a_missing_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "rows.md").write_text("prompt,response\n")
    with pytest.raises(SourceError, match=r"rows\.md: neither name nor content say .* \.jsonl, .*\.parquet"):
        read(tmp_path / "rows.md")
    with pytest.raises(SourceError, match=r"gone\.jsonl does not exist"):
        read(tmp_path / "gone.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(SourceError, match=r"folder\.jsonl does not exist or is no file"):
        read(tmp_path / "folder.jsonl")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all, only text" * 10])
def test_a_broken_parquet_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.parquet").write_bytes(content)
    with pytest.raises(SourceError, match=r"rows\.parquet cannot be read as Parquet"):
        read(tmp_path / "rows.parquet")


def test_a_truncated_parquet_file_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    pl.DataFrame([GOOD]).write_parquet(file)
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(SourceError, match=r"rows\.parquet cannot be read as Parquet"):
        read(file)


def test_a_parquet_file_whose_name_is_a_pattern_is_read_itself(tmp_path: Path) -> None:
    pl.DataFrame([{"prompt": "another file", "response": "x"}]).write_parquet(tmp_path / "rows1.parquet")
    pl.DataFrame([GOOD]).write_parquet(tmp_path / "rows[1].parquet")
    (row,) = read(tmp_path / "rows[1].parquet")
    assert isinstance(row, Instruction)
    assert row.prompt == GOOD["prompt"]


def test_a_source_is_a_path_a_sorted_glob_or_a_uri(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.parquet"):
        (tmp_path / name).write_text("")
    assert find_files(Source(path="b.jsonl"), tmp_path) == [str(tmp_path / "b.jsonl")]
    assert find_files(Source(path="*.jsonl"), tmp_path) == [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    assert find_files(Source(path="s3://bucket/*.parquet"), tmp_path) == ["s3://bucket/*.parquet"]
    with pytest.raises(SourceError, match="matches no file"):
        find_files(Source(path="*.ndjson"), tmp_path)


def test_a_project_folder_with_brackets_in_its_name_works(tmp_path: Path) -> None:
    folder = tmp_path / "pool [v1]"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps(GOOD))
    assert find_files(Source(path="*.jsonl"), folder) == [str(folder / "a.jsonl")]


def test_what_a_row_says_is_kept_to_the_character(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    spread = usable(tmp_path, {"prompt": f"  {decomposed}\n", "response": "\tthe\u0301 "})
    assert spread.turns == (user(f"  {decomposed}\n"), assistant("\tthe\u0301 "))
    assert spread.row_id != usable(tmp_path, {"prompt": "café", "response": "thé"}).row_id


def test_the_id_depends_on_content_alone(tmp_path: Path) -> None:
    plain = usable(tmp_path, GOOD)
    said = GOOD | {"source": "s", "license": "l", "id": "i", "answer": "a", "choices": ["a", "c"]}
    assert usable(tmp_path, said).row_id == plain.row_id
    as_turns = {"messages": [user("Say hi."), assistant("Hi.")]}
    assert usable(tmp_path, as_turns).row_id == plain.row_id


def test_another_prompt_response_role_or_cut_between_turns_is_another_id(tmp_path: Path) -> None:
    records = [
        GOOD,
        GOOD | {"prompt": "Say Hi."},
        GOOD | {"response": "Hi!"},
        {"messages": [{"role": "system", "content": "Say"}, user("hi."), assistant("Hi.")]},
        {"messages": [user("Say"), user("hi."), assistant("Hi.")]},
        {"messages": [user("Say hi."), assistant("Hi."), assistant("Hi.")]},
    ]
    assert len({usable(tmp_path, record).row_id for record in records}) == len(records)


@pytest.mark.parametrize("name", ["prompt", "response", "id", "answer", "source", "license", "choices"])
def test_half_a_character_sets_the_row_aside_in_words_that_can_be_stored(tmp_path: Path, name: str) -> None:
    half = "a\ud800b"
    (bad,) = read_text(tmp_path, json.dumps(GOOD | {name: [half] if name == "choices" else half}) + "\n")
    assert isinstance(bad, Unusable)
    assert bad.reason == "half a character, \\ud800, which is no text"
    fields = {"file": bad.file, "line": bad.line, "id": bad.id, "source": bad.source, "reason": bad.reason}
    assert len(REJECTED.validate(pl.DataFrame([fields], schema=REJECTED.schema))) == 1


def test_escaped_surrogate_pairs_are_one_character(tmp_path: Path) -> None:
    (row,) = read_text(tmp_path, '{"prompt": "\\ud83d\\ude00", "response": "b"}')
    assert isinstance(row, Instruction)
    assert row.prompt == "\U0001f600"


def test_deeply_nested_json_is_refused_by_line(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    assert "line 2: not valid JSON" in refusal(tmp_path, f'{json.dumps(GOOD)}\n{{"prompt": {deep}}}\n')


def test_a_number_of_too_many_digits_is_refused_by_line(tmp_path: Path) -> None:
    assert "line 1" in refusal(tmp_path, '{"prompt": "a", "response": "b", "score": ' + "1" * 5000 + "}")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
TURNS = st.lists(
    st.one_of(
        JSON,
        st.fixed_dictionaries(
            {"role": st.one_of(st.sampled_from(["system", "user", "assistant"]), JSON), "content": st.text() | JSON}
        ),
    ),
    max_size=3,
)
FIELDS = ["instruction", "input", "output", "prompt", "response", "completion", "id", "source", "license", "answer"]
RECORDS = st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=5) | JSON, max_size=6)
ROWS = st.one_of(
    JSON,
    RECORDS,
    RECORDS.map(lambda record: {"prompt": "a", "response": "b"} | record),
    st.tuples(RECORDS, TURNS | JSON).map(lambda pair: pair[0] | {"messages": pair[1]}),
    st.tuples(RECORDS, JSON).map(lambda pair: GOOD | pair[0] | {"choices": pair[1]}),
)
LINES = st.one_of(ROWS.map(json.dumps), st.just(""), st.text(st.characters(exclude_characters="\r\n"), max_size=10))


@settings(max_examples=50, deadline=None)
@given(st.lists(LINES, max_size=4))
@example([json.dumps(GOOD | {"choices": 5})])
@example([json.dumps({"messages": [{"role": [], "content": "a"}]})])
def test_any_lines_are_refused_or_every_one_of_them_is_accounted_for(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            rows = read_text(Path(folder), "\n".join(lines).encode("utf-8", "surrogatepass"))
        except SourceError as refused:
            assert "rows.jsonl" in str(refused)  # noqa: PT017
            return
    assert [row.line for row in rows] == [number for number, line in enumerate(lines, start=1) if line.strip()]
    assert all(row.row_id and row.response for row in rows if isinstance(row, Instruction))
    assert all(row.reason for row in rows if isinstance(row, Unusable))


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_an_id_survives_being_written_and_read_again(prompt: str, response: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (row,) = read_records(Path(folder), {"prompt": prompt, "response": response})
        if isinstance(row, Unusable):
            assert not (prompt.strip() and response.strip())
            return
        again = usable(Path(folder), {"prompt": row.prompt, "response": row.response})
        assert again.row_id == row.row_id


@pytest.mark.parametrize("name", ["source", "license"])
@pytest.mark.parametrize("value", [["CC-BY-NC-4.0"], 7, {"name": "CC-BY-NC-4.0"}])
def test_a_licence_or_source_that_is_no_text_sets_the_row_aside_and_the_pool_sources_does_not_stand_in(
    tmp_path: Path, name: str, value: object
) -> None:
    (row,) = read_records(tmp_path, GOOD | {name: value}, source=Source(path="any", source="sums", license="MIT"))
    assert isinstance(row, Unusable)
    assert row.reason == f"the {name} is not a string"
