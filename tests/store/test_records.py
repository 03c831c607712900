"""Records come whole from every format, packed or not, streamed; what is broken is named by file and line or row."""

import csv
import gzip
import io
import itertools
import json
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.errors import SourceError
from g2is_assets.settings.config import Source
from g2is_assets.settings.project import load_project
from g2is_assets.store import records
from g2is_assets.store.records import about_rows, ending_of, read_records
from g2is_assets.store.sources import find_files, read_rows, renamed
from support.s3 import object_store

ROWS = [
    {"question": "Reset, if locked out?", "answer": 'Press "Forgot",\r\nthen wait.'},
    {"question": "Größe? 大小\u2028？", "answer": " 9 to 5\t"},
    {"question": "Last?", "answer": "'yes'"},
]


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows: list[dict[str, Any]] | pl.DataFrame, **options: Any) -> bytes:
    content = io.BytesIO()
    (rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows)).write_parquet(content, **options)
    return content.getvalue()


def as_lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


FORMATS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "jsonl": as_lines,
    "ndjson": as_lines,
    "json": lambda rows: json.dumps(rows, indent=1).encode(),
    "csv": as_csv,
    "tsv": lambda rows: as_csv(rows, "\t"),
    "parquet": as_parquet,
}
PACKED: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd.compress}


def write(folder: Path, name: str, content: bytes | str) -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def read(folder: Path, name: str, content: bytes | str) -> list[tuple[int, Any]]:
    return list(read_records(str(write(folder, name, content))))


def refusal(folder: Path, name: str, content: bytes | str) -> str:
    with pytest.raises(SourceError) as refused:
        read(folder, name, content)
    said = str(refused.value)
    assert said.startswith(f"{folder / name}")
    assert "\n" not in said
    return said.removeprefix(str(folder / name))


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_records_packed_or_not(tmp_path: Path, form: str, packed: str) -> None:
    found = read(tmp_path, f"rows.{form}{packed}", PACKED[packed](FORMATS[form](ROWS)))
    assert [record for _, record in found] == ROWS
    numbers = [1, 2, 3] if form in ("jsonl", "ndjson", "json", "parquet") else [2, 4, 5]
    assert [number for number, _ in found] == numbers


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("name", ["rows", "rows.txt", "rows.data", "rows.json"])
def test_content_tells_the_format_where_the_name_does_not(tmp_path: Path, name: str, form: str, packed: str) -> None:
    found = read(tmp_path, name, PACKED[packed](FORMATS[form](ROWS)))
    assert [record for _, record in found] == ROWS


def test_endings_may_be_in_capitals_and_packed_content_needs_no_ending(tmp_path: Path) -> None:
    assert len(read(tmp_path, "rows.CSV", as_csv(ROWS))) == 3
    assert len(read(tmp_path, "rows.csv", gzip.compress(as_csv(ROWS)))) == 3
    assert len(read(tmp_path, "rows.jsonl.gz", as_lines(ROWS))) == 3  # unpacked on the way, as some programs do


@pytest.mark.parametrize("content", ["question,answer\na,b\n", "free text\n", "\x00\x01"])
def test_content_that_tells_nothing_is_refused_with_the_endings_there_are(tmp_path: Path, content: str) -> None:
    assert ": neither name nor content say what it holds" in refusal(tmp_path, "rows.txt", content)


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "tsv"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, form: str) -> None:
    assert [r for _, r in read(tmp_path, f"rows.{form}", b"\xef\xbb\xbf" + FORMATS[form](ROWS))] == ROWS


@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_rows_of_a_file_may_differ_in_columns_and_types(tmp_path: Path, form: str) -> None:
    rows: list[dict[str, Any]] = [{"a": 1}, {"b": [{"c": None}]}, {"a": "x", "d": 2.5}, {}, {"a": float("inf")}]
    rows += [{"n": n, "late": None} for n in range(2000)] + [{"late": {"text": "first seen here"}}]
    assert [record for _, record in read(tmp_path, f"rows.{form}", FORMATS[form](rows))] == rows


def test_lone_carriage_returns_end_lines_too(tmp_path: Path) -> None:
    assert read(tmp_path, "rows.jsonl", '{"a": 1}\r{"a": 2}\r\n\r\n{"a": 3}') == [
        (1, {"a": 1}),
        (2, {"a": 2}),
        (4, {"a": 3}),
    ]


