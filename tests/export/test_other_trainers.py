"""Exports in the trainers that they are for: their own code makes of every row the labels that were trained on here.

Token for token with `after_turn = "keep"`: behind `<|im_end|>` ChatML writes a line break, of which TRL and
LLaMA-Factory make a label, but TRL not where the template marks what an assistant writes, and Axolotl nowhere. Such a
last token, of which nothing is learnt and that no other sees, is left out of theirs. Each trainer is installed on first
use.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from g2is_assets.contracts.instructions import POOL, Instruction
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.export.formats import axolotl, bodies
from g2is_assets.training.text import Template, examples
from support.commands import g2is
from support.models import CHATML
from support.projects import lake_of
from support.rows import arithmetic_row, write_jsonl
from support.runs import refresh_subset
from support.shared import copied, made_once
from support.templates import FAMILIES
from support.trainers import call

pytestmark = pytest.mark.trainers
DOMAIN = "sums"
SCRIPTS = Path(__file__).parent / "trainers"
MARKED = CHATML.replace(
    " + message['content'] + '<|im_end|>\n' }}",
    " }}{% if message.role == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}",
)
"""ChatML with marks around what an assistant writes, which TRL needs for several answers."""
Labels = dict[str, dict[str, list[int]]]


def talk(n: int) -> dict[str, Any]:
    """A row of one turn, of one with white space and separators, of several turns, or of these with a system text."""
    row = arithmetic_row(n)
    asked, answer = str(row["instruction"]), str(row["output"])
    if n % 4 == 1:
        asked, answer = f" {asked}\u2028\n", f"\n {answer}\u0085é \n"
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    if n % 4 > 1:
        turns = [{"role": "user", "content": "Ready? "}, {"role": "assistant", "content": " Yes."}, *turns]
    if n % 4 == 3:
        turns = [{"role": "system", "content": "Count\n\naloud. "}, *turns]
    return {"id": row["id"], "source": "talks", "messages": turns}


@pytest.fixture(scope="module")
def subset(refreshed: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Labels]]:
    """A function that gives the model of a project with `turns`, whose subset is exported, and what carries loss."""

    def make(folder: Path, turns: str, chat: str) -> None:
        settings = copied(refreshed, folder / "project", history=False)
        said = f'max_length = 256\nturns = "{turns}"\nafter_turn = "keep"'
        settings.write_text(settings.read_text().replace("max_length = 96", said).replace("= 0.15", "= 0.8"))
        (settings.parent / "model" / "chat_template.jinja").write_text(chat)
        for file in (settings.parent / "pool").iterdir():
            file.unlink()
        write_jsonl(settings.parent / "pool" / "talks.jsonl", [talk(n) for n in range(20)])
        refresh_subset(settings, DOMAIN)
        for form in ("messages", "sharegpt", "alpaca"):
            out = str(folder / f"{form}.jsonl")
            result = g2is(settings, "export", "subset", DOMAIN, "--format", form, "--out", out)
            assert result.exit_code == 0, result.output

    def made(turns: str, chat: str) -> tuple[Path, Labels]:
        name = f"exported_{turns}_{'marked' if chat == MARKED else 'plain'}"
        folder = made_once(tmp_path_factory, name, lambda folder: make(folder, turns, chat))
        settings = folder / "project" / "g2is.toml"
        lake, tokenizer = lake_of(settings), AutoTokenizer.from_pretrained(settings.parent / "model")
        pool = lake.current("instructions/pool").read(POOL)
        table = lake.current("selection/subset", DOMAIN).read(SUBSET).select("row_id").join(pool, on="row_id")
        assert not table["truncated"].any()
        rows = examples(table, Template(tokenizer, 256, turns=turns, after_turn="keep"))
        assert len(rows) >= 12
        assert set(table["messages"].list.len()) == {2, 4, 5}
        assert any(row.earlier for row in rows) == (turns == "all")
        ours = {row.row_id: {"input_ids": row.input_ids, "labels": row.labels} for row in rows}
        return settings.parent / "model", ours

    return made


def trained_on(name: str, model: Path, options: dict[str, Any], *forms: str) -> dict[str, Labels]:
    """Ids and labels by format and row, as a trainer's own code makes them of the files beside the model's project."""
    folder = model.parents[1]
    out, files = folder / f"{name}.json", [str(folder / f"{form}.jsonl") for form in forms]
    environment = "trl" if name == "axolotl" else name
    call(environment, SCRIPTS / f"{name}_labels.py", [str(model), str(out), json.dumps(options), *files])
    return {
        form: {row_id: _learnt(row) for row_id, row in rows.items()}
        for form, rows in json.loads(out.read_text()).items()
    }


def _learnt(row: dict[str, list[int]]) -> dict[str, list[int]]:
    n = max(place for place, label in enumerate(row["labels"]) if label != -100) + 1
    return {name: ids[:n] for name, ids in row.items()}


@pytest.mark.parametrize(
    ("turns", "chat", "options"), [("last", CHATML, {}), ("all", MARKED, {"assistant_only_loss": True})]
)
def test_trl_trains_on_what_was_trained_on_here(subset: Any, turns: str, chat: str, options: dict[str, Any]) -> None:
    model, ours = subset(turns, chat)
    assert trained_on("trl", model, options, "messages")["messages"] == ours


@pytest.mark.parametrize(("turns", "options"), [("last", {"mask_history": True}), ("all", {})])
def test_llama_factory_trains_on_what_was_trained_on_here(subset: Any, turns: str, options: dict[str, Any]) -> None:
    model, ours = subset(turns, CHATML)
    theirs = trained_on("llama_factory", model, options, "messages", "sharegpt", "alpaca")
    assert {form: rows == ours for form, rows in theirs.items()} == {"messages": True, "sharegpt": True, "alpaca": True}


@pytest.mark.parametrize("turns", ["last", "all"])
def test_axolotl_trains_on_what_was_trained_on_here(subset: Any, turns: str) -> None:
    model, ours = subset(turns, MARKED)  # it trains on no line break, as the marks say
    assert trained_on("axolotl", model, {}, "messages")["messages"] == ours


def test_calls_tools_and_reasoning_reach_the_template_as_here(tiny_model: Path, tmp_path: Path) -> None:
    family = FAMILIES["qwen3"]
    model = shutil.copytree(tiny_model, tmp_path / "project" / "model")
    (model / "chat_template.jinja").write_text(re.sub(r"\bm\b", "message", family.chat))  # Axolotl goes by that name
    rows, shown = {}, {"role": "tool", "tool_call_id": "c1", "content": "12:00"}
    answer = {"role": "assistant", "content": "Noon."}
    for n, arguments in enumerate([{"city": "Oslo"}, '{"at": 3}', {}]):
        asked, call = {"role": "user", "content": "Time?"}, {"name": "clock", "arguments": arguments}
        called = {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "id": "c1", "function": call}],
        }
        tool = {"type": "function", "function": {"name": "clock", "parameters": {"properties": {f"p{n}": {}}}}}
        for turns in ((asked, called), (asked, called, shown, answer), (asked, answer | {"reasoning_content": "Sun."})):
            rows[str(len(rows))] = Instruction(turns, "", "", "", 0, tools=(tool,) if n < 2 else ())
    made = [body | {"row_id": row_id} for row_id, body in zip(rows, bodies("messages", rows, "last"), strict=True)]
    write_jsonl(tmp_path / "messages.jsonl", made)
    (tmp_path / "messages.axolotl.yaml").write_text(axolotl("messages.jsonl", rows, "last"))
    tokenizer = AutoTokenizer.from_pretrained(model)
    ours, ended = (
        {row_id: template.encode(row_id, row.turns, row.tools) for row_id, row in rows.items()}
        for template in (Template(tokenizer, 10_000, turns="last", after_turn=after) for after in ("keep", "drop"))
    )
    for row_id, row in trained_on("axolotl", model, {}, "messages")["messages"].items():
        assert row == {"input_ids": ended[row_id].input_ids, "labels": ended[row_id].labels}
    for row_id, row in trained_on("trl", model, {}, "messages")["messages"].items():
        assert row["input_ids"] == ours[row_id].input_ids
        said, here = (
            tokenizer.decode([label for label in labels if label != -100])
            for labels in (row["labels"], ours[row_id].labels)
        )
        # The beginning of a thought, or an empty one, is prompt here: the template writes it before every answer.
        assert said.removesuffix(here) in ("<think>\n", family.before)
