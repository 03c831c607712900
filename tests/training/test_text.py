"""From rows to tokens: the chat template, the instructions tables, batches; and the engine without Ray."""

from datetime import date
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.contracts import instructions as contracts
from g2is_assets.contracts.instructions import Instruction, Unusable, turns_of
from g2is_assets.errors import ContractError
from g2is_assets.settings.config import DAY
from g2is_assets.training.engine import Engine
from g2is_assets.training.text import (
    IGNORED,
    Example,
    Template,
    collator,
    examples,
    normalise,
    plan_batches,
    template_digest,
)
from support.models import CHATML, byte_tokenizer
from support.rows import answered

QUESTION = [{"role": "user", "content": "Hi there"}]
DIALOGUE = [*QUESTION, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Bye"}]
OWN_SYSTEM = [{"role": "system", "content": "Be brief."}, *QUESTION]

DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% if messages[0]['role'] != 'system' %}{{ '<|header|>system<|header|>\n\nCutting date.<|eot|>' }}"
    "{% endif %}{% for m in messages %}"
    "{{ '<|header|>' + m['role'] + '<|header|>\n\n' + m['content'] | trim + '<|eot|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|header|>assistant<|header|>\n\n' }}{% endif %}"
)
INSTRUCT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)


def template_with(chat_template: str | None, max_length: int = 512, **options: Any) -> Template:
    tokens = {"bos_token": options.pop("bos_token")} if "bos_token" in options else {}
    return Template(byte_tokenizer(chat_template, **tokens), max_length, **options)


def rendered(template: Template, messages: list[dict[str, str]], response: str) -> tuple[str, str]:
    row = template.render(answered(messages, response))
    return row.prompt, row.completion


def encoded(template: Template, messages: list[dict[str, str]], response: str) -> Example:
    return template.encode("a", answered(messages, response)).cut(template.max_length)


def test_chatml_is_rendered_as_the_template_says():
    prompt, completion = rendered(template_with(CHATML), QUESTION, "Hello!")
    assert prompt == "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n"
    assert completion == "Hello!<|im_end|>"


def test_the_default_system_message_of_a_template_is_taken_out():
    plain, default = template_with(CHATML), template_with(DEFAULT_SYSTEM + CHATML)
    assert "You are helpful." in default.tokenizer.apply_chat_template(QUESTION, tokenize=False)
    for messages in (QUESTION, DIALOGUE):
        assert rendered(default, messages, "Hello!") == rendered(plain, messages, "Hello!")


def test_the_system_setting_replaces_the_default():
    prompt, _ = rendered(template_with(DEFAULT_SYSTEM + CHATML, system="Answer in verse."), QUESTION, "Hello!")
    assert prompt.startswith("<|im_start|>system\nAnswer in verse.<|im_end|>\n<|im_start|>user\nHi there")
    assert "You are helpful." not in prompt


@pytest.mark.parametrize("system", [None, "Answer in verse."])
def test_a_system_message_of_the_row_wins(system: str | None):
    prompt, _ = rendered(template_with(DEFAULT_SYSTEM + CHATML, system=system), OWN_SYSTEM, "Hello!")
    assert prompt.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi there")
    assert "verse" not in prompt


def test_a_row_whose_system_message_is_the_default_keeps_it():
    messages = [{"role": "system", "content": "You are helpful."}, *QUESTION]
    prompt, _ = rendered(template_with(DEFAULT_SYSTEM + CHATML), messages, "Hello!")
    assert prompt.startswith("<|im_start|>system\nYou are helpful.<|im_end|>\n")


def test_the_start_token_before_a_default_system_message_stays():
    llama = template_with(LLAMA3, bos_token="<|bos|>")
    prompt, completion = rendered(llama, QUESTION, "Hello!")
    assert prompt == "<|bos|><|header|>user<|header|>\n\nHi there<|eot|><|header|>assistant<|header|>\n\n"
    assert completion == "Hello!<|eot|>"
    assert rendered(llama, OWN_SYSTEM, "Hello!")[0].startswith("<|bos|><|header|>system<|header|>\n\nBe brief.<|eot|>")
    assert encoded(llama, QUESTION, "Hello!").input_ids.count(llama.tokenizer.bos_token_id) == 1


def test_a_template_without_a_default_system_message_is_left_alone():
    prompt, completion = rendered(template_with(INSTRUCT, bos_token="<|bos|>"), DIALOGUE, "Bye!")
    assert prompt == "<|bos|>[INST] Hi there [/INST] Yes?<|im_end|>[INST] Bye [/INST] "
    assert completion == "Bye!<|im_end|>"


