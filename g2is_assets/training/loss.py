"""The one loss of the project: each row's mean negative log-likelihood over its response tokens, and its gradient.

Warmup, gradients, finetuning and evaluation all call `row_losses`, so a row's loss means the same everywhere. Rows may
be padded, packed one after the other where the model keeps them apart, or go on from a prompt that has passed already.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad, scaled_dot_product_attention, softmax
from transformers import AttentionInterface, DynamicCache
from transformers.masking_utils import AttentionMaskInterface

from g2is_assets.errors import ModelError
from g2is_assets.training.lora import canonical_name
from g2is_assets.training.text import IGNORED, Example, plan_batches

Consume = Callable[[str, Tensor], None]


def row_losses(model: Any, batch: Mapping[str, Tensor], *, packed: bool = False, cache: Any = None) -> Tensor:
    """ℓ(z; θ) of every row of a padded batch (design: mean over response tokens, prompt masked).

    Logits are computed at positions that predict a response token only: the inputs of the output layer are gathered
    there, so that the model's own code (scaling, soft-capping) still runs and the vocabulary-wide array stays small.

    Args:
        model: A causal language model, with or without PEFT.
        batch: `input_ids`, `attention_mask`, `labels`, each (n_rows, n_positions) int64; labels -100 carry no loss.
            Every row needs at least one label after its first position. Either side may be padded.
        packed: Pass the rows one after the other as a single sequence in which each attends to itself alone: padding
            costs nothing. The values are the same up to rounding, with the attention that `way_to_pack` finds.
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
    size = ROUND if torch.is_autocast_enabled(ids.device.type) else 1
    if packed and (n_more := -ids.shape[1] % size):  # a row more, without loss
        ids, row_of, labels = pad(ids, (0, n_more)), pad(row_of, (0, n_more)), pad(labels, (0, n_more), value=IGNORED)
        positions = torch.cat([positions, torch.arange(n_more, device=ids.device).unsqueeze(0)], dim=1)
    predicted = labels[:, 1:] != IGNORED
    n_predicted = int(predicted.sum())

    def gather(_module: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (pad(inputs[0][:, :-1][predicted], (0, 0, 0, -n_predicted % size)).unsqueeze(0),)

    hook = model.get_output_embeddings().register_forward_pre_hook(gather)
    try:
        # Without a mask, transformers sees from the positions where a packed sequence's rows begin.
        logits = model(
            input_ids=ids,
            attention_mask=None if packed else mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).logits.squeeze(0)[:n_predicted]
    finally:
        hook.remove()
    nll = _NegativeLogLikelihood.apply(logits, labels[:, 1:][predicted])  # type: ignore[no-untyped-call]
    row_of = row_of[:, 1:][predicted]
    n_rows = len(mask)
    total = torch.zeros(n_rows, dtype=nll.dtype, device=nll.device).index_add(0, row_of, nll)
    return total / torch.bincount(row_of, minlength=n_rows)


ROUND: Final = 64
"""Tokens, packed or with loss, of which a pass in bfloat16 has a multiple: a CPU's library writes a program for each
number that it meets, which takes longer than the product itself, and keeps a megabyte of each for the last thousand."""
BLOCK: Final = 32
"""Tokens whose likelihoods over the vocabulary are formed at once: few enough for a processor's cache."""


class _NegativeLogLikelihood(torch.autograd.Function):
    """Cross-entropy of logits (n, n_vocabulary) with labels (n,), in float32 a block of tokens at a time.

    Only logits and their gradient stand whole, in their own number format: torch's cross-entropy holds four arrays of
    that size in float32, which were a pass's largest.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        ctx.save_for_backward(logits, labels)
        blocks = zip(torch.split(logits, BLOCK), torch.split(labels, BLOCK), strict=True)
        return torch.cat([cross_entropy(block.float(), own, reduction="none") for block, own in blocks])

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, None]:
        logits, labels = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        parts = (gradient, logits, labels.unsqueeze(1), delta.unsqueeze(1))
        for out, block, own, weight in zip(*(torch.split(part, BLOCK) for part in parts), strict=True):
            likelihood = softmax(block.float(), dim=1)
            likelihood.scatter_add_(1, own, likelihood.new_full(own.shape, -1.0))
            out.copy_(likelihood.mul_(weight))
        return gradient, None


@contextmanager
def per_example_gradients(model: Any, consume: Consume, lengths: Sequence[int] = ()) -> Iterator[None]:
    """While open, each backward pass hands `consume(name, gradient)` every LoRA parameter's per-row gradient.

    One backward pass of the summed row losses gives, at every LoRA layer, the layer's input x and the loss's gradient δ
    at its output, row by row; a row's weight gradient is δᵀx over its own tokens. Of packed rows (`lengths`, tokens of
    each) these are a segment of the one sequence, and each product is of its segment.

    The gradient is (n_rows, *parameter shape) float32, exact for losses summed over rows of which each depends on its
    own row of the batch. No parameter needs `requires_grad`: the graph starts at the embeddings, so that no summed
    weight gradient is computed beside it. Works for linear and GPT-2's transposed layers, since A and B are linear
    themselves.

    Raises:
        ModelError: During the forward pass, a layer that does not see each row once: the output layer, experts.
    """
    seen: set[str] = set()
    n_rows = [0]

    def watch(name: str) -> Callable[[Any, tuple[Tensor, ...], Tensor], None]:
        def forward(_module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x = inputs[0].detach()
            if x.dim() != 3 or len(x) != n_rows[0] or name in seen:
                raise ModelError(
                    f"{name}: per-example gradients need a layer that sees (rows, positions, width) once per pass, got "
                    f"{tuple(x.shape)} for {n_rows[0]} rows; take it out of `targets`"
                )
            seen.add(name)

            def backward(delta: Tensor) -> None:
                consume(name, _row_products(delta, x, lengths))

            output.register_hook(backward)  # type: ignore[no-untyped-call]

        return forward

    def differentiable(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
        seen.clear()
        n_rows[0] = len(output)
        return output.detach().requires_grad_(True)

    hooks = [model.get_input_embeddings().register_forward_hook(differentiable)]
    for name, module in model.named_modules():
        if name.endswith((".lora_A.default", ".lora_B.default")):
            hooks.append(module.register_forward_hook(watch(canonical_name(f"{name}.weight"))))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _row_products(delta: Tensor, x: Tensor, lengths: Sequence[int]) -> Tensor:
    """(n_rows, n_out, n_in) float32: δᵀx of every row of a padded batch, or of packed rows of these lengths."""
    delta, x = delta.float(), x.float()
    if not lengths:
        return torch.bmm(delta.transpose(1, 2), x)
    products = x.new_empty(len(lengths), delta.shape[2], x.shape[2])
    parts = (torch.split(packed[0, : sum(lengths)], list(lengths)) for packed in (delta, x))
    for product, of_delta, of_x in zip(products, *parts, strict=True):
        torch.mm(of_delta.T, of_x, out=product)
    return products


APART: Final = "g2is_rows_apart"
"""The attention in which each packed row attends by itself, instead of under a mask over all rows: its work grows with
the sum of squared lengths, not with the square of their sum."""


@contextmanager
def attending(model: Any, way: str | None) -> Iterator[None]:
    """While open, the model has this attention; None leaves it its own."""
    usual = model.config._attn_implementation
    try:
        if way:
            model.set_attn_implementation(way)
        yield
    finally:
        if way:
            model.set_attn_implementation(usual)


def way_to_pack(model: Any, batch: Mapping[str, Tensor], ways: Sequence[str], tolerance: float) -> str | None:
    """The first of these attentions with which `row_losses(packed=True)` holds for the model, found by trying; or None.

    It does if losses are those of the padded batch, within a tolerance in nats for rounding, and the last row's are the
    same bits beside other tokens in the first. The batch has at least two rows, with the longest one that will come,
    for an attention window.
    """
    other = batch["input_ids"].clone()
    other[0] = other[0].flip(0)
    with torch.no_grad():
        padded = row_losses(model, batch)
        for way in ways:
            try:
                with attending(model, way):
                    packed = row_losses(model, batch, packed=True)
                    beside = row_losses(model, {**batch, "input_ids": other}, packed=True)
            except (RuntimeError, ValueError, TypeError):  # a model that wants a mask, or no attention but its own
                continue
            same = torch.allclose(packed, padded, rtol=0.0, atol=tolerance)
            if same and torch.equal(packed[-1], beside[-1]):
                return way
    return None


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
    Query, key and value are (1, heads, n_positions, head_dim); a row begins where a position id is 0. The result is
    (1, n_positions, n_heads, head_dim), without weights.

    Raises:
        ValueError: The attention is not plain for these rows, or they are not packed.
    """
    if len(query) != 1:
        raise ValueError("rows that attend each by itself are packed into one sequence")
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


