"""Unit rows of any number: in memory as float32 where they fit, else converted block by block at every use.

What graph and walk need of features is here: the one convention of unit rows, matrix-vector products over the rows
still of interest, and single rows in double precision. Where the features lie (an array, shards of a store) is behind
`FeatureSource`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

ZERO_NORM: Final = 1e-10
"""A norm up to this counts as zero: its row has cosine 0 with everything (as in the published code)."""


def unit_rows(vectors: ArrayLike) -> NDArray[np.float32]:
    """Rows divided by their Euclidean norm; rows of norm <= 1e-10 become zero.

    Args:
        vectors: (n, d) of any float type; converted to float32 first.

    Returns:
        (n, d) float32, C-contiguous, every row of norm 1 or 0.

    Raises:
        ValueError: An entry is not finite, or so large that a norm overflows float32.
    """
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        bad = int((~np.isfinite(norms)).argmax())
        raise ValueError(f"row {bad} is not finite or overflows float32")
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > ZERO_NORM)


BLOCK_ROWS: Final = 1024
"""Rows converted at a time: 32 MB of float32 at 8,192 columns."""


@runtime_checkable
class FeatureSource(Protocol):
    """Features that may be larger than memory; any order of blocks, each row exactly once."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        ...

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.floating]]]:
        """Row numbers and their (len, d) values, block by block."""
        ...

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.floating]:
        """(len(numbers), d) values of single rows."""
        ...


class ArrayFeatures:
    """An (n, d) array of any float type as a source."""

    def __init__(self, features: ArrayLike) -> None:
        self.values = np.asarray(features)
        if self.values.ndim != 2:
            raise ValueError(f"features {self.values.shape} do not fit: (n, d) is needed")
        self.shape: tuple[int, int] = (self.values.shape[0], self.values.shape[1])

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.floating]]]:
        """Consecutive rows."""
        for start in range(0, self.shape[0], BLOCK_ROWS):
            numbers = np.arange(start, min(start + BLOCK_ROWS, self.shape[0]))
            yield numbers, self.values[start : start + BLOCK_ROWS]

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.floating]:
        """Those rows."""
        return self.values[numbers]


class _ChangedFeatures(ABC):
    """A source whose rows are changed whenever they are read, without a copy."""

    def __init__(self, source: FeatureSource, n_columns: int) -> None:
        self.source, self.shape = source, (source.shape[0], n_columns)

    @abstractmethod
    def change(self, numbers: NDArray[np.int64], values: NDArray[np.floating]) -> NDArray[np.floating]:
        """What becomes of the values (len(numbers), d) of some rows."""

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.floating]]]:
        """The source's blocks, changed."""
        for numbers, values in self.source.blocks():
            yield numbers, self.change(numbers, values)

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.floating]:
        """Those rows, changed."""
        return self.change(numbers, self.source.rows(numbers))


class CentredFeatures(_ChangedFeatures):
    """A source with a fixed vector (d,), in the units of its unit rows, taken from each of these: mean removal."""

    def __init__(self, source: FeatureSource, mean: NDArray[np.floating]) -> None:
        super().__init__(source, source.shape[1])
        self.mean = np.asarray(mean, dtype=np.float32)

    def change(self, numbers: NDArray[np.int64], values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Normalised, less the mean."""
        return _unit_block(numbers, values) - self.mean


class ChosenFeatures:
    """Some rows of a source, under their own numbers 0, 1, ... in the order given."""

    def __init__(self, source: FeatureSource, chosen: NDArray[np.int64]) -> None:
        """Wrap `source`; `chosen` are distinct row numbers."""
        self.source, self.chosen = source, chosen
        self.shape: tuple[int, int] = (len(chosen), source.shape[1])
        self.place = np.full(source.shape[0], -1)
        self.place[chosen] = np.arange(len(chosen))

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.floating]]]:
        """The source's blocks without the other rows."""
        for numbers, values in self.source.blocks():
            own = self.place[numbers]
            yield own[own >= 0], values[own >= 0]

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.floating]:
        """Those rows."""
        return self.source.rows(self.chosen[numbers])