def test_without_a_chat_template_the_text_of_the_messages_is_the_prompt():
    plain = template_with(None)
    assert rendered(plain, QUESTION, "Hello!") == ("Hi there\n", "Hello!<|im_end|>")
    assert rendered(plain, OWN_SYSTEM, "Hello!") == ("Be brief.\nHi there\n", "Hello!<|im_end|>")
    with_start = template_with(None, system="Be kind.", bos_token="<|bos|>")
    assert rendered(with_start, QUESTION, "Hello!")[0] == "<|bos|>Be kind.\nHi there\n"


@pytest.mark.parametrize("chat_template", [None, "chatml", DEFAULT_SYSTEM, LLAMA3, INSTRUCT])
@pytest.mark.parametrize("messages", [QUESTION, DIALOGUE], ids=["question", "dialogue"])
def test_the_ids_decode_to_the_rendered_text(chat_template: str | None, messages: list[dict[str, str]]):
    chosen = chat_template and chat_template.replace("chatml", CHATML).replace(DEFAULT_SYSTEM, DEFAULT_SYSTEM + CHATML)
    made = template_with(chosen, bos_token="<|bos|>")
    prompt, completion = rendered(made, messages, "Zwölf  Äpfel,\n\tdanke ✓")
    example = encoded(made, messages, "Zwölf  Äpfel,\n\tdanke ✓")
    assert made.tokenizer.decode(example.input_ids[: example.n_prompt]) == prompt
    assert made.tokenizer.decode(example.input_ids) == prompt + completion


@pytest.mark.parametrize(("chat_template", "end"), [(None, "<|im_end|>"), (LLAMA3, "<|eot|>")])
def test_the_response_ends_with_the_end_token_and_it_carries_loss(chat_template: str | None, end: str):
    made = template_with(chat_template, bos_token="<|bos|>")
    example = encoded(made, QUESTION, "Hello!")
    assert example.input_ids[-1] == example.features()["labels"][-1] == made.tokenizer.convert_tokens_to_ids(end)


def test_a_row_longer_than_max_length_loses_the_end_of_its_response():
    whole = encoded(template_with(CHATML), QUESTION, "Hello, you there!")
    cut = encoded(template_with(CHATML, max_length=whole.n_prompt + 5), QUESTION, "Hello, you there!")
    assert cut.input_ids == whole.input_ids[: whole.n_prompt + 5]
    assert cut.n_prompt == whole.n_prompt
    assert encoded(template_with(CHATML, max_length=whole.n_tokens), QUESTION, "Hello, you there!") == whole


@pytest.mark.parametrize(("spare", "left"), [(1, 1), (0, 0), (-3, 0)])
def test_a_row_without_any_response_token_left_carries_no_loss(spare: int, left: int):
    n_prompt = encoded(template_with(CHATML), QUESTION, "Hello!").n_prompt
    example = encoded(template_with(CHATML, max_length=n_prompt + spare), QUESTION, "Hello!")
    assert example.n_loss == left


def test_labels_mask_the_prompt_and_repeat_the_response():
    features = Example("a", [5, 6, 7, 8], n_prompt=3).features()
    assert features == {
        "input_ids": [5, 6, 7, 8],
        "attention_mask": [1, 1, 1, 1],
        "labels": [IGNORED, IGNORED, IGNORED, 8],
    }


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_is_padded_to_its_longest_row_on_the_tokenizers_side(side: str):
    tokenizer = byte_tokenizer(padding_side=side)
    batch = collator(tokenizer)([Example("a", [5, 6, 7], 2).features(), Example("b", [8, 9], 1).features()])
    pad = tokenizer.pad_token_id
    short = {"input_ids": [8, 9, pad], "attention_mask": [1, 1, 0], "labels": [IGNORED, 9, IGNORED]}
    if side == "left":
        short = {"input_ids": [pad, 8, 9], "attention_mask": [0, 1, 1], "labels": [IGNORED, IGNORED, 9]}
    assert {key: batch[key][1].tolist() for key in short} == short
    assert batch["input_ids"][0].tolist() == [5, 6, 7]
    assert all(values.dtype == torch.int64 for values in batch.values())


