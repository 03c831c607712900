"""Per-example LoRA gradients of a padded batch, mixed with Adam's moments and sketched as they appear; and their cost.

Each parameter's part is consumed at once, so the (n_rows, n_parameters) array never exists.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from g2is_assets.core.projection import Sketch
from g2is_assets.settings.config import GradientsSettings
from g2is_assets.training.lora import load_adapter, lora_parameters
from g2is_assets.training.loss import per_example_gradients, row_losses
from g2is_assets.training.model import ModelSource, pick_compute
from g2is_assets.training.text import Example, collator
from g2is_assets.training.warmup import MOMENTS_FILE, load_moments

SAMPLED_CALLS: Final = frozenset({3, 12})
"""Batches of a worker on which distortion is measured; the floor is measured on the batch after each."""


@dataclass
class BatchCost:
    """Seconds of one batch, by what they were spent on, and two samples.

    Attributes:
        n_rows: Rows of the batch.
        n_tokens: Their tokens, padding not counted.
        total_s: Everything; what is neither mix nor sketch is forward and backward.
        mix_s: Adam's direction.
        sketch_s: Projection.
        floor_s: The same batch by plain training (forward, summed backward into the LoRA weights), where sampled.
        cosine_errors: Sketched minus exact cosine of every pair of rows and kind, where sampled.
    """

    n_rows: int = 0
    n_tokens: int = 0
    total_s: float = 0.0
    mix_s: float = 0.0
    sketch_s: float = 0.0
    floor_s: float | None = None
    cosine_errors: list[float] = field(default_factory=list)

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
        cost: Seconds, and samples of floor and distortion.
    """

    features: dict[str, Tensor]
    losses: Tensor
    cost: BatchCost


class GradientWorker:
    """Computes sketched gradients of batches at one checkpoint; loads its model once."""

    def __init__(
        self,
        source: ModelSource,
        checkpoint: Path,
        kinds: Sequence[str],
        settings: GradientsSettings,
        device: str = "auto",
    ) -> None:
        """Load the base model, and adapter and moments from the folder that `train_warmup` wrote.

        All kinds come from one backward pass. Whatever the passes compute in, weights, gradients, mix and sketch are
        float32.
        """
        self.kinds = tuple(kinds)
        self.model = load_adapter(source.load(device), checkpoint / "adapter")
        self.model.requires_grad_(False)
        self.device = next(self.model.parameters()).device
        self.autocast = partial(
            torch.autocast,
            self.device.type,
            dtype=torch.bfloat16,
            enabled=pick_compute(settings.compute, device) == "bfloat16",
        )
        moments = load_moments(checkpoint / MOMENTS_FILE, self.model)
        parameters = lora_parameters(self.model)
        self.sketch = Sketch(
            {n: p.numel() for n, p in parameters.items()}, settings.sketch_dim, settings.nnz, settings.seed
        )
        self.sketch.to(self.device)
        self.n_calls = 0
        # The terms of Adam's direction that are the same for every row, flattened.
        self.momentum = {n: (moments.beta1 * m).flatten().to(self.device) for n, m in moments.exp_avg.items()}
        self.squared = {
            n: (moments.beta2 * v + moments.epsilon).flatten().to(self.device) for n, v in moments.exp_avg_sq.items()
        }
        self.one_minus_beta1, self.one_minus_beta2 = 1 - moments.beta1, 1 - moments.beta2
        self.collate = collator(source.tokenizer())

    def __call__(self, examples: Sequence[Example]) -> BatchGradients:
        """Features and losses of one batch, in the order given, with what they cost."""
        self.n_calls += 1
        cost = BatchCost(len(examples), sum(example.n_tokens for example in examples))
        gram = Gram() if self.n_calls in SAMPLED_CALLS else None
        with cost.clock("total"):
            batch = {key: t.to(self.device) for key, t in self.collate([e.features() for e in examples]).items()}
            sums = {kind: self.sketch.zeros(len(examples)).to(self.device) for kind in self.kinds}

            def consume(name: str, gradient: Tensor) -> None:
                with cost.clock("mix"):
                    directions = self.directions(name, gradient.flatten(start_dim=1))
                with cost.clock("sketch"):
                    for kind, direction in directions.items():
                        self.sketch.add(sums[kind], name, direction)
                if gram:
                    for kind, direction in directions.items():
                        gram.add(kind, direction)

            with per_example_gradients(self.model, consume):
                with self.autocast():
                    losses = row_losses(self.model, batch)
                losses.sum().backward()  # type: ignore[no-untyped-call]
        if gram:
            cost.cosine_errors = gram.cosine_errors(sums)
        elif self.n_calls - 1 in SAMPLED_CALLS:  # not the batch that also paid for exact products
            parameters = list(lora_parameters(self.model).values())
            cost.floor_s = floor_seconds(self.model, batch, parameters, self.autocast)
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


