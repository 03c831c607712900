"""Likelihoods of several responses to one prompt, which passes through the model once, with the row's own response."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from g2is_assets.training.batches import plan_batches
from g2is_assets.training.loss import row_losses
from g2is_assets.training.text import IGNORED, Example


def candidate_log_likelihoods(
    model: Any,
    cache: DynamicCache,
    mask: Tensor,
    candidates: Sequence[tuple[int, Example]],
    pad_token_id: int,
    batch_tokens: int,
    progress: Callable[[int], None] = lambda n_rows: None,
) -> list[float]:
    """Log-likelihood of every candidate's response, summed over its tokens, in nats, in the order given.

    The candidates go on from the prompts in the cache; the result is that of whole rows up to rounding.

    Args:
        model: A causal language model, with or without an adapter.
        cache: Keys and values of a batch of rows, at every position; it is left as it was.
        mask: (n_rows, n_positions) int64 attention mask of that batch, padded on either side.
        candidates: Each with the number of the row in the batch that begins with its prompt.
        pad_token_id: Fills up shorter candidates; it counts for nothing.
        batch_tokens: Tokens per batch as if padded to the longest candidate, the prompt counted for each; where long
            prompts with short responses meet the opposite, padding may double them.
        progress: Told how many candidates were done.
    """
    totals = [0.0] * len(candidates)
    for chosen in plan_batches([row.n_tokens for _, row in candidates], batch_tokens):
        numbers, rows = zip(*(candidates[i] for i in chosen), strict=True)
        with torch.no_grad():
            losses = _losses(model, cache, mask, torch.tensor(numbers, device=mask.device), rows, pad_token_id)
        for i, row, loss in zip(chosen, rows, losses.tolist(), strict=True):
            totals[i] = -loss * (row.n_tokens - row.n_prompt)
        progress(len(chosen))
    return totals


def _losses(
    model: Any, cache: DynamicCache, mask: Tensor, numbers: Tensor, rows: Sequence[Example], pad_token_id: int
) -> Tensor:
    """(n,) float32 losses of rows whose prompts, but for the last token, are taken from the cache."""
    device = mask.device
    n_cached = torch.tensor([row.n_prompt - 1 for row in rows], device=device).unsqueeze(1)
    # The prompts end at the same column, so that no gap lies between them and what follows.
    place = torch.arange(int(n_cached.max()), device=device) - n_cached.max() + n_cached
    columns = (mask[numbers].argmax(dim=1, keepdim=True) + place).clamp(min=0)
    prompts = DynamicCache(
        (
            layer.keys[numbers[:, None], :, columns].transpose(1, 2),
            layer.values[numbers[:, None], :, columns].transpose(1, 2),
        )
        for layer in cache.layers
    )
    tails = [row.input_ids[row.n_prompt - 1 :] for row in rows]
    width = max(map(len, tails))
    batch = {
        "input_ids": [tail + [pad_token_id] * (width - len(tail)) for tail in tails],
        "attention_mask": [[1] * len(tail) + [0] * (width - len(tail)) for tail in tails],
        "labels": [[IGNORED, *tail[1:]] + [IGNORED] * (width - len(tail)) for tail in tails],
    }
    tensors = {name: torch.tensor(values, device=device) for name, values in batch.items()}
    tensors["attention_mask"] = torch.cat([(place >= 0).long(), tensors["attention_mask"]], dim=1)
    return row_losses(model, tensors, cache=prompts)
