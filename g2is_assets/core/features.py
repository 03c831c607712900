"""Where features lie: an array, shards of a store, some rows of another source, several checkpoints side by side."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK_ROWS: Final = 1024
"""Rows read at a time: 8 MB of codes at 8,192 columns."""


@runtime_checkable
class FeatureSource(Protocol):
    """Features that may be larger than memory; any order of blocks, each row exactly once.

    Values are codes, or floats of any norm that are quantised where they are read; of both only the direction counts.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        ...

    @property
    def weights(self) -> tuple[float, ...]:
        """Of parts of columns, all equally wide: the cosine of two rows is the mean, so weighted, of their parts'."""
        ...

    @property
    def mean(self) -> NDArray[np.floating] | None:
        """A fixed vector (d,), in the units of unit rows, to be taken from each of these; None where none is."""
        ...

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Row numbers and their (len, d) values, block by block."""
        ...

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """(len(numbers), d) values of single rows."""
        ...


class ArrayFeatures:
    """An (n, d) array of codes or of any float type as a source."""

    weights = (1.0,)

    def __init__(self, features: ArrayLike, mean: NDArray[np.floating] | None = None) -> None:
        self.values, self.mean = np.asarray(features), mean
        if self.values.ndim != 2:
            raise ValueError(f"features {self.values.shape} do not fit: (n, d) is needed")
        self.shape: tuple[int, int] = (self.values.shape[0], self.values.shape[1])

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Consecutive rows."""
        for start in range(0, self.shape[0], BLOCK_ROWS):
            numbers = np.arange(start, min(start + BLOCK_ROWS, self.shape[0]))
            yield numbers, self.values[start : start + BLOCK_ROWS]

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Those rows."""
        return self.values[numbers]


class ChosenFeatures:
    """Some rows of a source, under their own numbers 0, 1, ... in the order given."""

    def __init__(self, source: FeatureSource, chosen: NDArray[np.int64]) -> None:
        """Wrap `source`; `chosen` are distinct row numbers."""
        self.source, self.chosen, self.mean, self.weights = source, chosen, source.mean, source.weights
        self.shape: tuple[int, int] = (len(chosen), source.shape[1])
        self.place = np.full(source.shape[0], -1)
        self.place[chosen] = np.arange(len(chosen))

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """The source's blocks without the other rows."""
        for numbers, values in self.source.blocks():
            own = self.place[numbers]
            yield own[own >= 0], values[own >= 0]

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Those rows."""
        return self.source.rows(self.chosen[numbers])


class FoldedFeatures:
    """A source in fewer dimensions, without a copy: entries that are `sketch_dim` apart are added.

    Of a `Sketch` this is a sketch again: each entry of a gradient keeps its random sign, so dot products stay
    unbiased; 1 in `sketch_dim` pairs of entries meet, though within a run of the wider sketch always the same ones.
    Parts are folded each by itself.
    """

    def __init__(self, source: FeatureSource, sketch_dim: int) -> None:
        """Wrap `source`.

        Raises:
            ValueError: `sketch_dim` does not divide its number of columns.
        """
        self.source, self.weights, self.sketch_dim = source, source.weights, sketch_dim
        width = source.shape[1] // len(source.weights)
        if width % sketch_dim:
            raise ValueError(f"features of {width} columns cannot be folded to {sketch_dim}")
        self.shape = (source.shape[0], len(source.weights) * sketch_dim)
        self.mean = None if source.mean is None else self._fold(source.mean[None])[0]

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """The source's blocks, folded."""
        for numbers, values in self.source.blocks():
            yield numbers, self._fold(values)

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Those rows, folded."""
        return self._fold(self.source.rows(numbers))

    def _fold(self, values: NDArray[Any]) -> NDArray[np.float32]:
        parts = values.astype(np.float32).reshape(len(values), len(self.weights), -1, self.sketch_dim)
        return parts.sum(axis=2).reshape(len(values), -1)


class JoinedFeatures:
    """Features of the same rows at several checkpoints, side by side: cosines are a weighted mean of theirs.

    So LESS has it (Xia et al. 2024), with the mean learning rate of each checkpoint's epoch as its weight.
    """

    def __init__(
        self, sources: Sequence[FeatureSource], weights: Sequence[float], mean: NDArray[np.floating] | None = None
    ) -> None:
        """Join sources (n, d) of codes.

        Args:
            sources: Equally wide, without means.
            weights: Of each, positive; normalised to a sum of 1.
            mean: A vector as wide as all together, in the units of unit rows, to be taken from each of these.
        """
        self.sources, self.mean = sources, mean
        self.weights = tuple(float(weight) for weight in np.array(weights) / math.fsum(weights))
        self.shape: tuple[int, int] = (sources[0].shape[0], sum(source.shape[1] for source in sources))

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Blocks of the first, with what the others have of the same rows."""
        for numbers, values in self.sources[0].blocks():
            yield numbers, np.concatenate([values, *(s.rows(numbers) for s in self.sources[1:])], axis=1)

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Those rows."""
        return np.concatenate([source.rows(numbers) for source in self.sources], axis=1)


def as_source(features: ArrayLike | FeatureSource) -> FeatureSource:
    """Arrays become sources; sources stay what they are."""
    return features if isinstance(features, FeatureSource) else ArrayFeatures(features)