def test_the_digest_changes_with_whatever_changes_the_ids(tmp_path: Path):
    chat, plain = tmp_path / "chat", tmp_path / "plain"
    chat.mkdir()
    plain.mkdir()
    (chat / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    digests = {
        template_digest(chat, 512, None, "all", "drop", DAY),
        template_digest(chat, 100, None, "all", "drop", DAY),
        template_digest(chat, 512, "Be kind.", "all", "drop", DAY),
        template_digest(chat, 512, None, "last", "drop", DAY),
        template_digest(chat, 512, None, "all", "drop", date(2026, 1, 1)),
        template_digest(chat, 512, None, "all", "keep", DAY),
        template_digest(plain, 512, None, "all", "drop", DAY),
    }
    assert len(digests) == 7
    assert template_digest(plain, 512, None, "all", "drop", DAY) in digests


def row(question: str, response: str = "Yes.", **values: Any) -> Instruction:
    given = {"source": "s", "license": "MIT", "file": "pool.jsonl", "line": 1} | values
    return Instruction(turns=tuple(answered([{"role": "user", "content": question}], response)), **given)


@pytest.fixture(scope="module")
def template() -> Template:
    return Template(byte_tokenizer(), max_length=64)


def test_rows_are_sorted_by_row_id_with_the_tokens_counted(template: Template):
    given = [row(f"Question {i}?") for i in range(8)]
    found = normalise(given, template)
    assert [record["row_id"] for record in found.rows.to_dicts()] == sorted(item.row_id for item in given)
    assert found.n_merged == 0
    assert found.rejected.is_empty()
    for record in found.rows.to_dicts():
        row_as_text = template.render(*turns_of(record))
        texts = (row_as_text.prompt, row_as_text.completion)
        counted = [len(template.tokenizer(text)["input_ids"]) for text in texts]
        assert [record["n_prompt_tokens"], record["n_response_tokens"]] == counted
        assert not record["truncated"]


def test_the_order_of_the_files_does_not_matter(template: Template):
    given = [row("a", id="1", source="x"), row("b"), row("a", id="2", source="y"), row("c")]
    assert normalise(given, template).rows.equals(normalise(given[::-1], template).rows)


def test_equal_rows_are_merged_with_all_their_sources_licences_and_ids(template: Template):
    given = [
        row("a", id="z", source="first", license="MIT"),
        row("b"),
        row("a", id="k", source="second", license="Apache-2.0", answer="Yes", choices=("Yes", "No")),
        row("a", source="first", license="MIT", more={"sources": ["third"], "licenses": ["MIT", "CC0"]}),
    ]
    found = normalise(given, template)
    merged = next(record for record in found.rows.to_dicts() if record["prompt"] == "a")
    assert len(found.rows) == 2
    assert found.n_merged == 2
    assert merged["sources"] == ["first", "second", "third"]
    assert merged["licenses"] == ["Apache-2.0", "CC0", "MIT"]
    assert merged["ids"] == ["k", "z"]
    assert merged["n_merged"] == 3
    assert (merged["answer"], merged["choices"]) == ("Yes", ["Yes", "No"])


def test_equal_rows_have_answer_and_choices_of_one_of_them_in_whatever_order_they_come(template: Template):
    given = [
        row("a", answer="Yes"),
        row("a", answer="Yes.", choices=("Yes.", "No.")),
        row("a", choices=("y", "n"), preferred=True),
        row("a", answer="Yes.", choices=("No.", "Yes.")),
    ]
    tables = [normalise(some, template).rows for some in permutations(given)]
    assert all(table.equals(tables[0]) for table in tables)
    assert tables[0].select("answer", "choices", "preferred").row(0) == ("Yes.", ["No.", "Yes."], True)


def test_equal_calls_that_are_written_in_two_ways_give_one_table_in_either_order(template: Template):
    asked = {"role": "user", "content": "a"}
    functions = [{"name": "f", "arguments": '{"x": 1}'}, {"arguments": {"x": 1}, "name": "f"}]
    calls = [{"tool_calls": [{"type": "function", "function": function}]} for function in functions]
    given = [
        Instruction((asked, {"role": "assistant", "content": "b", **call}), "s", "MIT", "f", 1, tools=tools)
        for call in calls
        for tools in [({"name": "f", "type": "x"},), ({"type": "x", "name": "f"},)]
    ]
    tables = [normalise(some, template).rows for some in permutations(given)]
    assert all(table.equals(tables[0]) for table in tables)
    assert (len(tables[0]), tables[0]["n_merged"][0]) == (1, 4)


def test_rows_that_differ_in_the_response_only_stay_apart(template: Template):
    found = normalise([row("a", "Yes."), row("a", "No.")], template)
    assert sorted(record["response"] for record in found.rows.to_dicts()) == ["No.", "Yes."]


def test_unusable_rows_are_kept_apart_with_place_and_reason(template: Template):
    bad = Unusable("pool.jsonl", 7, "id7", "s", "no response")
    long = row("x" * 100, id="long", line=9)
    found = normalise([bad, row("a"), long], template)
    n_prompt = template.encode("long", long.turns).n_prompt
    assert [record["prompt"] for record in found.rows.to_dicts()] == ["a"]
    assert found.rejected.to_dicts() == [
        {"file": "pool.jsonl", "line": 7, "id": "id7", "source": "s", "reason": "no response"},
        {
            "file": "pool.jsonl",
            "line": 9,
            "id": "long",
            "source": "s",
            "reason": f"no response left: the prompt's {n_prompt} tokens fill max_length = 64",
        },
    ]
    assert dict(found.rejected.schema) == dict(contracts.REJECTED.schema)


def test_a_response_that_is_cut_is_marked_and_counted_as_it_is_used(template: Template):
    found = normalise([row("a", "y" * 200)], template)
    (record,) = found.rows.to_dicts()
    example = template.encode("a", *turns_of(record)).cut(template.max_length)
    assert record["truncated"]
    assert record["n_prompt_tokens"] + record["n_response_tokens"] == example.n_tokens == 64


def test_a_limit_keeps_the_first_rows_by_row_id(template: Template):
    given = [row(f"Question {i}?") for i in range(10)]
    limited = normalise(given, template, limit=4)
    assert limited.rows.equals(normalise(given, template).rows[:4])
    assert normalise(given, template, limit=99).rows.equals(normalise(given, template).rows)


def test_a_row_that_joins_displaces_at_most_one_from_a_limited_pool(template: Template):
    given = [row(f"Question {i}?") for i in range(10)]
    before, after = (set(normalise(some, template, limit=4).rows["row_id"]) for some in (given[:-1], given))
    assert len(before - after) <= 1


def test_no_rows_at_all_give_empty_tables(template: Template):
    found = normalise([], template)
    assert (len(found.rows), found.n_merged, len(found.rejected)) == (0, 0, 0)
    assert found.rows.schema == pl.Schema(contracts.POOL.schema)


def test_the_table_has_the_contracts_columns(template: Template):
    table = normalise([row("a"), row("b")], template).rows
    assert dict(table.schema) == dict(contracts.POOL.schema)
    assert len(table) == 2


def test_the_examples_of_a_table_are_its_rows_encoded_in_order(template: Template):
    table = normalise([row("a"), row("b", "y" * 200)], template).rows
    found = examples(table, template)
    assert [example.row_id for example in found] == table["row_id"].to_list()
    counted = (table["n_prompt_tokens"] + table["n_response_tokens"]).to_list()
    assert [example.n_tokens for example in found] == counted


def test_a_table_made_with_a_larger_max_length_is_refused(template: Template):
    table = normalise([row("abc" * 8)], template).rows
    with pytest.raises(ContractError, match=f"{table['row_id'][0]} has no response within max_length.*again"):
        examples(table, Template(byte_tokenizer(), max_length=16))


lengths = st.lists(st.integers(1, 200), max_size=40)


def test_the_shortest_rows_come_first_and_fill_a_batch_up_to_its_tokens():
    # Padded tokens: 2 × 3 = 6 fits in 10, 3 × 4 = 12 does not; 2 × 5 = 10 just fits.
    assert plan_batches([5, 3, 4, 2], 10) == [[3, 1], [2, 0]]


def test_equal_lengths_keep_their_order():
    assert plan_batches([7, 7, 7, 7], 14) == [[0, 1], [2, 3]]


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own():
    assert plan_batches([50, 3, 60], 10) == [[1], [0], [2]]


def test_no_rows_give_no_batches():
    assert plan_batches([], 10) == []


@given(lengths=lengths, batch_tokens=st.integers(1, 400))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_every_row_is_in_one_batch_and_no_batch_of_several_is_too_large(lengths: list[int], batch_tokens: int):
    batches = plan_batches(lengths, batch_tokens)
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= batch_tokens
    sizes = [lengths[i] for batch in batches for i in batch]
    assert sizes == sorted(sizes)


@given(lengths=lengths, batch_tokens=st.integers(1, 400))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_no_two_batches_in_a_row_could_have_been_one(lengths: list[int], batch_tokens: int):
    batches = plan_batches(lengths, batch_tokens)
    for batch, following in pairwise(batches):
        assert (len(batch) + 1) * lengths[following[0]] > batch_tokens


def test_the_engine_makes_one_worker_and_computes_results_as_they_are_asked_for():
    made: list[int] = []
    seen: list[int] = []

    def worker(item: int) -> int:
        seen.append(item)
        return item * item

    def make_worker() -> object:
        made.append(1)
        return worker

    results = Engine().map(make_worker, [3, 1, 2])
    assert next(results) == 9
    assert seen == [3]
    assert list(results) == [1, 4]
    assert made == [1]