def candidate_log_likelihoods(
    model: Any,
    cache: DynamicCache,
    mask: Tensor,
    candidates: Sequence[tuple[int, int, Example]],
    pad_token_id: int,
    batch_tokens: int,
    progress: Callable[[int], None] = lambda n_rows: None,
) -> list[float]:
    """Log-likelihood of every candidate's response, summed over its tokens, in nats, in the order given.

    The candidates go on from the prompts in the cache, keys and values of a batch of rows with an attention mask
    (n_rows, n_positions), padded on either side; it is left as it was. Each has the number of a row, and how many
    tokens its prompt begins with as that row does. The result is that of whole rows up to rounding. `batch_tokens`
    counts as if padded to the longest candidate, the prompt for each; where long prompts with short responses meet the
    opposite, padding may double them.
    """
    totals = [0.0] * len(candidates)
    for chosen in plan_batches([row.n_tokens for *_, row in candidates], batch_tokens):
        numbers, shared, rows = zip(*(candidates[i] for i in chosen), strict=True)
        with torch.no_grad():
            places = torch.tensor(numbers, device=mask.device)
            losses = _losses(model, cache, mask, places, shared, rows, pad_token_id)
        for i, row, loss in zip(chosen, rows, losses.tolist(), strict=True):
            totals[i] = -loss * row.n_loss
        progress(len(chosen))
    return totals


def _losses(
    model: Any,
    cache: DynamicCache,
    mask: Tensor,
    numbers: Tensor,
    shared: Sequence[int],
    rows: Sequence[Example],
    pad_token_id: int,
) -> Tensor:
    """(n,) float32 losses of rows whose shared tokens, but for the last, are taken from the cache."""
    device = mask.device
    cached = [max(n_shared - 1, 0) for n_shared in shared]
    n_cached = torch.tensor(cached, device=device).unsqueeze(1)
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
    tails = [row.input_ids[n:] for n, row in zip(cached, rows, strict=True)]
    labels = [row.labels[n:] for n, row in zip(cached, rows, strict=True)]
    width = max(map(len, tails))
    batch = {
        "input_ids": [tail + [pad_token_id] * (width - len(tail)) for tail in tails],
        "attention_mask": [[1] * len(tail) + [0] * (width - len(tail)) for tail in tails],
        "labels": [own + [IGNORED] * (width - len(own)) for own in labels],
    }
    tensors = {name: torch.tensor(values, device=device) for name, values in batch.items()}
    tensors["attention_mask"] = torch.cat([(place >= 0).long(), tensors["attention_mask"]], dim=1)
    return row_losses(model, tensors, cache=prompts)
