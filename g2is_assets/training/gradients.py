"""Per-example LoRA gradients of a batch, mixed with Adam's moments and sketched as they appear; and what they cost.

Each parameter's part is consumed at once, so the (n_rows, n_parameters) array never exists.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from g2is_assets.core.projection import Sketch
from g2is_assets.settings.config import GradientsSettings
from g2is_assets.training.engine import flops, peak_flops, speed
from g2is_assets.training.lora import keep_first_layers, load_adapter, lora_parameters
from g2is_assets.training.loss import APART, attending, per_example_gradients, row_losses, way_to_pack
from g2is_assets.training.model import ModelSource, pick_compute
from g2is_assets.training.text import Example, collator
from g2is_assets.training.usable import HALF_TOLERANCE, ROWS, TOLERANCE
from g2is_assets.training.warmup import MOMENTS_FILE, load_moments


@dataclass
class BatchCost:
    """Seconds of one batch, by what they were spent on.

    Attributes:
        n_rows: Rows of the batch.
        n_tokens: Their tokens, padding not counted.
        total_s: Everything; what is neither mix nor sketch is forward and backward.
        mix_s: Adam's direction.
        sketch_s: Projection.
        packed_rows: Rows that passed without padding: all of the batch, or none.
        n_flop: Operations needed (`engine.flops`).
        peak_s: What they would take at the rate of a bare product.
    """

    n_rows: int = 0
    n_tokens: int = 0
    total_s: float = 0.0
    mix_s: float = 0.0
    sketch_s: float = 0.0
    packed_rows: int = 0
    n_flop: float = 0.0
    peak_s: float = 0.0

    @contextmanager
    def clock(self, part: str) -> Iterator[None]:
        """Add the time of a block to `<part>_s`. On a GPU work is queued, so there the shares are only indicative."""
        begun = time.perf_counter()
        yield
        setattr(self, f"{part}_s", getattr(self, f"{part}_s") + time.perf_counter() - begun)


@dataclass(frozen=True)
class BatchGradients:
    """Sketched gradients of one batch.

    Attributes:
        features: Per kind, (n_rows, sketch_dim) float32, not normalised.
        losses: (n_rows,) float32, mean response NLL in nats.
        cost: Seconds.
    """

    features: dict[str, Tensor]
    losses: Tensor
    cost: BatchCost


INDEPENDENT: Final = {"float32": 0.99999, "bfloat16": 0.9}
"""Smallest cosine between a row's features beside other rows and alone that rounding explains, by number format: in
bfloat16 products of other shapes round otherwise, by which rows of SmolLM2-135M were measured to move to 0.99 and, from
those of float32, to 0.95."""


class GradientWorker:
    """Computes sketched gradients of batches at one checkpoint; loads its model once."""

    def __init__(
        self,
        source: ModelSource,
        checkpoint: Path,
        kinds: Sequence[str],
        settings: GradientsSettings,
        device: str = "auto",
        depth: float = 1.0,
    ) -> None:
        """Load the base model, and adapter and moments from the folder that `train_warmup` wrote.

        All kinds come from one backward pass. Where passes compute in bfloat16, the frozen weights are held in it; LoRA
        weights, losses, gradients, mix and sketch are float32 always. On a CPU a batch's rows pass as one sequence
        without padding, where the model keeps them apart. A GPU has them padded, which batches of similar lengths
        hardly are: there the products row by row would cost more. Below 1 `depth` is the share of the layers, the
        first ones, that are passed; what they put out is read by the model's last norm and head.
        """
        self.kinds = tuple(kinds)
        self.compute = pick_compute(settings.compute, device)
        halved = self.compute == "bfloat16"
        self.model = load_adapter(source.load(device, halved=halved), checkpoint / "adapter")
        self.model.requires_grad_(False)
        self.device = next(self.model.parameters()).device
        self.autocast = partial(torch.autocast, self.device.type, dtype=torch.bfloat16, enabled=halved)
        moments = load_moments(checkpoint / MOMENTS_FILE, self.model)
        parameters = lora_parameters(self.model)
        self.sketch = Sketch(
            {n: p.numel() for n, p in parameters.items()}, settings.sketch_dim, settings.nnz, settings.seed
        )
        self.sketch.to(self.device)
        # The terms of Adam's direction that are the same for every row, flattened.
        self.momentum = {n: (moments.beta1 * m).flatten().to(self.device) for n, m in moments.exp_avg.items()}
        self.squared = {
            n: (moments.beta2 * v + moments.epsilon).flatten().to(self.device) for n, v in moments.exp_avg_sq.items()
        }
        self.one_minus_beta1, self.one_minus_beta2 = 1 - moments.beta1, 1 - moments.beta2
        if depth < 1:
            keep_first_layers(self.model, depth)
        self.collate = collator(source.tokenizer())
        self.packs = self.device.type == "cpu" and self._keeps_rows_apart(HALF_TOLERANCE if halved else TOLERANCE)
        # Rows longer than an attention's window are left to the model's own attention, and padded.
        self.longest_packed = getattr(self.model.config.get_text_config(), "sliding_window", None) or math.inf
        self.per_token, self.per_loss = (flops(self.model, *counts) for counts in ((1, 0), (0, 1)))
        self.peak = peak_flops(str(self.device), self.compute)

    def _keeps_rows_apart(self, tolerance: float) -> bool:
        n_ids = self.model.get_input_embeddings().weight.shape[0]
        rows = [Example("", [token % n_ids for token in row], 0).features() for row in ROWS]
        with self.autocast():
            return way_to_pack(self.model, self.collate(rows), [APART], tolerance) is not None

    def __call__(self, examples: Sequence[Example]) -> BatchGradients:
        """Features and losses of one batch, in the order given, with what they cost."""
        lengths = [example.n_tokens for example in examples]
        packed = self.packs and max(lengths) <= self.longest_packed
        cost = BatchCost(len(examples), sum(lengths), packed_rows=packed * len(examples))
        cost.n_flop = self.per_token * cost.n_tokens + self.per_loss * sum(example.n_loss for example in examples)
        cost.peak_s = cost.n_flop / self.peak
        with cost.clock("total"):
            batch = {key: t.to(self.device) for key, t in self.collate([e.features() for e in examples]).items()}
            sums = {kind: self.sketch.zeros(len(examples)).to(self.device) for kind in self.kinds}

            def consume(name: str, gradient: Tensor) -> None:
                with cost.clock("mix"):
                    directions = self.directions(name, gradient.flatten(start_dim=1))
                with cost.clock("sketch"):
                    for kind, direction in directions.items():
                        self.sketch.add(sums[kind], name, direction)

            with per_example_gradients(self.model, consume, lengths if packed else ()):
                with self.autocast(), attending(self.model, APART if packed else None):
                    losses = row_losses(self.model, batch, packed=packed)
                losses.sum().backward()  # type: ignore[no-untyped-call]
            features = {kind: total.cpu() for kind, total in sums.items()}
        return BatchGradients(features, losses.detach().cpu(), cost)

    def directions(self, name: str, gradient: Tensor) -> dict[str, Tensor]:
        """One parameter's part of every wanted kind, (n_rows, size) float32, from the rows' gradients g of that size.

        Adam's is Γ = (β1·m + (1 − β1)·g) / sqrt(β2·v + (1 − β2)·g² + ε), without bias correction and with ε inside the
        root (LESS, Xia et al. 2024); without momentum, the first term is left out.
        """
        if self.kinds == ("sgd",):
            return {"sgd": gradient}
        # The root is shared by both Adam kinds, and what is the same for every row was computed once.
        scale = torch.addcmul(self.squared[name], gradient, gradient, value=self.one_minus_beta2).rsqrt_()
        fresh = (gradient * scale).mul_(self.one_minus_beta1)
        every = {"sgd": gradient, "adam_without_momentum": fresh, "adam": scale.mul_(self.momentum[name]).add_(fresh)}
        return {kind: every[kind] for kind in self.kinds}


def smallest_cosine(worker: GradientWorker, rows: Sequence[Example]) -> float:
    """Of every row's features beside the other rows with those alone, over rows and kinds: 1 but for rounding."""
    together, alone = worker(rows).features, [worker([row]).features for row in rows]
    cosines = (
        torch.cosine_similarity(together[kind].double(), torch.cat([each[kind] for each in alone]).double())
        for kind in worker.kinds
    )
    return min(float(each.min()) for each in cosines)


def summarise(costs: Sequence[BatchCost], elapsed_s: float) -> dict[str, float]:
    """Rates and shares of a materialisation; 0 where nothing was computed.

    `elapsed_s` is from the first batch asked for to the last shard written, the worker's start included.
    """
    total, n_rows = sum(cost.total_s for cost in costs), sum(cost.n_rows for cost in costs)

    def share(part: float, whole: float) -> float:
        return part / whole if whole else 0.0

    return {
        "rows_per_s": share(n_rows, elapsed_s),
        "mix_share": share(sum(cost.mix_s for cost in costs), total),
        "sketch_share": share(sum(cost.sketch_s for cost in costs), total),
        "packed_share": share(sum(cost.packed_rows for cost in costs), n_rows),
        "start_and_io_s": max(0.0, elapsed_s - total),
        "n_flop": float(sum(cost.n_flop for cost in costs)),
        **speed(
            "gradients",
            sum(cost.n_tokens for cost in costs),
            elapsed_s,
            share(sum(cost.peak_s for cost in costs), total),
        ),
    }
