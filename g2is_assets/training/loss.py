"""The one loss of the project: each row's mean negative log-likelihood over its response tokens.

Warmup, gradients, finetuning and evaluation all call `row_losses`, so a row's loss means the same everywhere.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from g2is_assets.training.text import IGNORED


def row_losses(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """ℓ(z; θ) of every row of a padded batch (design: mean over response tokens, prompt masked).

    Logits are computed at positions that predict a response token only: the inputs of the output layer are gathered
    there, so that the model's own code (scaling, soft-capping) still runs and the vocabulary-wide array stays small.

    Args:
        model: A causal language model, with or without PEFT.
        batch: `input_ids`, `attention_mask`, `labels`, each (n_rows, n_positions) int64; labels -100 carry no loss.
            Every row needs at least one label after its first position. Either side may be padded.

    Returns:
        (n_rows,) float32, in nats per token; each row's value does not depend on the others.
    """
    targets = batch["labels"][:, 1:]
    predicted = targets != IGNORED

    def gather(_module: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0][:, :-1][predicted].unsqueeze(0),)

    mask = batch["attention_mask"]
    # Positions count real tokens, so that padding on the left does not shift them.
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    hook = model.get_output_embeddings().register_forward_pre_hook(gather)
    try:
        logits = model(
            input_ids=batch["input_ids"], attention_mask=mask, position_ids=positions, use_cache=False
        ).logits.squeeze(0)
    finally:
        hook.remove()
    nll = torch.nn.functional.cross_entropy(logits.float(), targets[predicted], reduction="none")
    row_of = predicted.nonzero()[:, 0]
    total = torch.zeros(len(targets), dtype=nll.dtype, device=nll.device).index_add(0, row_of, nll)
    return total / predicted.sum(dim=1)
