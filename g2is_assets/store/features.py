"""Stored vectors as graph and walk read them: a source of blocks that never holds more than a shard.

Shards are read from memory-mapped copies of their codes: at memory speed, where decoding Parquet runs at a tenth of it.
A copy is named by the digest of what it is a copy of, so a stale one is never read; any may be deleted, and is made
again.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts.gradients import VECTORS
from g2is_assets.core.codes import from_bytes
from g2is_assets.core.features import BLOCK_ROWS
from g2is_assets.errors import StoreError
from g2is_assets.hashing import known_sha256
from g2is_assets.store.files import read_parquet, replacing
from g2is_assets.store.tombstones import expected_files
from g2is_assets.store.version import Version

MAPPED: Final = "mapped"
"""Folder beside the shards with copies named `<digest>.<kind>.npy`."""


class StoredFeatures:
    """The codes of one kind of the rows of an index, in its order, read from the shards' mapped copies.

    A `core.rows.FeatureSource`. Shards are mapped one at a time, so memory stays that of one block.
    """

    weights = (1.0,)

    def __init__(
        self, shards: Mapping[str, Version], index: pl.DataFrame, kind: str, mean: NDArray[np.floating] | None = None
    ) -> None:
        """Find the rows' shards.

        Args:
            shards: By name: the parts of the version whose index this is.
            index: Table of the contract `INDEX`.
            kind: Feature kind.
            mean: (d,) taken from every unit row; None takes none.

        Raises:
            StoreError: The index is empty, or its first shard is missing or damaged.
        """
        if not len(index):
            raise StoreError("no row has gradients")
        self.kind, self.mean = kind, mean
        names, self.shard = np.unique(index["shard"].to_numpy(), return_inverse=True)
        self.position = index["position"].to_numpy()
        self.shards = [shards[str(name)] for name in names]
        self.shape: tuple[int, int] = (len(index), self._open(0).shape[1])

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int8]]]:
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

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.int8]:
        """(len(numbers), d) codes of single rows.

        Raises:
            StoreError: A shard is missing or damaged.
        """
        shards = np.unique(self.shard[numbers])
        if len(shards) == 1:  # one copy less
            return self._open(int(shards[0]))[self.position[numbers]]
        out = np.empty((len(numbers), self.shape[1]), dtype=np.int8)
        for number in shards:
            here = np.flatnonzero(self.shard[numbers] == number)
            out[here] = self._open(int(number))[self.position[numbers[here]]]
        return out

    def array(self) -> NDArray[np.int8]:
        """(n, d) codes, all rows in memory."""
        out = np.empty(self.shape, dtype=np.int8)
        for numbers, values in self.blocks():
            out[numbers] = values
        return out

    def _open(self, number: int) -> NDArray[np.int8]:
        return mapped_vectors(self.shards[number], self.kind)


def mapped_vectors(shard: Version, kind: str) -> NDArray[np.int8]:
    """The codes of one kind of a shard, (n_rows, sketch_dim) int8, as a read-only memory map.

    Raises:
        StoreError: The shard is missing or differs from its digest, which is checked when the copy is made.
    """
    copy = shard.folder.parent / MAPPED / f"{_digest(shard)}.{kind}.npy"
    try:
        return np.load(copy, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        pass  # not there yet, or cut off: made below
    vectors, path = vectors_in(shard, kind), shard.folder / VECTORS.file
    if known_sha256(path) != _digest(shard):
        raise StoreError(f"{path} is damaged: its digest differs from its record; materialise the gradients again")
    with replacing(copy) as scratch:
        copy.parent.mkdir(exist_ok=True)
        with scratch.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
    return np.load(copy, mmap_mode="r", allow_pickle=False)


def vectors_in(shard: Version, kind: str) -> NDArray[np.int8]:
    """The same from the shard itself.

    Raises:
        StoreError: The shard is missing or damaged.
    """
    stored = read_parquet(shard.folder / VECTORS.file, columns=[f"codes_{kind}"]).to_series().to_list()
    if len({len(row) for row in stored}) > 1:
        raise StoreError(f"{shard.folder} is damaged: its vectors differ in length; materialise the gradients again")
    return from_bytes(stored, shard.manifest.settings["vectors"]["bits"])


def copies_of(shard: Version) -> dict[str, Path]:
    """The mapped copies of a shard as it is now, by kind; none of any other version."""
    if VECTORS.file not in shard.manifest.files:
        return {}
    copies = (shard.folder.parent / MAPPED).glob(f"{_digest(shard)}.*.npy")
    return {copy.name.split(".")[1]: copy for copy in sorted(copies)}


def _digest(shard: Version) -> str:
    return expected_files(shard.folder, shard.manifest)[VECTORS.file].sha256
