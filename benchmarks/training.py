"""Plain LoRA training, padded and packed, in float32 and in bfloat16: tokens per second, side by side.

    python benchmarks/training.py --rows 80

Needs benchmarks/data/pool.parquet (see benchmarks/README.md) or another pool by --pool. Batches of four rows in random
order, as in finetuning; the four ways alternate batch by batch in one process, without an optimizer. What the machine
can do is measured in the same process: products of the model's size, in both types.
"""

import argparse
import time
from pathlib import Path

import torch
from gradient_store import draw
from report import Report

from g2is_assets.settings.config import EMBEDDED_MODEL, FinetuneSettings
from g2is_assets.training.lora import add_lora, convert_frozen
from g2is_assets.training.loss import APART, row_losses
from g2is_assets.training.model import find_model
from g2is_assets.training.text import collator

HERE = Path(__file__).parent
WAYS = [(packed, dtype) for dtype in (torch.float32, torch.bfloat16) for packed in (False, True)]


def main() -> None:
    """Measure all ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=HERE / "data" / "pool.parquet")
    parser.add_argument("--rows", type=int, default=80)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    source, settings = find_model(EMBEDDED_MODEL), FinetuneSettings()
    model = add_lora(source.load("cpu"), settings, source.name).train()
    mixed = add_lora(source.load("cpu"), settings, source.name).train()
    convert_frozen(mixed)
    models = {torch.float32: model, torch.bfloat16: mixed}
    collate, rows = collator(source.tokenizer()), draw(source, arguments.pool, arguments.rows)
    batches = [
        collate([row.features() for row in rows[i : i + settings.batch_size]])
        for i in range(0, len(rows), settings.batch_size)
    ]
    for way in WAYS:  # nobody's start-up counts
        step(models[way[1]], batches[0], *way)
    found = [[step(models[way[1]], batch, *way) for way in WAYS] for batch in batches]

    head = model.get_output_embeddings().weight.numel()
    body = sum(p.numel() for p in model.parameters()) - head  # the embeddings are the head's own weights
    n_tokens, n_responses = sum(row.n_tokens for row in rows), sum(row.n_loss for row in rows)
    n_padded = sum(batch["input_ids"].numel() for batch in batches)
    # Forward, and backward through the activations: two operations for each weight, twice.
    needed = 4 * (body * n_tokens + head * n_responses)
    plain = sum(batch[0][0] for batch in found)
    table = []
    for number, (packed, dtype) in enumerate(WAYS):
        seconds = sum(batch[number][0] for batch in found)
        off = max((batch[number][1] - batch[0][1]).abs().max().item() for batch in found)
        share = needed / seconds / peak(dtype, model.config.hidden_size, model.config.intermediate_size)
        name = f"{'packed' if packed else 'padded'}, {str(dtype).removeprefix('torch.')}"
        table.append((name, f"{n_tokens / seconds:.0f}", f"{plain / seconds:.2f}", f"{share:.0%}", f"{off:.1g}"))
    Report("Plain training, padded and packed", arguments.out).table(
        f"{len(rows)} rows, {n_tokens} tokens, {n_padded} with padding, in batches of {settings.batch_size}",
        ("way", "tokens/s", "times the first", "of the machine's products", "largest difference of a row's loss"),
        table,
        "Tokens/s count real tokens. The share is that of the rate at which the machine multiplies matrices of the "
        "model's size in the same type, if nothing but the needed products took time.",
    )


def step(model: torch.nn.Module, batch: dict[str, torch.Tensor], packed: bool, dtype: torch.dtype) -> tuple:
    """Seconds of forward and backward, and the rows' losses."""
    model.set_attn_implementation(APART if packed else "sdpa")
    begun = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        losses = row_losses(model, batch, packed=packed)
    losses.mean().backward()
    return time.perf_counter() - begun, losses.detach()


def peak(dtype: torch.dtype, width: int, inner: int, repeats: int = 50) -> float:
    """Floating-point operations per second of products of 512 tokens with one of the model's larger matrices."""
    tokens, weights = torch.randn(512, width, dtype=dtype), torch.randn(inner, width, dtype=dtype)
    torch.nn.functional.linear(tokens, weights)
    begun = time.perf_counter()
    for _ in range(repeats):
        torch.nn.functional.linear(tokens, weights)
    return 2 * 512 * width * inner * repeats / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