class Gram:
    """Exact inner products of a batch's directions, summed parameter by parameter: no (n_rows, p) array is needed."""

    def __init__(self) -> None:
        self.products: dict[str, Tensor] = {}

    def add(self, kind: str, direction: Tensor) -> None:
        """Add one parameter's part, (n_rows, size) float32."""
        part = direction.double() @ direction.double().T
        self.products[kind] = self.products[kind] + part if kind in self.products else part

    def cosine_errors(self, sketched: Mapping[str, Tensor]) -> list[float]:
        """Cosine of the sketched rows minus the exact one, for every pair of rows and every kind."""
        errors = []
        for kind, exact in self.products.items():
            rows = sketched[kind].double()
            pair = torch.triu_indices(len(rows), len(rows), 1)
            difference = _cosines(rows @ rows.T) - _cosines(exact)
            errors += difference[pair[0], pair[1]].tolist()
        return errors


def _cosines(products: Tensor) -> Tensor:
    norms = products.diagonal().sqrt().clamp(min=torch.finfo(products.dtype).tiny)  # of a row without gradient
    return products / (norms[:, None] * norms[None, :])


def floor_seconds(
    model: Any,
    batch: Mapping[str, Tensor],
    parameters: Sequence[Tensor],
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> float:
    """Seconds that plain training takes for this batch: the physical lower limit for its gradients.

    Same padded batch, same layers, logits at response positions only, same number format (`autocast`); summed gradients
    of the LoRA weights, no optimizer. The model is left as it was.
    """
    for parameter in parameters:
        parameter.requires_grad_(True)
    begun = time.perf_counter()
    with autocast():
        losses = row_losses(model, batch)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - begun
    for parameter in parameters:
        parameter.requires_grad_(False)
        parameter.grad = None
    return seconds


def summarise(costs: Sequence[BatchCost], elapsed_s: float) -> dict[str, float]:
    """Rates, shares, distance to the floor, distortion and memory of a materialisation; 0 for what was not sampled.

    `elapsed_s` is from the first batch asked for to the last shard written, the worker's start included.
    """
    total = sum(cost.total_s for cost in costs)
    sampled = [cost for cost in costs if cost.floor_s is not None]
    errors = torch.tensor([error for cost in costs for error in cost.cosine_errors], dtype=torch.float64)

    def share(part: float, whole: float) -> float:
        return part / whole if whole else 0.0

    return {
        "rows_per_s": share(sum(cost.n_rows for cost in costs), elapsed_s),
        "tokens_per_s": share(sum(cost.n_tokens for cost in costs), elapsed_s),
        "mix_share": share(sum(cost.mix_s for cost in costs), total),
        "sketch_share": share(sum(cost.sketch_s for cost in costs), total),
        "speed_to_floor": share(sum(c.floor_s or 0.0 for c in sampled), sum(c.total_s for c in sampled)),
        "start_and_io_s": max(0.0, elapsed_s - total),
        "peak_memory_bytes": float(peak_memory_bytes()),
        "cosine_error_rms": float(errors.square().mean().sqrt()) if len(errors) else 0.0,
        "cosine_error_max": float(errors.abs().max()) if len(errors) else 0.0,
    }


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
