"""The sketch: one seeded sparse projection of LoRA gradients, defined parameter by parameter."""

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


class Sketch:
    """Sparse Johnson-Lindenstrauss projection R^p -> R^sketch_dim with nnz non-zeros per column, ±1/sqrt(nnz).

    A CountSketch (Charikar, Chen, Farach-Colton 2002) whose buckets are drawn a block at a time: each run of
    `sketch_dim` consecutive entries of a parameter goes to consecutive buckets from a random start, cyclically, and
    every entry has its own random sign. Two entries meet with probability 1/sketch_dim (or, within a run, never) and
    signs are independent, so <Rx, Ry> is unbiased with a variance no larger than CountSketch's:
    (|x|²|y|² + <x, y>² - 2 Σ x_i² y_i²) / sketch_dim at nnz = 1, while every pass over memory is sequential.

    Signs and starts come from SHAKE-256 of (seed, parameter name, repetition): they depend on no library's generator,
    on no other parameter, and not on the order in which parameters arrive.
    """

    def __init__(self, sizes: Mapping[str, int], sketch_dim: int, nnz: int = 1, seed: int = 0) -> None:
        """Draw signs and starts.

        Args:
            sizes: Number of entries of each parameter, by name.
            sketch_dim: Number of buckets.
            nnz: Independent repetitions, each scaled by 1/sqrt(nnz).
            seed: Any integer; it is part of the projection's identity.
        """
        self.sketch_dim = sketch_dim
        self._draws = {
            name: [_draw(name, size, sketch_dim, nnz, seed, repetition) for repetition in range(nnz)]
            for name, size in sizes.items()
        }

    def zeros(self, n_rows: int) -> Tensor:
        """(n_rows, sketch_dim) float32 zeros to add into."""
        return torch.zeros(n_rows, self.sketch_dim)

    def add(self, into: Tensor, name: str, values: Tensor) -> None:
        """Add the projection of one parameter's part of every row.

        Args:
            into: (n_rows, sketch_dim) float32, changed in place.
            name: The parameter.
            values: (n_rows, size of the parameter) float32.
        """
        k = self.sketch_dim
        for signs, starts in self._draws[name]:
            signed = values * signs
            for block, start in enumerate(starts):
                part = signed[:, block * k : (block + 1) * k]
                fits = min(part.shape[1], k - start)
                into[:, start : start + fits] += part[:, :fits]
                if fits < part.shape[1]:
                    into[:, : part.shape[1] - fits] += part[:, fits:]

    def to(self, device: torch.device) -> "Sketch":
        """Move the signs to a device; `zeros` then has to be moved by the caller."""
        self._draws = {name: [(s.to(device), starts) for s, starts in draws] for name, draws in self._draws.items()}
        return self


def _draw(name: str, size: int, k: int, nnz: int, seed: int, repetition: int) -> tuple[Tensor, list[int]]:
    """Signs ±1/sqrt(nnz) (size,) and one start bucket per run of k entries."""
    n_blocks = -(-size // k)
    n_sign_bytes = -(-size // 8)
    # 8 bytes per start: modulo bias below 2^-50 for any sketch_dim in use.
    stream = hashlib.shake_256(f"{seed}/{name}/{repetition}".encode()).digest(n_sign_bytes + 8 * n_blocks)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8, n_sign_bytes), count=size)
    starts = np.frombuffer(stream, "<u8", n_blocks, offset=n_sign_bytes) % np.uint64(k)
    signs = torch.from_numpy(bits.astype(np.float32) * 2 - 1) / nnz**0.5
    return signs, [int(start) for start in starts]
