"""What a model makes of rows: response NLL, accuracy by likelihood over choices, generated answers, embeddings.

Prompts come from the one template, so they are the same for all models. Every function gives a value for every row, so
that models can be compared in pairs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from g2is_assets.contracts.instructions import Turn, turns_of
from g2is_assets.core.answers import closing_sentence, is_right
from g2is_assets.core.rows import unit_rows
from g2is_assets.training.loss import candidate_log_likelihoods, row_losses
from g2is_assets.training.text import Example, Template, collator, plan_batches

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Question:
    """What a model is asked of a row.

    Attributes:
        row_id: The row.
        turns, tools: The row's own turns and tools; the last turn is its response.
        answer: The right answer; empty where the row has no short one.
        choices: Candidate answers, the right one among them; empty where there are none.
        before, after: What stands around the answer in the sentence that gives it, as the row's own response has it.
    """

    row_id: str
    turns: Sequence[Turn]
    tools: Sequence[Any] = ()
    answer: str = ""
    choices: tuple[str, ...] = ()
    before: str = ""
    after: str = ""

    def right_by(self, log_likelihoods: Sequence[float]) -> bool | None:
        """Whether the right choice is the likeliest as a whole, as TruthfulQA's MC1 counts; None where unknown."""
        return int(np.argmax(log_likelihoods)) == self.choices.index(self.answer) if log_likelihoods else None


def questions(table: pl.DataFrame) -> list[Question]:
    """The rows of an instructions table, in its order."""
    found = []
    for row in table.iter_rows(named=True):
        given: dict[str, Any] = {}
        if row["answer"] is not None:
            before, after = closing_sentence(row["response"], row["answer"])
            choices = tuple(row["choices"] or ())
            given = {"answer": row["answer"], "choices": choices, "before": before, "after": after}
        found.append(Question(row["row_id"], *turns_of(row), **given))
    return found


def nll_and_choices(
    model: Any,
    template: Template,
    rows: Sequence[Example],
    asked: Iterable[Question],
    batch_tokens: int,
    progress: Progress = lambda n_rows: None,
) -> tuple[list[float], dict[str, list[float]]]:
    """Mean NLL over the response tokens of every row, and the likelihood of choices as whole responses to their prompt.

    A choice is put into the sentence that gives the answer in the row's own response ("So the answer is yes."), so
    that a model trained on such responses is asked in their form; the reasoning before it is left out, for it would
    give the answer away. A prompt passes through the model once, for the row's own response and all choices.

    Args:
        model: With or without an adapter.
        template: Renders the choices.
        rows: The rows, in any order.
        asked: Questions of some of them; those without choices are passed over.
        batch_tokens: Padded tokens per batch.
        progress: Told how many rows and choices were done.

    Returns:
        Losses in nats per token, in the order of the rows; and by row, where there are choices, the log-likelihood of
        each in nats, the end token included, or none where one exceeds `max_length`.

    Raises:
        ValueError: A question is of none of the rows.
    """
    candidates = {question.row_id: _candidates(template, question) for question in asked if question.choices}
    if strange := candidates.keys() - {row.row_id for row in rows}:
        raise ValueError(f"questions of rows that are not scored: {sorted(strange)[:3]}")
    tokenizer, device = template.tokenizer, next(model.parameters()).device
    collate, losses = collator(tokenizer), [0.0] * len(rows)
    likelihoods: dict[str, list[float]] = {row_id: [] for row_id in candidates}
    for positions in plan_batches([row.n_tokens for row in rows], batch_tokens):
        own = [
            (n, _n_shared(rows[i], other), other)
            for n, i in enumerate(positions)
            for other in candidates.get(rows[i].row_id, ())
        ]
        batch = collate([rows[i].features() for i in positions]).to(device)
        cache = DynamicCache() if own else None
        with torch.no_grad():
            values = row_losses(model, batch, cache=cache)
        for i, value in zip(positions, values.tolist(), strict=True):
            losses[i] = value
        progress(len(positions))
        if cache is not None:
            mask, pad = batch["attention_mask"], tokenizer.pad_token_id
            found = candidate_log_likelihoods(model, cache, mask, own, pad, batch_tokens, progress)
            for (n, *_), value in zip(own, found, strict=True):
                likelihoods[rows[positions[n]].row_id].append(value)
    return losses, likelihoods


