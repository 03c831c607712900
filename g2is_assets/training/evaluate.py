"""Scoring rows: the response NLL of every row under a model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from g2is_assets.training.batches import plan_batches
from g2is_assets.training.loss import row_losses
from g2is_assets.training.text import Example, collator


def response_nll(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Example],
    batch_tokens: int,
    progress: Callable[[int], None] = lambda n_rows: None,
) -> list[float]:
    """Mean NLL over the response tokens of every row, in nats per token, in the order given."""
    collate, device = collator(tokenizer), next(model.parameters()).device
    losses = [0.0] * len(rows)
    for positions in plan_batches([row.n_tokens for row in rows], batch_tokens):
        batch = collate([rows[i].features() for i in positions])
        with torch.no_grad():
            values = row_losses(model, {key: t.to(device) for key, t in batch.items()})
        for i, value in zip(positions, values.tolist(), strict=True):
            losses[i] = value
        progress(len(positions))
    return losses
