"""The one loss of the project: each row's mean negative log-likelihood over its response tokens.

Warmup, gradients, finetuning and evaluation all call `row_losses`, so a row's loss means the same everywhere.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from g2is_assets.training.text import IGNORED


def row_losses(model: Any, batch: Mapping[str, Tensor], *, packed: bool = False, cache: Any = None) -> Tensor:
    """ℓ(z; θ) of every row of a padded batch (design: mean over response tokens, prompt masked).

    Logits are computed at positions that predict a response token only: the inputs of the output layer are gathered
    there, so that the model's own code (scaling, soft-capping) still runs and the vocabulary-wide array stays small.

    Args:
        model: A causal language model, with or without PEFT.
        batch: `input_ids`, `attention_mask`, `labels`, each (n_rows, n_positions) int64; labels -100 carry no loss.
            Every row needs at least one label after its first position. Either side may be padded.
        packed: Pass the rows one after the other as a single sequence in which each attends to itself alone: padding
            costs nothing. The values are the same up to rounding, within `packed_rows` where it is true.
        cache: Keys and values (transformers' `DynamicCache`) of what stands before the batch, n_cached positions that
            `attention_mask` covers too: (n_rows, n_cached + n_positions). Those of the batch are added to it. Not for
            packed rows.

    Returns:
        (n_rows,) float32, in nats per token; each row's value does not depend on the others.
    """
    ids, mask = batch["input_ids"], batch["attention_mask"]
    # Positions count real tokens, so that padding on the left does not shift them.
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    labels = batch["labels"].masked_fill(positions == 0, IGNORED)  # nothing of the row predicts its first token
    row_of = torch.arange(len(ids), device=ids.device).unsqueeze(1).expand_as(ids)
    if packed:
        ids, labels, positions, row_of = (t[mask.bool()].unsqueeze(0) for t in (ids, labels, positions, row_of))
    predicted = labels[:, 1:] != IGNORED

    def gather(_module: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0][:, :-1][predicted].unsqueeze(0),)

    hook = model.get_output_embeddings().register_forward_pre_hook(gather)
    try:
        # Without a mask, transformers sees from the positions where a packed sequence's rows begin.
        logits = model(
            input_ids=ids,
            attention_mask=None if packed else mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).logits.squeeze(0)
    finally:
        hook.remove()
    nll = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][predicted], reduction="none")
    row_of = row_of[:, 1:][predicted]
    n_rows = len(mask)
    total = torch.zeros(n_rows, dtype=nll.dtype, device=nll.device).index_add(0, row_of, nll)
    return total / torch.bincount(row_of, minlength=n_rows)
