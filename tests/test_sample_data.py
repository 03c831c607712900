"""The sample data keeps its own rules: sizes, separation, correct sums, and a generator that rewrites it exactly."""

import ast
import csv
import io
import json
import re
import subprocess
import sys
import tomllib
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data"
POOL_FILES = sorted((DATA / "pool").iterdir())
DOMAINS = sorted(path for path in (DATA / "domains").iterdir() if path.is_dir())
FIELDS = {"id", "source", "license", "instruction", "input", "output"}
NUMBER = r"-?\d+(?:\.\d+)?"
SIDE = rf"{NUMBER}(?: [-+*/x] {NUMBER})*"
EQUATION = re.compile(rf"(?<![\w.:])({SIDE}) = ({SIDE})(?![\d:])")
DAY = re.compile(r"(\w+day) (\d{1,2} [A-Z]\w+ \d{4})")


def read(path: Path) -> list[dict]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(text)))
    else:
        rows = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    return [in_one_form(row) for row in rows]


def in_one_form(row: dict) -> dict:
    """A row of any of the sample's shapes with instruction, input and output."""
    for name, content in (("messages", "content"), ("conversations", "value")):
        if name in row:
            asked, said = row.pop(name)
            row |= {"question": asked[content], "answer": said[content]}
    if "question" in row:
        row |= {"instruction": row.pop("question"), "input": "", "output": row.pop("answer")}
    return row


POOL = [row for path in POOL_FILES for row in read(path)]
VALIDATION = {domain.name: read(domain / "validation.jsonl") for domain in DOMAINS}
TEST = {domain.name: read(domain / "test.jsonl") for domain in DOMAINS}
DOMAIN_ROWS = [row for rows in [*VALIDATION.values(), *TEST.values()] for row in rows]


def trigrams(row: dict) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", f"{row['instruction']} {row['input']} {row['output']}".lower())
    return set(zip(words, words[1:], words[2:], strict=False))


def asked(row: dict) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", f"{row['instruction']} {row['input']}".lower()))


def highest_overlap(rows: list[dict], others: list[dict]) -> float:
    theirs = [trigrams(other) for other in others]
    return max(len(mine & their) / len(mine) for mine in map(trigrams, rows) for their in theirs)


def value(side: str) -> Fraction:
    """Products and quotients first, then sums; no parentheses occur."""
    total, sign, product, pending = Fraction(0), 1, None, "*"
    for token in side.split(" "):
        if token in ("+", "-"):
            total, sign, product = total + sign * product, 1 if token == "+" else -1, None
        elif token in ("*", "x", "/"):
            pending = token
        elif product is None:
            product = Fraction(token)
        else:
            product = product / Fraction(token) if pending == "/" else product * Fraction(token)
    return total + sign * product


def equations(row: dict) -> list[tuple[str, str]]:
    return [pair for pair in EQUATION.findall(row["output"]) if " " in pair[0] + pair[1]]


def imported(package: str) -> set[str]:
    """The modules that the generator's package imports, by their first name."""
    names: set[str] = set()
    for path in (DATA / "generate" / package).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names.add(str(node.module).split(".")[0])
            elif isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
    return names


def text_files_named(package: str) -> set[str]:
    code = "".join(path.read_text(encoding="utf-8") for path in (DATA / "generate" / package).glob("*.py"))
    return {path.stem for path in (DATA / "generate" / "text").glob("*.txt") if f'"{path.stem}' in code}


def test_the_pool_has_at_least_eight_sources_and_at_most_six_hundred_rows():
    assert len(POOL_FILES) >= 8
    assert 500 <= len(POOL) <= 600


def test_the_pool_stays_small_enough_for_a_first_run_on_a_laptop():
    assert sum(len(row["instruction"] + row["input"] + row["output"]) for row in POOL) <= 135_000


def test_there_are_three_domains_with_lawful_names_and_a_title_only():
    assert len(DOMAINS) == 3
    for domain in DOMAINS:
        assert re.fullmatch(r"[a-z][a-z0-9_]{0,62}", domain.name)
        assert list(tomllib.loads((domain / "domain.toml").read_text(encoding="utf-8"))) == ["title"]


@pytest.mark.parametrize("name", TEST)
def test_a_domain_has_its_validation_and_test_rows(name: str):
    assert 16 <= len(VALIDATION[name]) <= 24
    assert 40 <= len(TEST[name]) <= 60