def _candidates(template: Template, question: Question) -> list[Example]:
    """Every choice as a row; none of them where one would be cut."""
    turns = [{"role": "assistant", "content": question.before + choice + question.after} for choice in question.choices]
    rows = [template.encode(question.row_id, [*question.turns[:-1], turn], question.tools, "last") for turn in turns]
    return rows if all(row.n_tokens <= template.max_length for row in rows) else []


def _n_shared(row: Example, other: Example) -> int:
    """Tokens that a candidate's prompt begins with as its row does; a thought that the row has is not in the prompt."""
    pairs = zip(row.input_ids, other.input_ids[: other.n_prompt], strict=False)
    return next((n for n, (one, two) in enumerate(pairs) if one != two), min(row.n_tokens, other.n_prompt))


def answer(
    model: Any,
    template: Template,
    asked: Sequence[Question],
    batch_tokens: int,
    max_new_tokens: int,
    progress: Progress = lambda n_rows: None,
    n_positions: int | None = None,
) -> list[tuple[str, bool]]:
    """Greedy answers to questions, in the order given, and whether each is right (`core.answers.is_right`).

    An answer ends with the template's `ending` or the tokenizer's end token, and has `max_new_tokens` at most. These
    count among the padded `batch_tokens` of a batch. Progress is told how many rows were done. Of a model that has so
    many `n_positions` and no more, prompt and answer together have no more either.
    """
    prompts = [template.prompt_ids(question.turns, question.tools) for question in asked]
    texts = [""] * len(asked)
    if n_positions and prompts:
        max_new_tokens = min(max_new_tokens, max(1, n_positions - max(map(len, prompts))))
    for positions in plan_batches([len(ids) + max_new_tokens for ids in prompts], batch_tokens):
        found = _go_on(model, template, [prompts[i] for i in positions], max_new_tokens)
        for i, text in zip(positions, found, strict=True):
            texts[i] = text
        progress(len(positions))
    return [
        (text, is_right(text.rpartition("</think>")[2], question.answer))
        for question, text in zip(asked, texts, strict=True)
    ]


def _go_on(model: Any, template: Template, prompts: Sequence[list[int]], max_new_tokens: int) -> list[str]:
    """Greedy continuations of prompts, padded on the left, each cut where the response ends."""
    from transformers import GenerationConfig

    tokenizer, width = template.tokenizer, max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    ends = [end for end in dict.fromkeys([template.ending, tokenizer.eos_token]) if end]
    others = [end for end in ends if end != tokenizer.eos_token]
    with torch.no_grad():
        out = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=config,
            **({"stop_strings": others, "tokenizer": tokenizer} if others else {}),
        )
    texts = tokenizer.batch_decode(out[:, width:], skip_special_tokens=False)
    return [
        text[: min((at for end in ends if (at := text.find(end)) >= 0), default=len(text))].strip() for text in texts
    ]


def embed_rows(model: Any, tokenizer: Any, rows: Sequence[Example], batch_tokens: int) -> NDArray[np.float32]:
    """RDS+ (Ivison et al. 2025): the mean of the last hidden states of prompt and response, later tokens weighing more.

    Token i of n weighs i / (1 + ... + n). The hidden states are the last layer's, after the final norm, of the model
    without an adapter. How many padded `batch_tokens` a batch has changes an embedding by less than 1e-5.

    Returns:
        (n, hidden size) float32 unit rows, in the order given.
    """
    collate, device = collator(tokenizer), next(model.parameters()).device
    embeddings = np.empty((len(rows), model.config.get_text_config().hidden_size), dtype=np.float32)
    for positions in plan_batches([row.n_tokens for row in rows], batch_tokens):
        batch = collate([rows[i].features() for i in positions]).to(device)
        with torch.no_grad():
            pooled = _pool(model, batch["input_ids"], batch["attention_mask"])
        embeddings[positions] = unit_rows(pooled.cpu().numpy())
    return embeddings


def _pool(model: Any, input_ids: Tensor, mask: Tensor) -> Tensor:
    """(n_rows, hidden size) float32 weighted means; padding, on either side, weighs nothing."""
    places = mask.cumsum(dim=1) * mask
    positions = (places - 1).clamp(min=0)
    states = model.base_model(
        input_ids=input_ids, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state
    weights = places.float() / places.sum(dim=1, keepdim=True)
    return torch.einsum("np,nph->nh", weights, states.float())
