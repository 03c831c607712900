"""Embeddings of rows by the base model: what selection by similarity uses in the place of gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from g2is_assets.core.vectors import unit_rows
from g2is_assets.training.batches import plan_batches
from g2is_assets.training.text import Example, collator


def embed_rows(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Example],
    batch_tokens: int,
    progress: Callable[[int], None] = lambda n_rows: None,
) -> NDArray[np.float32]:
    """RDS+ (Ivison et al. 2025): the mean of the last hidden states of prompt and response, later tokens weighing more.

    Token i of n weighs i / (1 + ... + n). The hidden states are the last layer's, after the final norm.

    Args:
        model: The base model, without an adapter.
        tokenizer: Its tokenizer, for padding.
        rows: Rendered rows.
        batch_tokens: Padded tokens per batch; it changes an embedding by less than 1e-5.
        progress: Told how many rows were done.

    Returns:
        (n, hidden size) float32 unit rows, in the order given.
    """
    collate, device = collator(tokenizer), next(model.parameters()).device
    embeddings = np.empty((len(rows), model.config.get_text_config().hidden_size), dtype=np.float32)
    for positions in plan_batches([row.n_tokens for row in rows], batch_tokens):
        batch = collate([rows[i].features() for i in positions])
        with torch.no_grad():
            mask = batch["attention_mask"].to(device)
            pooled = _pool(model, batch["input_ids"].to(device), mask)
        embeddings[positions] = unit_rows(pooled.cpu().numpy())
        progress(len(positions))
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