def test_a_file_without_a_row_has_none(tmp_path: Path) -> None:
    for name, content in {"a.jsonl": "", "a.json": " [ ]\n", "a.csv": "a,b\n", "a.json.gz": "", "b": "\n"}.items():
        assert read(tmp_path, name, content) == []
    assert read(tmp_path, "a.parquet", as_parquet(pl.DataFrame({"a": []}))) == []


# Parquet


def test_nested_coded_and_large_columns_of_parquet_are_plain_values(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi", "tool_calls": [{"name": "f", "arguments": {"x": 1}}]}]
    table = pl.DataFrame(
        {
            "messages": [turns, None],
            "coded": pl.Series(["a", "b"], dtype=pl.Categorical),
            "fixed": pl.Series(["x", "y"], dtype=pl.Enum(["x", "y"])),
            "large": ["word " * 100_000, ""],
            "lists": [[["a"], []], []],
        }
    )
    found = read(tmp_path, "rows.parquet", as_parquet(table))
    assert found == [
        (1, {"messages": turns, "coded": "a", "fixed": "x", "large": "word " * 100_000, "lists": [["a"], []]}),
        (2, {"messages": None, "coded": "b", "fixed": "y", "large": "", "lists": []}),
    ]


def test_rows_of_parquet_keep_their_order_over_row_groups_and_batches(tmp_path: Path) -> None:
    table = pl.DataFrame({"n": range(20_000)})
    found = read(tmp_path, "rows.parquet", as_parquet(table, row_group_size=700))
    assert found == [(n + 1, {"n": n}) for n in range(20_000)]


def test_many_shards_are_read_by_a_pattern_in_the_order_of_their_names(tmp_path: Path) -> None:
    for shard in range(12):
        rows = [{"prompt": f"{shard:02d} {n}", "response": "r"} for n in range(3)]
        table = pl.DataFrame(rows) if shard % 2 else pl.DataFrame(rows).with_columns(extra=pl.lit(1))
        write(tmp_path, f"train-{shard:05d}-of-00012.parquet", as_parquet(table))
    source = Source(path="train-*.parquet")
    rows_of = [row for file in find_files(source, tmp_path) for row in read_rows(file, source, tmp_path)]
    assert [row.prompt for row in rows_of] == [f"{shard:02d} {n}" for shard in range(12) for n in range(3)]  # type: ignore[union-attr]
    assert (rows_of[-1].file, rows_of[-1].line) == ("train-00011-of-00012.parquet", 3)


# Addresses


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("form", FORMATS)
def test_an_address_gives_the_same_records(tmp_path: Path, form: str, packed: str) -> None:
    file = write(tmp_path, f"rows.{form}{packed}", PACKED[packed](FORMATS[form](ROWS)))
    if form == "parquet" and packed:
        with pytest.raises(SourceError, match="packed Parquet is read from local files alone; unpack it"):
            list(read_records(file.as_uri()))
        return
    kept = [{name: text.replace("\r\n", "\n") for name, text in row.items()} for row in ROWS]
    found = [record for _, record in read_records(file.as_uri())]
    assert found == (kept if form in ("csv", "tsv") else ROWS)  # Polars gives lines without what ended them


def test_an_address_may_be_a_pattern_or_have_an_ending_that_tells_nothing(tmp_path: Path) -> None:
    for number, form in itertools.product((1, 2), ("jsonl", "parquet")):
        write(tmp_path, f"rows{number}.{form}", FORMATS[form]([{"n": number}]))
    for form in ("jsonl", "parquet"):
        assert list(read_records(f"{tmp_path.as_uri()}/*.{form}")) == [(1, {"n": 1}), (2, {"n": 2})]
    for content in (as_lines(ROWS), json.dumps(ROWS).encode()):
        address = f"{write(tmp_path, 'rows', content).as_uri()}"
        assert [record for _, record in read_records(address)] == ROWS


def test_what_an_object_store_has_is_read_by_the_options_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"{n}?", "response": str(n)} for n in range(3)]
    made = {f"{form}{packed}": PACKED[packed](FORMATS[form](rows)) for form in FORMATS for packed in PACKED}
    names = [name for name in made if not name.startswith("parquet.")]
    with object_store(monkeypatch, {f"bucket/pool/rows.{name}": made[name] for name in names}) as options:
        region, endpoint = options.pop("aws_region"), options.pop("aws_endpoint_url")
        own = "".join(f'{name} = "{value}"\n' for name, value in {**options, "aws_endpoint_url": "http://x"}.items())
        sources = "".join(
            f'{{ path = "s3://bucket/pool/*.{name}", storage = {{ aws_endpoint_url = "{endpoint}" }} }},\n'
            for name in names
        )
        text = f'[instructions]\nsources = [\n{sources}]\n[storage]\naws_region = "{region}"\n{own}'
        project = load_project(write(tmp_path, "g2is.toml", text))
        for source in project.settings.instructions.sources:
            (file,) = find_files(source, tmp_path)
            assert [row.prompt for row in read_rows(file, source, tmp_path)] == ["0?", "1?", "2?"]  # type: ignore[union-attr]
            assert "storage" not in source.model_dump()


