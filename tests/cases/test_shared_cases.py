"""Inputs that people had trouble with, where a checkout has them beside it: each comes out as its README says."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from g2is_assets.contracts.instructions import Instruction, Unusable
from g2is_assets.settings.config import Source
from g2is_assets.settings.parsing import read_toml
from g2is_assets.store.sources import read_rows
from g2is_assets.training.text import Template, normalise
from support.models import byte_tokenizer
from support.templates import FAMILIES

CASES = Path(__file__).parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not beside this checkout")


def read(name: str) -> list[Instruction | Unusable]:
    return list(read_rows(str(CASES / name), Source(path=name), CASES))


def used(name: str) -> list[Instruction]:
    rows = read(name)
    assert [row.reason for row in rows if isinstance(row, Unusable)] == []
    return [row for row in rows if isinstance(row, Instruction)]


def roles(row: Instruction) -> str:
    return " ".join(turn["role"] for turn in row.turns)


def test_shapes() -> None:
    two, briefly, called = used("shapes/sharegpt.json")
    assert roles(two) == "user assistant user assistant"
    template = Template(byte_tokenizer(), 4096)
    assert len(template.render(two.turns).answers) == 2
    assert len(template.render(two.turns, carry="last").answers) == 1
    assert briefly.turns[0] == {"role": "system", "content": "You answer in one word."}
    assert roles(called) == "user assistant tool assistant"
    rendered = template_of("qwen3").render(called.turns, called.tools)
    assert "weather" in rendered.text[slice(*rendered.answers[0])]
    assert '{"temperature": 4}' in rendered.prompt
    assert rendered.completion.startswith("It is 4 degrees in Oslo.")
    assert [roles(row) for row in used("shapes/alpaca.json")][2] == "system user assistant user assistant"
    faq = used("shapes/faq.csv")
    assert faq[0].response == 'Press "Forgot", then follow\nthe mail.'
    assert faq[0].prompt == "How do I reset, if locked out?"
    parts, looked_up, reasoned = used("shapes/messages.jsonl.gz")
    assert parts.turns[1]["content"] == "What is 7 * 6?"
    assert looked_up.turns[1]["tool_calls"][0]["function"]["name"] == "lookup"
    assert normalise([reasoned], template_of("qwen3")).rows["n_thoughts"].to_list() == [1]
    mixed = read("shapes/mixed.jsonl")
    assert [isinstance(row, Instruction) for row in mixed] == [True, True, True, True, False]
    assert [row.preferred for row in mixed if isinstance(row, Instruction)] == [False, False, False, True]
    assert isinstance(mixed[4], Unusable)
    assert (mixed[4].line, mixed[4].file) == (5, "shapes/mixed.jsonl")


def template_of(family: str) -> Template:
    given = FAMILIES[family]
    names = {"eos_token": given.eos, "additional_special_tokens": list(given.special)}
    return Template(byte_tokenizer(given.chat, **names, **({"bos_token": given.bos} if given.bos else {})), 4096)


def test_fields_that_are_there_are_kept_and_null_ones_hide_none() -> None:
    rows = used("alpaca_system_history/rows.jsonl")
    assert [roles(row) for row in rows] == ["system user assistant user assistant"] * 2 + ["system user assistant"]
    assert [row.response for row in used("null_columns/rows.jsonl")] == [
        "The coast redwood.",
        "The Oder.",
        "The Baltic.",
    ]


def test_an_answer_that_is_a_number_or_a_letter_is_resolved() -> None:
    assert [row.answer for row in used("answer_not_in_choices/test.jsonl")] == ["redwood", "sea"]


def test_a_row_that_the_template_refuses_costs_itself_alone() -> None:
    found = normalise(read("template_refuses_row/pool.jsonl"), template_of("gemma"))
    assert found.rows["response"].to_list() == ["Apple."]
    assert found.rejected["line"].to_list() == [2, 3]
    assert all("refuses the roles" in reason for reason in found.rejected["reason"])


def test_toml_with_a_bom_is_read() -> None:
    assert read_toml(CASES / "toml_with_bom" / "domain.toml") == {"title": "Sums"}


def case_template(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The template that a case's script makes."""
    monkeypatch.syspath_prepend(str(CASES))
    text = (CASES / name / "run.py").read_text(encoding="utf-8")
    made = [line for line in text.splitlines() if re.match(r"[A-Z0-9]+ = ", line)]
    names: dict[str, Any] = {}
    exec("from tmpl_helper import *\n" + "\n".join(made), names)
    sys.modules.pop("tmpl_helper", None)
    return names["T"]


def said(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


ASKED = {"role": "user", "content": "How many legs has a spider?"}


def test_think_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    template = case_template("think_prompt", monkeypatch)
    plain = template.render([ASKED, said("Eight.")])
    assert (plain.prompt[-6:], plain.completion) == ("?<|A|>", "Eight.<|E|>")
    thought = template.render([ASKED, said("<think>\narachnid\n</think>\n\nEight.")])
    assert thought.prompt.endswith("<|A|><think>\n")
    assert thought.completion == "arachnid\n</think>\n\nEight.<|E|>"


def test_empty_think_in_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    template = case_template("empty_think_in_loss", monkeypatch)
    row = template.encode("r", [ASKED, said("8")])
    assert template.tokenizer.decode(row.input_ids[row.n_prompt :]) == "8<|im_end|>"
    assert row.n_loss == 2


def test_date_in_template(monkeypatch: pytest.MonkeyPatch) -> None:
    template = case_template("date_in_template", monkeypatch)
    row = template.render([{"role": "system", "content": "Be brief."}, ASKED, said("Eight.")])
    assert "Today Date: 01 Jan 2025\n\nBe brief." in row.prompt


def test_sentencepiece_space(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The case's own script, its calls adapted."""
    text = (CASES / "sentencepiece_space" / "run.py").read_text(encoding="utf-8")
    row = "[*Q, {'role': 'assistant', 'content': 'Eight.'}]"
    text = text.replace('T.encode("r", Q, "Eight.")', f'T.encode("r", {row})').replace(
        "e.prompt", "e.input_ids[:e.n_prompt]"
    )
    text = text.replace('p, c = T.render(Q, "Eight.")', f"R = T.render({row}); p, c = R.prompt, R.completion")
    exec(compile(text, "run.py", "exec"), {})
    lines = [line for line in capsys.readouterr().out.splitlines() if "equal=" in line]
    assert len(lines) == 10
    assert all(line.endswith("equal=True") for line in lines)


@pytest.mark.parametrize("file", sorted(CASES.glob("*/*.json*")) + sorted(CASES.glob("*/*.csv")), ids=lambda f: f.name)
def test_every_file_of_rows_is_read_row_by_row(file: Path) -> None:
    rows = list(read_rows(str(file), Source(path=file.name), CASES))
    assert rows
    assert all(row.line >= 1 and row.file == file.relative_to(CASES).as_posix() for row in rows)
    assert all(row.response for row in rows if isinstance(row, Instruction))
    assert all(row.reason for row in rows if isinstance(row, Unusable))
