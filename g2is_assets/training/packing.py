"""Rows of a batch as one sequence without padding: whether a model keeps them apart, and how, on a CPU, for less."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from g2is_assets.training.loss import row_losses

APART: Final = "g2is_rows_apart"


@contextmanager
def packed_rows(model: Any, batch: Mapping[str, Tensor]) -> Iterator[bool]:
    """Whether `row_losses(packed=True)` holds for the model, found by trying: both ways give the same losses.

    On a CPU each row attends by itself meanwhile, instead of under a mask over all rows: the work of attention
    then grows with the sum of squared lengths, not with the square of their sum.

    Args:
        model: A causal language model, with or without PEFT.
        batch: As for `row_losses`, of at least two rows; with the longest one that will come, for an attention window.
    """
    usual = model.config._attn_implementation
    with torch.no_grad():
        padded = row_losses(model, batch)
    ways = [APART, usual] if batch["input_ids"].device.type == "cpu" else [usual]
    try:
        yield any(_same(model, batch, padded, way) for way in ways)
    finally:
        model.set_attn_implementation(usual)


def _same(model: Any, batch: Mapping[str, Tensor], padded: Tensor, way: str) -> bool:
    """Whether the packed batch has the losses of the padded one under an attention, which the model is left with."""
    try:
        model.set_attn_implementation(way)
        with torch.no_grad():
            return torch.allclose(padded, row_losses(model, batch, packed=True), rtol=1e-4, atol=1e-4)
    except (RuntimeError, ValueError, TypeError):  # a model that wants a mask, or no attention but its own
        return False


def _rows_apart(
    _module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: None,
    *,
    position_ids: Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each row of one packed sequence, as transformers calls it.

    In float32 also where the rest is bfloat16: without matrix units for it, a CPU's bfloat16 attention is the slower.

    Args:
        query: (1, n_heads, n_positions, head_dim).
        key: (1, n_key_heads, n_positions, head_dim).
        value: Likewise.
        position_ids: (1, n_positions) int64; a row begins where it is 0.
        scaling: Of the products of query and key; None is 1 / √head_dim.
        dropout: Share of the weights left out.
        sliding_window: How far back a position sees, itself included.
        softcap: Bound of the scores.
        s_aux: Attention sinks.

    Returns:
        (1, n_positions, n_heads, head_dim), and no weights.

    Raises:
        ValueError: The attention is not plain for these rows.
    """
    begins = (position_ids[0] == 0).nonzero()[:, 0]
    lengths = torch.diff(begins, append=begins.new_tensor([query.shape[2]])).tolist()
    if softcap is not None or s_aux is not None or (sliding_window is not None and sliding_window < max(lengths)):
        raise ValueError("soft caps, sinks and windows shorter than a row are left to the model's own attention")
    with torch.autocast(query.device.type, enabled=False):
        split = (torch.split(t.float(), lengths, dim=2) for t in (query, key, value))
        attended = [
            scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True)
            for q, k, v in zip(*split, strict=True)
        ]
    return torch.cat(attended, dim=2).transpose(1, 2).to(query.dtype), None


AttentionInterface.register(APART, _rows_apart)
AttentionMaskInterface.register(APART, lambda *_, **__: None)
