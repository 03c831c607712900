"""Scores against one row at a time: likelihood of candidates, greedy answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, MistralConfig

from g2is_assets.training.evaluate import (
    Question,
    answer,
    embed_rows,
    nll_and_choices,
    questions,
)
from g2is_assets.training.model import ModelSource
from g2is_assets.training.text import Example, Template
from support.models import CHATML, WARMUP, byte_tokenizer, fill_lora
from support.rows import answered


def asking(text: str) -> list[dict[str, str]]:
    return answered([{"role": "user", "content": text}], "It depends.")


YES_OR_NO = ("yes", "no", "perhaps not")
ASKED = [
    Question("a", asking("Is it?"), (), "no", YES_OR_NO),
    Question("b", asking("What is 2 + 3, I wonder?"), (), "5"),
    Question("c", asking("Which?"), (), "yes", YES_OR_NO, "So the answer is ", "."),
]


@pytest.fixture(scope="module")
def template(source: ModelSource) -> Template:
    return Template(source.tokenizer(), max_length=128)


def rows_of(template: Template, asked: Sequence[Question] = ASKED) -> list[Example]:
    """The questions with responses of their own, of other lengths than their candidates."""
    texts = [f"It is hard to say. {'Perhaps. ' * i}{question.answer}" for i, question in enumerate(asked)]
    rows = [template.encode(q.row_id, saying(q, text)) for q, text in zip(asked, texts, strict=True)]
    return [row.cut(template.max_length) for row in rows]


def saying(question: Question, text: str) -> list[dict[str, str]]:
    return answered(question.turns[:-1], text)


@pytest.fixture(scope="module")
def model(source: ModelSource) -> Any:
    return source.load("cpu")


def log_likelihood(model: Any, template: Template, question: Question, text: str) -> float:
    """Sum over the response's tokens, from the plain logits."""
    row = template.encode("", saying(question, text))
    with torch.no_grad():
        steps = torch.log_softmax(model(input_ids=torch.tensor([row.input_ids])).logits[0], dim=-1)
    return sum(float(steps[i - 1, row.input_ids[i]]) for i in range(row.n_prompt, row.n_tokens))


def with_adapter(model: Any) -> Any:
    from g2is_assets.training.lora import add_lora

    return fill_lora(add_lora(model, WARMUP, "tiny"))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("batch_tokens", [1, 100, 100_000])
def test_candidates_have_the_likelihood_of_the_whole_response(
    source: ModelSource, batch_tokens: int, adapted: bool, side: str
) -> None:
    model = with_adapter(source.load("cpu")) if adapted else source.load("cpu")
    template = Template(source.tokenizer(), max_length=128)
    template.tokenizer.padding_side = side
    # One candidate twice.
    asked = [*ASKED, Question("d", asking("Or"), (), "b", ("a", "b", "a"))]
    rows = rows_of(template, asked)
    told: list[int] = []
    nll, scored = nll_and_choices(model, template, rows, asked, batch_tokens, told.append)
    assert nll == nll_and_choices(model, template, rows, (), batch_tokens)[0]
    assert sum(told) == len(rows) + 9
    assert list(scored) == ["a", "c", "d"]
    for question in (asked[0], asked[2], asked[3]):
        texts = [question.before + choice + question.after for choice in question.choices]
        expected = [log_likelihood(model, template, question, text) for text in texts]
        assert scored[question.row_id] == pytest.approx(expected, abs=1e-4)
        right = expected.index(max(expected)) == question.choices.index(question.answer)
        assert question.right_by(scored[question.row_id]) is right


@pytest.mark.parametrize("kind", ["mistral", "gpt2"])
def test_a_window_of_attention_and_learned_positions_are_kept(
    source: ModelSource, template: Template, kind: str
) -> None:
    """A window shorter than the prompts; positions that are looked up instead of rotated."""
    shape = {name: value for name, value in source.load("cpu").config.to_dict().items() if name != "model_type"}
    torch.manual_seed(0)
    config = (
        MistralConfig(**shape | {"sliding_window": 8})
        if kind == "mistral"
        else GPT2Config(vocab_size=shape["vocab_size"], n_positions=128, n_embd=64, n_layer=2, n_head=4)
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    _, scored = nll_and_choices(model, template, rows_of(template), ASKED, 100_000)
    for question in (ASKED[0], ASKED[2]):
        texts = [question.before + choice + question.after for choice in question.choices]
        expected = [log_likelihood(model, template, question, text) for text in texts]
        assert scored[question.row_id] == pytest.approx(expected, abs=1e-4)


def test_a_question_whose_candidate_would_be_cut_is_not_scored(model: Any, source: ModelSource) -> None:
    n_tokens = Template(source.tokenizer(), 999).encode("", saying(ASKED[0], "yes")).n_tokens
    template = Template(source.tokenizer(), n_tokens)
    assert nll_and_choices(model, template, rows_of(template, ASKED[:1]), ASKED[:1], 1000)[1] == {"a": []}
    assert ASKED[0].right_by([]) is None


def test_a_question_of_no_row_is_refused(model: Any, template: Template) -> None:
    with pytest.raises(ValueError, match=r"not scored: \['c'\]"):
        nll_and_choices(model, template, rows_of(template, ASKED[:2]), ASKED, 1000)


def test_choices_are_scored_without_the_thought_that_their_row_has(model: Any) -> None:
    chat = CHATML.replace("message['content'] +", "(message['content'] if message['role'] == 'user' else '<think>' + "
                          "(message.reasoning_content or '') + '</think>' + message['content']) +")  # fmt: skip
    template = Template(byte_tokenizer(chat), max_length=128)
    said = {"role": "assistant", "content": "no", "reasoning_content": "It rained."}
    asked = Question("a", [{"role": "user", "content": "Is it?"}, said], (), "no", YES_OR_NO)
    row = template.encode("a", asked.turns)
    assert "It rained." in template.tokenizer.decode(row.input_ids)
    _, scored = nll_and_choices(model, template, [row], [asked], 100_000)
    expected = [log_likelihood(model, template, asked, choice) for choice in YES_OR_NO]
    assert scored["a"] == pytest.approx(expected, abs=1e-4)


def greedy(model: Any, template: Template, question: Question, n_tokens: int, ends: list[str]) -> str:
    ids = template.prompt_ids(question.turns)
    n_prompt = len(ids)
    for _ in range(n_tokens):
        with torch.no_grad():
            ids = [*ids, int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())]
        text = template.tokenizer.decode(ids[n_prompt:])
        if any(end in text for end in ends):
            return text[: min(text.find(end) for end in ends if end in text)].strip()
    return template.tokenizer.decode(ids[n_prompt:]).strip()


