"""What gradients cost and how faithful the sketch is: measured on the work itself."""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from g2is_assets.training.loss import row_losses


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
    norms = products.diagonal().sqrt()
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

    Args:
        costs: Of all batches.
        elapsed_s: From the first batch asked for to the last shard written, the worker's start included.
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
