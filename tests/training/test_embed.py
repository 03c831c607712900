"""Embeddings against one row at a time, without padding."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from g2is_assets.training.embed import embed_rows
from g2is_assets.training.model import ModelSource
from g2is_assets.training.text import Example


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


def test_no_rows_give_no_embeddings_and_progress_counts_rows(source: ModelSource, rows: Sequence[Example]) -> None:
    seen: list[int] = []
    embed_rows(source.load("cpu"), source.tokenizer(), rows, 100, seen.append)
    assert sum(seen) == len(rows)
    assert embed_rows(source.load("cpu"), source.tokenizer(), [], 100).shape == (0, 32)
