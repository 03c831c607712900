"""Products of pairs of blocks of rows, boiled down to what the instruction graph keeps of them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from g2is_assets.core.rows import FeatureSource
from g2is_assets.core.vectors import unit_rows

BLOCK_ROWS: Final = 2048
"""Rows of a block: 64 MB of float32 at 8,192 columns, and large enough that products run at the processor's peak."""

MapBlocks = Callable[[Callable[[], Callable[[tuple[int, int]], "Block"]], Iterable[tuple[int, int]]], Iterator["Block"]]
"""How pairs of blocks are worked off, such as `Engine.map`; results come in the order of the pairs."""


@dataclass(frozen=True)
class Side:
    """What one pair of blocks tells the rows of one of them: candidates for their lists, and counts."""

    near: NDArray[np.int64]
    near_cosines: NDArray[np.float32]
    far: NDArray[np.int64]
    far_cosines: NDArray[np.float32]
    n_negative: NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """What one pair of blocks tells: the rows of the first, those of the second (None on the diagonal), duplicates."""

    first: Side
    second: Side | None
    duplicates: NDArray[np.int64]


@dataclass
class BlockWorker:
    """Multiplies pairs of blocks; holds two blocks of unit rows and their product.

    Attributes:
        source: The features.
        order: (n,) int64, rows in the order in which they are cut into blocks.
        n_neighbors, n_conflicts: Most candidates per row.
        duplicate_cosine: Cosine from which two rows count as near-duplicates.
        block_rows: Rows of a block.
        whole: (n,) bool, rows that need all their edges.
        is_new: (n,) bool, rows that the others have not met.
    """

    source: FeatureSource
    order: NDArray[np.int64]
    n_neighbors: int
    n_conflicts: int
    duplicate_cosine: float
    block_rows: int
    whole: NDArray[np.bool_]
    is_new: NDArray[np.bool_]

    def __post_init__(self) -> None:
        self.held: tuple[int, Tensor] | None = None

    def __call__(self, pair: tuple[int, int]) -> Block:
        """Candidates and counts of one pair of blocks."""
        first, second = pair
        if self.held is None or self.held[0] != first:
            self.held = (first, self.load(first))
        rows = self.held[1]
        columns = rows if first == second else self.load(second)
        cosines = rows @ columns.T
        here, there = self.numbers(first), self.numbers(second)
        duplicate = torch.nonzero(cosines >= self.duplicate_cosine).numpy()
        pairs = np.sort(np.stack([here[duplicate[:, 0]], there[duplicate[:, 1]]], axis=1), axis=1)
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
        return Block(
            self.side(cosines, here, there),
            None if first == second else self.side(cosines.T.contiguous(), there, here),
            np.unique(pairs, axis=0),
        )

    def side(self, cosines: Tensor, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Side:
        """What `cosines` (len(rows), len(columns)) tells `rows`."""
        news = torch.from_numpy(self.whole[rows][:, None] | self.is_new[columns][None, :])
        news &= torch.from_numpy(rows[:, None] != columns[None, :])
        largest = torch.topk(torch.where(news, cosines, -torch.inf), min(self.n_neighbors, len(columns)), dim=1)
        smallest = torch.topk(
            torch.where(news, cosines, torch.inf), min(self.n_conflicts, len(columns)), dim=1, largest=False
        )
        return Side(
            near=columns[largest.indices.numpy()],
            near_cosines=largest.values.numpy(),
            far=columns[smallest.indices.numpy()],
            far_cosines=smallest.values.numpy(),
            n_negative=((cosines < 0) & news).sum(dim=1).numpy(),
        )

    def numbers(self, block: int) -> NDArray[np.int64]:
        """The rows of a block."""
        return self.order[block * self.block_rows : (block + 1) * self.block_rows]

    def load(self, block: int) -> Tensor:
        """(rows, d) float32 unit rows of a block."""
        return torch.from_numpy(unit_rows(self.source.rows(self.numbers(block))))


def map_in_process(
    make_worker: Callable[[], Callable[[tuple[int, int]], Block]], pairs: Iterable[tuple[int, int]]
) -> Iterator[Block]:
    """Work off the pairs one after the other."""
    worker = make_worker()
    return map(worker, pairs)
