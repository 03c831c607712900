"""Likelihoods of several responses to one prompt, which passes through the model once."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from g2is_assets.training.batches import plan_batches
from g2is_assets.training.text import Example


def response_log_likelihoods(
    model: Any,
    pad_token_id: int,
    rows: Sequence[Example],
    batch_tokens: int,
    progress: Callable[[int], None] = lambda n_rows: None,
) -> list[float]:
    """Log-likelihood of every response, summed over its tokens, in nats, in the order given.

    What the rows have in common at their start is computed once and kept as keys and values; the rest of every row goes
    on from there. The result is that of whole rows up to rounding.

    Args:
        model: A causal language model with a cache of keys and values, with or without an adapter.
        pad_token_id: Fills up shorter rows; it counts for nothing.
        rows: At least one; all with the same prompt.
        batch_tokens: Padded tokens per batch, the common start counted for each row.
        progress: Told how many rows were done.
    """
    ids, n_prompt, device = [row.input_ids for row in rows], rows[0].n_prompt, next(model.parameters()).device
    # One token of each row is left over, for the last of the common ones predicts it.
    n_shared = next((i for i, tokens in enumerate(zip(*ids, strict=False)) if len(set(tokens)) > 1), len(ids[0]))
    n_shared = min(n_shared, min(map(len, ids)) - 1)
    totals = [0.0] * len(rows)
    with torch.no_grad():
        start = torch.tensor([ids[0][:n_shared]], device=device)
        with _only_last_logits(model, n_shared - n_prompt + 1):
            done = model(input_ids=start, use_cache=True)
        steps = done.logits[0].float().log_softmax(dim=-1)
        common = steps[:-1].gather(1, start[0, n_prompt:, None]).sum()
        for positions in plan_batches([len(row) for row in ids], batch_tokens):
            tails = [ids[i][n_shared:] for i in positions]
            values = common + steps[-1, [tail[0] for tail in tails]]
            if max(map(len, tails)) > 1:
                values = values + _go_on(model, done.past_key_values, n_shared, tails, pad_token_id)
            for i, value in zip(positions, values.tolist(), strict=True):
                totals[i] = value
            progress(len(positions))
    return totals


def _go_on(model: Any, cache: Any, n_shared: int, tails: Sequence[list[int]], pad_token_id: int) -> Tensor:
    """(n,) float32 log-likelihoods of the tails after their first token.

    Args:
        model: The model.
        cache: Keys and values of the common start, for one row; it is left as it was.
        n_shared: Its tokens.
        tails: The rest of every row.
        pad_token_id: For padding.
    """
    n, width, device = len(tails), max(map(len, tails)), next(model.parameters()).device
    own = copy.deepcopy(cache)
    own.batch_repeat_interleave(n)
    tokens = torch.tensor([tail + [pad_token_id] * (width - len(tail)) for tail in tails], device=device)
    real = torch.tensor([[1] * len(tail) + [0] * (width - len(tail)) for tail in tails], device=device)
    logits = model(
        input_ids=tokens[:, :-1],
        attention_mask=torch.cat([real.new_ones(n, n_shared), real[:, :-1]], dim=1),
        position_ids=torch.arange(n_shared, n_shared + width - 1, device=device).expand(n, -1),
        past_key_values=own,
        use_cache=True,
    ).logits
    steps = logits.float().log_softmax(dim=-1).gather(2, tokens[:, 1:, None])[:, :, 0]
    return (steps * real[:, 1:]).sum(dim=1)


@contextmanager
def _only_last_logits(model: Any, n_positions: int) -> Iterator[None]:
    """Logits of the last positions only: the vocabulary-wide array of a whole prompt is never needed."""

    def keep(_module: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0][:, -n_positions:],)

    hook = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        yield
    finally:
        hook.remove()
