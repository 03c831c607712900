"""Rows of any number as graph and walk read them: their directions, as codes whose products are whole numbers.

What is here: where features lie (an array, shards of a store) behind `FeatureSource`, the one convention of unit rows,
and cosines from integer products. A mean that is removed enters as a correction of the products: there is no second
copy.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2is_assets.core.codes import ZERO_NORM, joined, planes_of, products, quantise, squared_lengths

AT_THE_MEAN: Final = 1e-8
"""Squared distance from the mean up to which a row counts as zero: codes themselves are further from their row."""
BLOCK_ROWS: Final = 1024
"""Rows read at a time: 8 MB of codes at 8,192 columns."""


def unit_rows(vectors: ArrayLike) -> NDArray[np.float32]:
    """Rows divided by their Euclidean norm; rows of norm <= 1e-10 become zero.

    Args:
        vectors: (n, d) of any number type, codes too; converted to float32 first.

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
        self.source, self.chosen, self.mean = source, chosen, source.mean
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
    """

    def __init__(self, source: FeatureSource, sketch_dim: int) -> None:
        """Wrap `source`.

        Raises:
            ValueError: `sketch_dim` does not divide its number of columns.
        """
        if source.shape[1] % sketch_dim:
            raise ValueError(f"features of {source.shape[1]} columns cannot be folded to {sketch_dim}")
        self.source, self.shape = source, (source.shape[0], sketch_dim)
        self.mean = None if source.mean is None else self._fold(source.mean[None])[0]

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """The source's blocks, folded."""
        for numbers, values in self.source.blocks():
            yield numbers, self._fold(values)

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Those rows, folded."""
        return self._fold(self.source.rows(numbers))

    def _fold(self, values: NDArray[Any]) -> NDArray[np.float32]:
        return values.astype(np.float32).reshape(len(values), -1, self.shape[1]).sum(axis=1)


def as_source(features: ArrayLike | FeatureSource) -> FeatureSource:
    """Arrays become sources; sources stay what they are."""
    return features if isinstance(features, FeatureSource) else ArrayFeatures(features)


class Directions:
    """A few directions (k, d) of any norm, in 24 bits, to which cosines of many rows are taken; and a mean, if removed.

    Of these the products are taken as they are: a direction of norm 2 gives twice the cosine.
    """

    def __init__(self, vectors: NDArray[np.floating], mean: NDArray[np.floating] | None) -> None:
        self.k, every = len(vectors), vectors if mean is None else np.concatenate([vectors, mean[None]])
        planes, self.steps = planes_of(every.astype(np.float64))
        self.planes, self.centred = planes.reshape(-1, every.shape[1]), mean is not None
        whole = every.astype(np.float64)
        # einsum, unlike BLAS, adds in one order whatever the alignment and the number of threads.
        self.of_mean = np.einsum("kd,d->k", whole, whole[-1] if self.centred else np.zeros(every.shape[1]))

    def terms(self, codes: NDArray[np.int8]) -> "Terms":
        """What makes cosines of products of these codes."""
        return self._read(codes)[1]

    def cosines(self, codes: NDArray[np.int8]) -> NDArray[np.float64]:
        """(n, k) products with the unit rows that these codes stand for."""
        found, terms = self._read(codes)
        found = found[:, : self.k] * terms.inverse[:, None]
        if terms.factor is not None:
            found = (found - self.of_mean[: self.k]) * terms.factor[:, None]
        return found

    def _read(self, codes: NDArray[np.int8]) -> tuple[NDArray[np.float64], "Terms"]:
        """(n, k) or, where a mean is removed, (n, k + 1) products of codes as they are, the mean's last; and terms."""
        if not len(self.steps):
            return np.empty((len(codes), 0)), Terms.of(codes, None, 0.0)
        found = joined(products(codes, self.planes)) * self.steps
        return found, Terms.of(codes, found[:, -1] if self.centred else None, float(self.of_mean[-1]))