def test_an_address_that_leads_nowhere_is_told_without_credentials() -> None:
    with pytest.raises(SourceError) as refused:
        list(read_records("http://us3r:s3cr3t@127.0.0.1:9/rows.csv?token=t0ken"))
    said = str(refused.value)
    assert said.startswith("http://***@127.0.0.1:9/rows.csv?*** cannot be read as CSV: ")
    assert not any(secret in said for secret in ("us3r", "s3cr3t", "t0ken"))
    assert refused.value.__cause__ is None


def test_faults_behind_an_address_are_named_like_those_of_files(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a\.jsonl, line 2: not valid JSON"):
        list(read_records(write(tmp_path, "a.jsonl", '{"a": 1}\n{').as_uri()))
    with pytest.raises(SourceError, match=r"a\.csv cannot be read as CSV: invalid utf8"):
        list(read_records(write(tmp_path, "a.csv", b"a,b\n\xff,1\n").as_uri()))


# Faults


def test_bytes_that_are_not_utf8_are_named_by_line(tmp_path: Path) -> None:
    assert refusal(tmp_path, "a.jsonl", as_lines(ROWS) + b'{"a": "\xe9"}') == (
        ", line 4: not UTF-8 (byte 0xe9); save the file as UTF-8"
    )
    assert ", line 3: not UTF-8" in refusal(tmp_path, "a.csv", b"a,b\n1,2\n\xe9,3\n")
    assert ": not UTF-8" in refusal(tmp_path, "a.json", b'[{"a": "\xe9"}]')
    assert "line 1: not UTF-8 (byte 0xff)" in refusal(tmp_path, "a.tsv", "a\tb\n".encode("utf-16"))


@pytest.mark.parametrize("packed", [".gz", ".zst"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_packed_file_that_ends_too_early_is_refused_and_not_taken_for_a_short_one(
    tmp_path: Path, form: str, packed: str
) -> None:
    rows = [{"question": os.urandom(50).hex(), "answer": str(n)} for n in range(2000)]
    content = PACKED[packed](FORMATS[form](rows))
    said = refusal(tmp_path, f"a.{form}{packed}", content[: len(content) // 2])
    assert "cannot be read" in said
    assert said.endswith("mend or replace the file")


def test_what_was_packed_in_parts_is_read_to_its_end(tmp_path: Path) -> None:
    for ending, pack in (("gz", gzip.compress), ("zst", zstd.compress)):
        parts = b"".join(pack(as_lines([row])) for row in ROWS)
        assert [record for _, record in read(tmp_path, f"a.jsonl.{ending}", parts)] == ROWS
        assert "cannot be read" in refusal(tmp_path, f"b.jsonl.{ending}", parts + b"junk")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1, {}", "row 2: not a valid JSON array (the file ends in the middle)"),
        ("[{} {}]", "row 1: not a valid JSON array (no comma after it)"),
        ("[{},]", "row 2: not a valid JSON array (Expecting value)"),
        ('[{}, {"a": tru}]', "row 2: not a valid JSON array (Expecting value)"),
        ("[{}] {}", "row 1: not a valid JSON array (something stands behind it)"),
        ('[{"a": ' + "1" * 5000 + "}]", "row 1: not a valid JSON array (Exceeds the limit"),
        ("[" + "[" * 100_000 + "]" * 100_000 + "]", "row 1: not a valid JSON array (maximum recursion depth"),
        ('{"a": 1}\n{"b": ', "line 2: not valid JSON"),
        ('{\n "data": []\n}', "line 1: not valid JSON"),
        ("nothing", "line 1: not valid JSON"),
    ],
)
def test_broken_json_is_named_by_row_or_line(tmp_path: Path, content: str, said: str) -> None:
    assert f", {said}" in refusal(tmp_path, "a.json", content)


def test_an_array_in_a_file_of_lines_is_told_as_such(tmp_path: Path) -> None:
    assert "a JSON array is read from a file named .json" in refusal(tmp_path, "a.jsonl", '[\n{"a": 1}\n]')
    assert "an object of several lines is read from a JSON array" in refusal(tmp_path, "a.json", '{\n "a": 1\n}\n')


def test_an_element_or_line_that_is_no_object_costs_itself_alone(tmp_path: Path) -> None:
    for name, content in {"a.json": '[{"a": 1}, [2], {"a": 3}]', "a.jsonl": '{"a": 1}\n[2]\n{"a": 3}\n'}.items():
        assert read(tmp_path, name, content) == [
            (1, {"a": 1}),
            (2, "a JSON object is needed, not list"),
            (3, {"a": 3}),
        ]


def test_a_row_of_csv_with_other_fields_than_the_header_costs_itself_alone(tmp_path: Path) -> None:
    found = read(tmp_path, "a.csv", 'a,b\n1,"x\ny"\n1,2,3\n\n4\n5,6\n')
    assert found == [
        (2, {"a": "1", "b": "x\ny"}),
        (4, "the header names 2 columns, and this row has 3"),
        (6, "the header names 2 columns, and this row has 1"),
        (7, {"a": "5", "b": "6"}),
    ]


def test_an_empty_field_says_nothing_and_a_long_one_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, "a.csv", f"a,b\n,{'x' * 200_000}\n") == [(2, {"a": None, "b": "x" * 200_000})]


def test_semicolons_of_spreadsheets_and_tabs_are_told_by_the_header(tmp_path: Path) -> None:
    assert read(tmp_path, "a.csv", "a;b\n1,5;x\n") == [(2, {"a": "1,5", "b": "x"})]
    assert read(tmp_path, "a.csv", "a\tb\n1,5\tx\n") == [(2, {"a": "1,5", "b": "x"})]
    assert read(tmp_path, "a.tsv", "a\tb,c,d\n1\tx\n") == [(2, {"a": "1", "b,c,d": "x"})]
    assert read(tmp_path, "a.csv", "\ufeffsep=;\r\na;b,c,d\r\n1;x\r\n") == [(3, {"a": "1", "b,c,d": "x"})]
    assert "line 1: no header" in refusal(tmp_path, "a.csv", "sep=;\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "line 1: no header"),
        ("\n", "line 1: no header"),
        ("a,b, a\n", "line 1: several columns are named ['a']"),
        ('a,b\n1,"x\n2,y\n', "line 3: not valid CSV (unexpected end of data)"),
        ('a,b\n1,2\n"x"y,2\n', "line 3: not valid CSV"),
    ],
)
def test_broken_csv_is_named_by_line(tmp_path: Path, content: str, said: str) -> None:
    assert f", {said}" in refusal(tmp_path, "a.csv", content)


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("cut", [slice(7), slice(-7), slice(7, None)])
def test_broken_parquet_is_named(tmp_path: Path, packed: str, cut: slice) -> None:
    content = PACKED[packed](as_parquet(ROWS)[cut])
    assert " cannot be read as Parquet: " in refusal(tmp_path, f"a.parquet{packed}", content)


def test_a_file_that_may_not_be_read_or_is_gone_is_named(tmp_path: Path) -> None:
    for make in (read_records, lambda file: iter([ending_of(Path(file).with_suffix(""))]), about_rows_of):
        with pytest.raises(SourceError, match=r"cannot be read: No such file"):
            list(make(str(tmp_path / "gone.json")))


def about_rows_of(file: str) -> Iterator[int]:
    yield about_rows(Path(file))


# Streaming


@pytest.mark.parametrize(("form", "packed"), [("json", ""), ("jsonl", ".gz"), ("json", ".zst"), ("csv", "")])
def test_a_long_file_is_not_held(tmp_path: Path, form: str, packed: str) -> None:
    """Of 10^5 rows no more is held at a time than a small part of them, also where all stand on one line."""
    rows = [{"question": f"{n} and {n}?", "answer": "yes " * 10} for n in range(100_000)]
    content = json.dumps(rows).encode() if form == "json" else FORMATS[form](rows)
    file, size = write(tmp_path, f"rows.{form}{packed}", PACKED[packed](content)), len(content)
    del rows, content
    tracemalloc.start()
    try:
        n = sum(1 for _ in read_records(str(file)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n == 100_000
    assert peak < size / 5


def test_an_element_longer_than_what_is_held_at_a_time_is_read(tmp_path: Path) -> None:
    row = {"a": "x" * (5 * records.CHUNK), "b": [1] * records.CHUNK}
    assert read(tmp_path, "a.json", json.dumps([row, row, {"a": 1}])) == [(1, row), (2, row), (3, {"a": 1})]


def test_a_fault_late_in_the_file_comes_after_the_rows_before_it(tmp_path: Path) -> None:
    file = write(tmp_path, "a.json", json.dumps([{"n": n} for n in range(50_000)])[:-1] + ", }]")
    found = read_records(str(file))
    assert [number for number, _ in itertools.islice(found, 50_000)][-1] == 50_000
    with pytest.raises(SourceError, match="row 50001"):
        next(found)


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(JSON, max_size=5), st.integers(1, 9), st.booleans(), st.integers(0, 200))
def test_arrays_are_those_that_json_reads_however_little_is_held(
    values: list[Any], chunk: int, ascii_only: bool, cut: int
) -> None:
    text = json.dumps(values, ensure_ascii=ascii_only, indent=chunk % 3 or None)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(records, "CHUNK", chunk)
        found = [record for _, record in read(Path(folder), "a.json", text)]
        assert len(found) == len(values)
        assert [r for r in found if isinstance(r, dict)] == [value for value in values if isinstance(value, dict)]
        assert all(isinstance(record, dict | str) for record in found)
        if 0 < cut < len(text.encode()):
            with pytest.raises(SourceError):
                read(Path(folder), "a.json", text.encode()[:cut])


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.sampled_from(sorted(PACKED)), st.data())
def test_any_spoiled_file_is_read_or_refused(form: str, packed: str, data: st.DataObject) -> None:
    content = bytearray(PACKED[packed](FORMATS[form](ROWS)))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = read(Path(folder), f"a.{form}{packed}", bytes(content[: data.draw(st.integers(0, len(content)))]))
        except SourceError as refused:
            assert str(refused).startswith(f"{folder}/a.")  # noqa: PT017
        else:
            assert all(number > 0 and isinstance(record, dict | str) for number, record in found)


# What a file is called and how long it is


def test_an_ending_is_kept_or_found_by_content(tmp_path: Path) -> None:
    assert ending_of(write(tmp_path, "A.JSONL.GZ", "")) == ".jsonl.gz"
    assert ending_of(write(tmp_path, "a.tsv", "")) == ".tsv"
    contents = {".jsonl": as_lines(ROWS), ".json": b" [", ".parquet": as_parquet(ROWS)}
    assert {ending_of(write(tmp_path, "a.data", content)): content for content in contents.values()} == contents


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("form", FORMATS)
def test_rows_are_estimated_from_the_first_ones(tmp_path: Path, form: str, packed: str) -> None:
    rows = [{"instruction": f"{n:06d} {os.urandom(40).hex()}", "output": "b"} for n in range(20_000)]
    file = write(tmp_path, f"rows.{form}{packed}", PACKED[packed](FORMATS[form](rows)))
    assert about_rows(file) == pytest.approx(20_000, rel=0.15 if packed else 0.02)
    assert about_rows(write(tmp_path, "empty.jsonl", "")) == 0


# Columns of other names


def test_columns_of_other_names_are_taken_and_the_rest_give_no_turns() -> None:
    record = {"q": "Q", "a": "A", "prompt": "not this", "messages": [], "id": 7, "system": "Be brief.", "gold": "x"}
    assert renamed(record, {"prompt": "q", "response": "a", "answer": "gold"}) == (
        {"prompt": "Q", "response": "A", "answer": "x", "id": 7, "system": "Be brief."}
    )
    below = renamed(record, {"prompt": "q", "response": "a", "input": "gold"})
    assert below == {"prompt": "Q", "response": "A", "input": "x", "id": 7, "system": "Be brief."}
    assert renamed({"prompt": "Q", "key": 1}, {"id": "key"}) == {"prompt": "Q", "id": 1}
    beside = {"system_prompt": "Be brief.", "functions": [], "image": "a.png"}
    assert renamed({"q": "Q", "more": 1, **beside}, {"prompt": "q"}) == {"prompt": "Q", **beside}
    assert renamed({"t": [1], "instruction": "I"}, {"messages": "t"}) == {"messages": [1]}


def test_a_column_that_a_row_lacks_is_told_and_costs_that_row_alone(tmp_path: Path) -> None:
    write(tmp_path, "rows.jsonl", '{"q": "Q", "a": "A"}\n{"q": "Q", "response": "A"}\n')
    source = Source.model_validate({"path": "rows.jsonl", "columns": {"prompt": "q", "response": "a"}})
    first, second = read_rows(str(tmp_path / "rows.jsonl"), source, tmp_path)
    assert first.line == 1
    assert second.reason == "no column 'a', which `columns` names; found: q, response"  # type: ignore[union-attr]
