"""The sketch: one seeded sparse projection of LoRA gradients, defined parameter by parameter."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

TABLE_BYTES: Final = 256 * 2**20
"""Most memory that tables of signs may take; a larger projection unpacks its bits at each use."""


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
        """Draw signs and starts for parameters of these sizes, by name, with `nnz` independent repetitions."""
        self.sketch_dim = sketch_dim
        tabled = 4 * nnz * sum(sizes.values()) <= TABLE_BYTES
        self._draws = {
            name: [_Draw.make(size, sketch_dim, nnz, f"{seed}/{name}/{n}", tabled) for n in range(nnz)]
            for name, size in sizes.items()
        }

    def zeros(self, n_rows: int) -> Tensor:
        """(n_rows, sketch_dim) float32 zeros to add into."""
        return torch.zeros(n_rows, self.sketch_dim)

    def add(self, into: Tensor, name: str, values: Tensor) -> None:
        """Add to (n_rows, sketch_dim) float32 the projection of a parameter's part (n_rows, its size) of every row."""
        k = self.sketch_dim
        for draw in self._draws[name]:
            signed = values * draw.signs()
            for block, start in enumerate(draw.starts):
                part = signed[:, block * k : (block + 1) * k]
                fits = min(part.shape[1], k - start)
                into[:, start : start + fits] += part[:, :fits]
                if fits < part.shape[1]:
                    into[:, : part.shape[1] - fits] += part[:, fits:]

    def to(self, device: torch.device) -> "Sketch":
        """Move the signs to a device; `zeros` then has to be moved by the caller."""
        self._draws = {name: [draw.to(device) for draw in draws] for name, draws in self._draws.items()}
        return self


@dataclass(frozen=True)
class _Draw:
    """What was drawn for one parameter: a start bucket per run of sketch_dim entries, and a sign per entry.

    Signs are kept as float32 where all tables fit in TABLE_BYTES, else as bits that are unpacked at each use.
    """

    size: int
    scale: float
    starts: list[int]
    bits: Tensor
    table: Tensor | None

    @classmethod
    def make(cls, size: int, k: int, nnz: int, label: str, tabled: bool) -> "_Draw":
        n_blocks, n_sign_bytes = -(-size // k), -(-size // 8)
        # 8 bytes per start: modulo bias below 2^-50 for any sketch_dim in use.
        stream = hashlib.shake_256(label.encode()).digest(n_sign_bytes + 8 * n_blocks)
        starts = np.frombuffer(stream, "<u8", n_blocks, offset=n_sign_bytes) % np.uint64(k)
        bits = torch.from_numpy(np.frombuffer(stream, np.uint8, n_sign_bytes).copy())
        draw = cls(size, nnz**-0.5, [int(start) for start in starts], bits, None)
        return replace(draw, table=draw.signs()) if tabled else draw

    def signs(self) -> Tensor:
        """(size,) float32, ±1/sqrt(nnz)."""
        if self.table is not None:
            return self.table
        shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=self.bits.device)
        ones = (self.bits[:, None] >> shifts & 1).flatten()[: self.size]
        return ones.float().mul_(2).sub_(1).mul_(self.scale)

    def to(self, device: torch.device) -> "_Draw":
        return replace(self, bits=self.bits.to(device), table=None if self.table is None else self.table.to(device))