@dataclass(frozen=True)
class Terms:
    """What makes cosines of integer products, per row: arrays (n,) float64.

    With codes c of length 1 / inverse and a mean m, a row is (c * inverse - m) * factor.

    Attributes:
        inverse: 1 over the length of the codes; 0 of a zero row.
        shift: What a mean takes from the product of two rows, a half for each; None where no mean is removed.
        factor: 1 over the distance from the mean; None likewise.
    """

    inverse: NDArray[np.float64]
    shift: NDArray[np.float64] | None
    factor: NDArray[np.float64] | None

    @classmethod
    def of(cls, codes: NDArray[np.int8], to_mean: NDArray[np.float64] | None, squared_mean: float) -> "Terms":
        """Of codes (n, d), their products (n,) with the mean, and its squared norm."""
        squared = squared_lengths(codes)
        inverse = np.divide(1.0, np.sqrt(squared), out=np.zeros(len(codes)), where=squared > 0)
        if to_mean is None:
            return cls(inverse, None, None)
        towards = to_mean * inverse
        apart = (inverse > 0) - 2 * towards + squared_mean
        factor = np.divide(1.0, np.sqrt(np.abs(apart)), out=np.zeros(len(codes)), where=apart > AT_THE_MEAN)
        return cls(inverse, towards - squared_mean / 2, factor)

    def at(self, rows: Any) -> "Terms":
        """Of some rows."""
        return Terms(*(None if c is None else c[rows] for c in (self.inverse, self.shift, self.factor)))  # type: ignore[arg-type]

    @property
    def alive(self) -> NDArray[np.bool_]:
        """(n,) whether a row has a direction; else it has cosine 0 with everything."""
        return (self.inverse if self.factor is None else self.factor) > 0

    def cosines(self, products: NDArray[np.integer], others: "Terms") -> NDArray[np.float64]:
        """(n, k) cosines from products (n, k) of codes with k other rows; of a pair the same from both ends."""
        found = self.inverse[:, None] * others.inverse[None, :]
        found *= products
        if self.shift is not None and others.shift is not None:
            assert self.factor is not None
            assert others.factor is not None
            found -= self.shift[:, None] + others.shift[None, :]
            found *= self.factor[:, None] * others.factor[None, :]
        return found


def terms_of(source: FeatureSource) -> Terms:
    """Of all rows of a source: one pass."""
    n, towards = source.shape[0], Directions(np.empty((0, source.shape[1])), source.mean)
    found = Terms(np.empty(n), *((np.empty(n), np.empty(n)) if towards.centred else (None, None)))
    for numbers, values in source.blocks():
        for name, column in vars(towards.terms(codes_of(numbers, values))).items():
            if column is not None:
                getattr(found, name)[numbers] = column
    return found


def cosines_towards(
    source: FeatureSource, directions: NDArray[np.floating]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Row numbers and their (len, k) products with a few directions (k, d) as they are, block by block."""
    few = Directions(directions, source.mean)
    for numbers, values in source.blocks():
        yield numbers, few.cosines(codes_of(numbers, values))


def cosines_to(source: FeatureSource, directions: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n, k) of all rows together."""
    found = np.empty((source.shape[0], len(directions)))
    for numbers, cosines in cosines_towards(source, directions):
        found[numbers] = cosines
    return found


def cosines_among(source: FeatureSource, terms: Terms, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """(k, k) cosines among a few rows, of a source with these terms."""
    codes, own = codes_of(numbers, source.rows(numbers)), terms.at(numbers)
    return own.cosines(products(codes, codes), own)


def real_rows(source: FeatureSource, values: NDArray[Any]) -> NDArray[np.float64]:
    """(n, d) unit rows, less the mean where one is removed, that values of a source stand for; zeros for zero rows."""
    rows = unit_rows(quantise(values)).astype(np.float64)
    if source.mean is not None:
        rows -= source.mean
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms**2 > (0 if source.mean is None else AT_THE_MEAN))


def sum_of(source: FeatureSource, terms: Terms | None = None) -> NDArray[np.float64]:
    """(d,) sum of all `real_rows`: every row with its factor in 24 bits, hence the same in any order."""
    terms = terms or terms_of(source)
    weights = terms.inverse if terms.factor is None else terms.inverse * terms.factor
    planes, steps = planes_of(weights[None])
    total = np.zeros((len(planes), source.shape[1]), dtype=np.int64)
    for numbers, values in source.blocks():
        total += products(np.ascontiguousarray(planes[:, 0, numbers]), codes_of(numbers, values).T)
    found = joined(total.T)[:, 0] * steps[0]
    return found if source.mean is None else found - source.mean * math.fsum(terms.factor)  # type: ignore[arg-type]


def codes_of(numbers: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.int8]:
    """C-contiguous codes of a source's values; a fault names the row."""
    return np.ascontiguousarray(naming_the_row(numbers, quantise, values))


def naming_the_row(
    numbers: NDArray[np.int64], change: Callable[[Any], NDArray[Any]], values: NDArray[Any]
) -> NDArray[Any]:
    """The values changed; a fault names the row by its own number."""
    try:
        return change(values)
    except ValueError:
        for number, row in zip(numbers, values, strict=True):
            try:
                change(row[None])
            except ValueError:
                raise ValueError(f"row {number} is not finite or overflows float32") from None
        raise