@pytest.mark.parametrize("batch_tokens", [1, 100_000])
def test_answers_are_the_greedy_continuations_of_single_rows(model: Any, template: Template, batch_tokens: int) -> None:
    texts = [text for text, _ in answer(model, template, ASKED, batch_tokens, 12)]
    assert texts == [greedy(model, template, q, 12, [template.ending]) for q in ASKED]
    assert len(set(texts)) > 1


def test_a_model_that_knows_the_answer_is_right(model: Any, template: Template) -> None:
    [(said, right)] = answer(model, template, [ASKED[1]], 1000, 12)
    assert not right
    knowing = Question("b", ASKED[1].turns, (), said)
    assert answer(model, template, [knowing], 1000, 12) == [(said, True)]


def test_questions_are_all_rows_with_what_they_have() -> None:
    messages = asking("?")
    table = pl.DataFrame(
        {
            "row_id": ["a", "b", "c"],
            "messages": [messages] * 3,
            "tools": [None] * 3,
            "response": ["It is so. So the answer is yes.", "Blue.", "Paris"],
            "answer": ["yes", None, "Paris"],
            "choices": [["yes", "no"], None, None],
        }
    )
    assert questions(table) == [
        Question("a", messages, [], "yes", ("yes", "no"), "So the answer is ", "."),
        Question("b", messages, []),
        Question("c", messages, [], "Paris"),
    ]


@pytest.mark.parametrize(("chat_template", "ending"), [("chatml", "<|im_end|>"), (None, "<|im_end|>")])
def test_the_ending_is_what_the_template_puts_behind_a_response(chat_template: str | None, ending: str) -> None:
    template = Template(byte_tokenizer(CHATML if chat_template else None), 64)
    assert template.ending == ending
    row = template.encode("", saying(ASKED[0], "Hello"))
    assert template.prompt_ids(ASKED[0].turns) == row.input_ids[: row.n_prompt]


def test_the_prompt_passes_through_the_model_once(source: ModelSource, template: Template) -> None:
    model, lengths = source.load("cpu"), []
    model.model.register_forward_pre_hook(
        lambda _module, _inputs, given: lengths.append(given["input_ids"].numel()), with_kwargs=True
    )
    question = Question("a", [{"role": "user", "content": "word " * 10}], "no", YES_OR_NO)
    [row] = rows_of(template, [question])
    nll_and_choices(model, template, [row], [question], 10_000)
    assert row.n_tokens <= sum(lengths) <= row.n_tokens + 3 * 13


def one_at_a_time(source: ModelSource, rows: Sequence[Example]) -> np.ndarray:
    """Token by token from the hidden states that the whole model reports."""
    model, found = source.load("cpu"), []
    for row in rows:
        with torch.no_grad():
            output = model(input_ids=torch.tensor([row.input_ids]), output_hidden_states=True)
        states = output.hidden_states[-1][0].double().numpy()
        total = sum((i + 1) * state for i, state in enumerate(states)) / (row.n_tokens * (row.n_tokens + 1) / 2)
        found.append(total / np.linalg.norm(total))
    return np.array(found)


@pytest.mark.parametrize("batch_tokens", [1, 100, 10_000])
@pytest.mark.parametrize("side", ["left", "right"])
def test_embeddings_are_the_weighted_means_of_single_rows_whatever_the_batch(
    source: ModelSource, rows: Sequence[Example], batch_tokens: int, side: str
) -> None:
    tokenizer = source.tokenizer()
    tokenizer.padding_side = side
    found = embed_rows(source.load("cpu"), tokenizer, rows, batch_tokens)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, one_at_a_time(source, rows), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_later_tokens_weigh_more(source: ModelSource) -> None:
    ids = source.tokenizer()("cats and dogs", add_special_tokens=False)["input_ids"]
    forth, back = Example("a", ids, 0), Example("b", ids[::-1], 0)
    first, second = embed_rows(source.load("cpu"), source.tokenizer(), [forth, back], 1000)
    assert first @ second < 0.999


def test_no_rows_give_no_embeddings(source: ModelSource) -> None:
    assert embed_rows(source.load("cpu"), source.tokenizer(), [], 100).shape == (0, 32)