class FoldedFeatures(_ChangedFeatures):
    """A source in fewer dimensions: entries that are `sketch_dim` apart are added.

    Of a `Sketch` this is a sketch again: each entry of a gradient keeps its random sign, so dot products stay
    unbiased; 1 in `sketch_dim` pairs of entries meet, though within a run of the wider sketch always the same ones.
    """

    def __init__(self, source: FeatureSource, sketch_dim: int) -> None:
        """Wrap `source`.

        Raises:
            ValueError: `sketch_dim` does not divide its number of columns.
        """
        if source.shape[1] % sketch_dim:
            raise ValueError(f"features of {source.shape[1]} columns cannot be folded to {sketch_dim}")
        super().__init__(source, sketch_dim)

    def change(self, numbers: NDArray[np.int64], values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Entries added."""
        return values.astype(np.float32).reshape(len(values), -1, self.shape[1]).sum(axis=1)


def as_source(features: ArrayLike | FeatureSource) -> FeatureSource:
    """Arrays become sources; sources stay what they are."""
    return features if isinstance(features, FeatureSource) else ArrayFeatures(features)


class UnitRows:
    """Unit rows with a set of active ones, which only shrinks until it is reset.

    In memory, rows that drop out are moved behind the active ones, so that products read only what is active and no
    second copy exists. Streamed, every product converts all rows again, until the active ones fit.
    """

    def __init__(self, source: FeatureSource, memory_bytes: int | None = None) -> None:
        """Convert the rows if they fit in `memory_bytes` (None: they do)."""
        self.source = source
        self.memory_bytes = memory_bytes
        self.n_rows, self.n_columns = source.shape
        self.index = np.arange(self.n_rows)
        self.matrix: NDArray[np.float32] | None = None
        self.order = self.index.copy()
        self.squared = np.empty(self.n_rows, dtype=np.float32)  # 1, or 0 for a zero row
        self.streamed = not self._fits(self.n_rows)
        if not self.streamed:
            self.matrix = np.empty(source.shape, dtype=np.float32)
        for numbers, values in source.blocks():
            unit = _unit_block(numbers, values)
            self.squared[numbers] = unit.any(axis=1)
            if self.matrix is not None:
                self.matrix[numbers] = unit

    def reset(self) -> None:
        """Make every row active."""
        if self.streamed:
            self.matrix = None
            self.order = np.arange(self.n_rows)
        self.index = self.order[: self.n_rows].copy()

    def keep(self, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Keep some of the active rows; returns the positions that they had, in their new order."""
        if self.matrix is None:
            positions = np.flatnonzero(kept)
            self.index = self.index[positions]
            if self._fits(len(positions)):
                self.matrix = np.empty((len(positions), self.n_columns), dtype=np.float32)
                for start in range(0, len(positions), BLOCK_ROWS):
                    numbers = self.index[start : start + BLOCK_ROWS]
                    self.matrix[start : start + len(numbers)] = _unit_block(numbers, self.source.rows(numbers))
                self.order = self.index.copy()
            return positions
        n_kept = int(kept.sum())
        positions = np.arange(len(kept))
        holes = np.flatnonzero(~kept[:n_kept])
        movers = n_kept + np.flatnonzero(kept[n_kept:])
        for start in range(0, len(holes), BLOCK_ROWS):
            hole, mover = holes[start : start + BLOCK_ROWS], movers[start : start + BLOCK_ROWS]
            self.matrix[hole], self.matrix[mover] = self.matrix[mover], self.matrix[hole]
        for array in (positions, self.order):
            array[holes], array[movers] = array[movers], array[holes]
        self.index = self.order[:n_kept].copy()
        return positions[:n_kept]

    def products(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n_active, ...) float32 dot products of the active rows with a vector (d,), or with several (d, k)."""
        if self.matrix is not None:
            return self.matrix[: len(self.index)] @ vectors
        every = np.empty((self.n_rows, *vectors.shape[1:]), dtype=np.float32)
        for numbers, values in self.source.blocks():
            every[numbers] = _unit_block(numbers, values) @ vectors
        return every[self.index]

    def vector(self, position: int) -> NDArray[np.float32]:
        """(d,) float32 unit row at an active position."""
        if self.matrix is not None:
            return self.matrix[position].copy()
        return unit_rows(self.source.rows(self.index[[position]]))[0]

    def exact(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """(len, d) float64 rows of norm 1 or 0, the same bits whether rows are streamed or not."""
        numbers = self.index[positions]
        single = self.matrix[positions] if self.matrix is not None else unit_rows(self.source.rows(numbers))
        return exact_rows(single)

    def _fits(self, n_rows: int) -> bool:
        return self.memory_bytes is None or 4 * n_rows * self.n_columns <= self.memory_bytes


def exact_rows(single: NDArray[np.float32]) -> NDArray[np.float64]:
    """Float32 unit rows normalised once more in float64; zero rows stay zero."""
    rows = single.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=rows, where=norms > 0)


def _unit_block(numbers: NDArray[np.int64], values: NDArray[np.floating]) -> NDArray[np.float32]:
    try:
        return unit_rows(values)
    except ValueError:
        for number, row in zip(numbers, values, strict=True):
            try:
                unit_rows(row[None])
            except ValueError:
                raise ValueError(f"row {number} is not finite or overflows float32") from None
        raise
