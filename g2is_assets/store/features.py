"""Stored vectors as graph and walk read them: a source of blocks that never holds more than a shard."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.core.rows import BLOCK_ROWS
from g2is_assets.errors import StoreError
from g2is_assets.store.mapped import mapped_vectors


class StoredFeatures:
    """The unit vectors of one kind of the rows of an index, in its order, read from the shards' mapped copies.

    A `core.rows.FeatureSource`. Shards are mapped one at a time, so memory stays that of one block.
    """

    def __init__(self, folder: Path, index: pl.DataFrame, kind: str) -> None:
        """Find the rows' shards.

        Args:
            folder: The store's folder.
            index: Table of the contract `INDEX`.
            kind: Feature kind.

        Raises:
            StoreError: The index is empty, or its first shard is missing or damaged.
        """
        if not len(index):
            raise StoreError(f"{folder}: no row has gradients")
        self.folder, self.kind = folder, kind
        names, self.shard = np.unique(index["shard"].to_numpy(), return_inverse=True)
        self.position = index["position"].to_numpy()
        first = dict(zip(index["shard"], index["sha256"], strict=True))
        self.shards = [(str(name), first[name]) for name in names]
        self.shape: tuple[int, int] = (len(index), self._open(0).shape[1])

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Rows shard by shard.

        Raises:
            StoreError: A shard is missing or damaged.
        """
        order = np.argsort(self.shard, kind="stable")
        bounds = np.searchsorted(self.shard[order], np.arange(len(self.shards) + 1))
        for number in range(len(self.shards)):
            where, values = order[bounds[number] : bounds[number + 1]], self._open(number)
            for start in range(0, len(where), BLOCK_ROWS):
                numbers = where[start : start + BLOCK_ROWS]
                yield numbers, values[self.position[numbers]]

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.float16]:
        """(len(numbers), d) float16 vectors of single rows.

        Raises:
            StoreError: A shard is missing or damaged.
        """
        out = np.empty((len(numbers), self.shape[1]), dtype=np.float16)
        for number in np.unique(self.shard[numbers]):
            here = np.flatnonzero(self.shard[numbers] == number)
            out[here] = self._open(int(number))[self.position[numbers[here]]]
        return out

    def array(self) -> NDArray[np.float16]:
        """(n, d) float16, all rows in memory."""
        out = np.empty(self.shape, dtype=np.float16)
        for numbers, values in self.blocks():
            out[numbers] = values
        return out

    def _open(self, number: int) -> NDArray[np.float16]:
        name, sha256 = self.shards[number]
        return mapped_vectors(self.folder, name, sha256, self.kind)
