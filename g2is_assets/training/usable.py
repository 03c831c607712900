"""May this model be used: told before anything is trained, from its files, and once it is loaded, by trying it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from g2is_assets.errors import ModelError
from g2is_assets.training.lora import fault_of_targets, not_finite
from g2is_assets.training.loss import per_example_gradients, row_losses
from g2is_assets.training.text import IGNORED

TOLERANCE: Final = 1e-4
"""Between the losses of one row in different batches, in nats: rounding stays below a tenth of it."""
HALF_TOLERANCE: Final = 0.25
"""The same in bfloat16, whose numbers lie an eighth apart where logits are about twenty."""
ROWS: Final = ([5, 17, 31, 43, 59, 71, 83, 97, 109], [6, 19, 37, 53, 67])
"""Two rows of arbitrary token ids, of different lengths."""


def faults_of(model: Any, tokenizer: Any, max_length: int, targets: Mapping[str, Sequence[str]]) -> list[str]:
    """Why a model cannot be used with its tokenizer and these settings, each with the remedy; none if it can.

    Args:
        model: The model, of which no weight is read: `ModelSource.outline`.
        tokenizer: Its tokenizer.
        max_length: Tokens of a row.
        targets: Names that LoRA is to adapt, by section of the settings file.
    """
    n_rows = min(layer.weight.shape[0] for layer in (model.get_input_embeddings(), model.get_output_embeddings()))
    faults, top = [], max(tokenizer.get_vocab().values())
    if top >= n_rows:
        faults.append(
            f"the tokenizer has ids up to {top}, the model's embeddings {n_rows} rows; save the model again after "
            f"model.resize_token_embeddings({top + 1}), or take the tokens out that were added"
        )
    if tokenizer.eos_token is None and tokenizer.chat_template is None:
        faults.append("the tokenizer has neither a chat template nor an end token; name it as `eos_token`")
    n_positions, has_table = positions_of(model)
    if has_table and max_length > n_positions:
        faults.append(
            f"max_length = {max_length} exceeds the model's {n_positions} positions; set [instructions] max_length = "
            f"{n_positions} at most"
        )
    for section, names in targets.items():
        if fault := fault_of_targets(model, names, by_row=section == "[warmup]"):
            faults.append(f"{section} targets: {fault}")
    return faults


def remark_on(model: Any, max_length: int) -> str | None:
    """What is to be known of a model that can be used."""
    n_positions, has_table = positions_of(model)
    if has_table or not n_positions or max_length <= n_positions:
        return None
    return (
        f"max_length = {max_length} exceeds the {n_positions} positions that the model was trained for: later ones are "
        f"computed, but were never learned; set [instructions] max_length = {n_positions} where rows allow it"
    )


def positions_of(model: Any) -> tuple[int, bool]:
    """Positions of a model, 0 where it names none, and whether it has a table of them, beyond which it cannot go.

    Without a table, as with rotary positions, the number is that of its training: what it makes of later ones is
    computed, but was never learned.
    """
    config = model.config.get_text_config()
    said = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None) or 0
    tables = [
        len(tensor)
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        if tensor.dim() == 2 and any("wpe" in part or part.startswith(("pos", "embed_pos")) for part in name.split("."))
    ]
    # Some have up to two rows more than positions, which they skip.
    has_table = any(said <= n <= said + 2 for n in tables) or hasattr(config, "max_seq_len")
    rope = getattr(config, "rope_parameters", None) or {}
    stretched = (rope.get("original_max_position_embeddings") or 0) * (rope.get("factor") or 1)
    return (said, True) if has_table else (max(said, round(stretched)), False)


def try_model(name: str, model: Any) -> None:
    """Pass two short rows through a loaded model: what makes its losses useless is told before anybody relies on them.

    Raises:
        ModelError: Weights or losses are not finite, a row's loss depends on what follows it, on padding or on the rows
            beside it, or batches cannot be passed at all.
    """
    if bad := list(not_finite([*model.named_parameters(), *model.named_buffers()])):
        raise ModelError(
            f"the model '{name}' has weights that are not finite, in {len(bad)} of its tensors, such as {bad[0]}: no "
            "setting helps; get its files again, or set another `model`"
        )
    n_ids = model.get_input_embeddings().weight.shape[0]
    longer, shorter = ([token % n_ids for token in row] for row in ROWS)
    n = len(shorter)
    try:
        with torch.no_grad():
            alone = torch.cat([_losses(model, [row]) for row in (longer, shorter)])
            found = {
                "padding on the right": _losses(model, [longer, shorter]),
                "padding on the left": _losses(model, [longer, shorter], left=True),
                "the rows beside it": torch.cat([_losses(model, [row, row[::-1]])[:1] for row in (longer, shorter)]),
            }
            ahead = _losses(model, [longer], n_loss=n), _losses(model, [longer[:n]])
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the model '{name}' cannot pass a batch of rows: {reason}; set another `model`") from error
    if not (finite := alone.isfinite()).all():
        raise ModelError(
            f"the loss of the model '{name}' is {alone[~finite][0]:g} before any step, though its weights are finite; "
            "get its files again, or set another `model`"
        )
    if not torch.allclose(*ahead, rtol=0.0, atol=TOLERANCE):
        raise ModelError(
            f"the model '{name}' is not causal: a row's loss changes with the tokens that follow "
            f"({ahead[1].item():.4f} nats become {ahead[0].item():.4f}); set `model` to a causal language model"
        )
    for what, losses in found.items():
        if not torch.allclose(losses, alone, rtol=0.0, atol=TOLERANCE):
            worst = int((losses - alone).abs().argmax())
            raise ModelError(
                f"the model '{name}' gives a row another loss with {what} ({alone[worst]:.4f} nats become "
                f"{losses[worst]:.4f}), so that no row's gradient would be its own; set another `model`"
            )


def try_gradients(model: Any) -> None:
    """Take the gradients of two short rows at all LoRA layers, before training makes them worth having.

    Raises:
        ModelError: A layer has none by row, or they are zero or not finite.
    """
    n_ids, sums = model.get_input_embeddings().weight.shape[0], []
    with per_example_gradients(model, lambda name, gradient: sums.append(gradient.abs().sum())):
        _losses(model, [[token % n_ids for token in row] for row in ROWS]).sum().backward()  # type: ignore[no-untyped-call]
    if not 0 < (total := float(sum(sums))) < math.inf:
        raise ModelError(
            f"the model's gradients at `targets` come to {total:g} on plain rows: its weights are damaged; get its "
            "files again, or set another `model`"
        )


def _losses(model: Any, rows: list[list[int]], *, left: bool = False, n_loss: int | None = None) -> Tensor:
    """Losses of rows, padded on one side, over their tokens or the first of them."""
    device, width = model.get_input_embeddings().weight.device, max(map(len, rows))

    def padded(values: list[int], pad: int) -> list[int]:
        rest = [pad] * (width - len(values))
        return rest + values if left else values + rest

    labels = [row[:n_loss] + [IGNORED] * (len(row) - len(row[:n_loss])) for row in rows]
    batch = {
        "input_ids": [padded(row, 0) for row in rows],
        "attention_mask": [padded([1] * len(row), 0) for row in rows],
        "labels": [padded(row, IGNORED) for row in labels],
    }
    return row_losses(model, {name: torch.tensor(values, device=device) for name, values in batch.items()})