def test_every_row_has_the_fields_and_the_texts_are_trimmed_and_not_empty():
    for row in POOL + DOMAIN_ROWS:
        assert FIELDS <= row.keys() <= FIELDS | {"answer", "choices"}, row["id"]
        assert row["license"] == "Apache-2.0"
        assert row["instruction"]
        assert row["output"]
        assert all(row[field] == row[field].strip() for field in FIELDS), row["id"]


def test_a_pool_row_is_named_after_its_file():
    for path in POOL_FILES:
        for number, row in enumerate(read(path), start=1):
            assert (row["source"], row["id"]) == (path.stem, f"{path.stem}:{number}")


def test_ids_are_unique_across_all_files():
    ids = [row["id"] for row in POOL + DOMAIN_ROWS]
    assert len(ids) == len(set(ids))


def test_no_question_is_asked_twice():
    questions = [asked(row) for row in POOL + DOMAIN_ROWS]
    assert len(questions) == len(set(questions))


def test_every_domain_row_has_an_answer_that_is_in_its_output_and_in_its_choices():
    for row in DOMAIN_ROWS:
        assert row["answer"]
        assert row["answer"] in row["output"]
        assert row["answer"] in row.get("choices", [row["answer"]])


def test_the_answer_ends_the_output_where_a_domain_works_it_out():
    for name, ending in (("shop_arithmetic", "The answer is {}."), ("schedule_reasoning", "Reply: {}")):
        for row in VALIDATION[name] + TEST[name]:
            assert row["output"].splitlines()[-1] == ending.format(row["answer"])


def test_every_ticket_names_only_what_its_message_says():
    for row in VALIDATION["support_triage"] + TEST["support_triage"]:
        ticket = json.loads(row["output"])
        assert list(ticket) == ["category", "urgency", "order", "product"]
        assert ticket["category"] == row["answer"]
        assert ticket["urgency"] in ("low", "normal", "high")
        assert all(ticket[key] is None or ticket[key] in row["input"].lower() for key in ("product",))
        assert re.findall(r"K-\d{5}", row["input"]) == ([ticket["order"]] if ticket["order"] else [])


def test_validation_rows_of_tickets_show_every_category():
    assert {row["answer"] for row in VALIDATION["support_triage"]} == set(VALIDATION["support_triage"][0]["choices"])


@pytest.mark.parametrize("name", TEST)
def test_no_test_row_shares_more_than_three_fifths_of_its_trigrams_with_a_pool_or_validation_row(name: str):
    assert highest_overlap(TEST[name], POOL) <= 0.6
    assert highest_overlap(TEST[name], VALIDATION[name]) <= 0.6


def test_no_instruction_serves_both_the_pool_and_a_domain():
    assert not {row["instruction"].lower() for row in POOL} & {row["instruction"].lower() for row in DOMAIN_ROWS}


def test_the_generators_of_pool_and_domains_share_neither_modules_nor_texts():
    assert "domains" not in imported("pool")
    assert "pool" not in imported("domains")
    assert text_files_named("pool")
    assert text_files_named("domains")
    assert not text_files_named("pool") & text_files_named("domains")


def test_every_equation_in_an_output_is_right():
    found = [(row["id"], *pair) for row in POOL + DOMAIN_ROWS for pair in equations(row)]
    assert len(found) > 500
    assert [item for item in found if value(item[1]) != value(item[2])] == []


def test_every_full_date_falls_on_the_weekday_named_with_it():
    found = [match for row in POOL + DOMAIN_ROWS for match in DAY.findall(row["instruction"] + row["output"])]
    assert len(found) >= 5
    for weekday, written in found:
        assert f"{datetime.strptime(written, '%d %B %Y'):%A}" == weekday


def test_every_python_row_compiles():
    rows = read(DATA / "pool" / "python_functions.jsonl")
    codes = [re.findall(r"```python\n(.*?)```", row["output"], re.DOTALL) for row in rows]
    assert all(len(code) == 1 for code in codes)
    assert all(ast.parse(code[0]).body for code in codes)


def test_the_readme_states_the_rows_of_every_source_and_domain():
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    for path in POOL_FILES:
        assert f"| `{path.stem}` | {len(read(path))} |" in readme
    for name, rows in TEST.items():
        assert f"| `{name}` | {len(VALIDATION[name])} | {len(rows)} |" in readme


def test_the_generator_rewrites_the_committed_files_byte_for_byte(tmp_path: Path):
    subprocess.run([sys.executable, "-B", str(DATA / "generate"), str(tmp_path)], check=True)
    written = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {
        path.relative_to(DATA): path.read_bytes()
        for part in ("pool", "domains")
        for path in (DATA / part).rglob("*")
        if path.is_file()
    }
    assert written == kept
