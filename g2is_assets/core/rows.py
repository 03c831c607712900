"""Rows of any number as graph and walk read them: their directions, as codes whose products are whole numbers.

What is here: the one convention of unit rows, and cosines from integer products. A mean that is removed enters as a
correction of the products: there is no second copy.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2is_assets.core.codes import ZERO_NORM, joined, planes_of, products, quantise, squared_lengths
from g2is_assets.core.features import FeatureSource

AT_THE_MEAN: Final = 1e-8
"""Squared distance from the mean up to which a row counts as zero: codes themselves are further from their row."""


def unit_rows(vectors: ArrayLike) -> NDArray[np.float32]:
    """Rows divided by their Euclidean norm; rows of norm <= 1e-10 become zero.

    Args:
        vectors: (n, d) of any number type, codes too; converted to float32 first.

    Returns:
        (n, d) float32, C-contiguous, every row of norm 1 or 0.

    Raises:
        ValueError: An entry is not finite, or so large that a norm overflows float32.
    """
    given = np.asarray(vectors)
    rows = np.empty(given.shape, dtype=np.float32)
    for start in range(0, len(rows), 64):  # which fit in a processor's own cache
        few = rows[start : start + 64]
        with np.errstate(over="ignore"):
            few[:] = given[start : start + 64]
            norms = np.linalg.norm(few, axis=1)
        if not np.isfinite(norms).all():
            bad = start + int((~np.isfinite(norms)).argmax())
            raise ValueError(f"row {bad} is not finite or overflows float32")
        few[norms <= ZERO_NORM], norms[norms <= ZERO_NORM] = 0, 1
        few /= norms[:, None]
    return rows


class Directions:
    """A few directions (k, d) of any norm, in 24 bits, to which cosines of many rows are taken; and a mean, if removed.

    Of these the products are taken as they are: a direction of norm 2 gives twice the cosine.
    """

    def __init__(self, vectors: NDArray[np.floating], source: FeatureSource) -> None:
        """Of vectors in the units of the unit rows of a source, whose mean is taken from these."""
        self.k, mean, self.weights = len(vectors), source.mean, source.weights
        every = vectors if mean is None else np.concatenate([vectors, mean[None]])
        planes, self.steps = planes_of(every.astype(np.float64))
        self.planes, self.centred = planes.reshape(-1, every.shape[1]), mean is not None
        whole = every.astype(np.float64)
        # einsum, unlike BLAS, adds in one order whatever the alignment and the number of threads.
        self.of_mean = np.einsum("kd,d->k", whole, whole[-1] if self.centred else np.zeros(every.shape[1]))

    def terms(self, codes: NDArray[np.int8]) -> "Terms":
        """What makes cosines of products of these codes."""
        return self._terms(codes, self._products(codes))

    def cosines(self, codes: NDArray[np.int8], terms: "Terms | None" = None) -> NDArray[np.float64]:
        """(n, k) products with the unit rows that these codes stand for, whose terms may be known."""
        raw = self._products(codes)
        terms = terms or self._terms(codes, raw)
        found = _summed(part[:, : self.k] * inverse[:, None] for part, inverse in zip(raw, terms.inverse, strict=True))
        if terms.factor is not None:
            found = (found - self.of_mean[: self.k]) * terms.factor[:, None]
        return found

    def _products(self, codes: NDArray[np.int8]) -> list[NDArray[np.float64]]:
        """By part (n, k) or, where a mean is removed, (n, k + 1) products of codes, the mean's last."""
        if not len(self.steps):
            return [np.empty((len(codes), 0))] * len(self.weights)
        return [joined(part) * self.steps for part in products(codes, self.planes, len(self.weights))]

    def _terms(self, codes: NDArray[np.int8], raw: list[NDArray[np.float64]]) -> "Terms":
        if not self.centred:
            return Terms.of(codes, self.weights, None, 0.0)
        return Terms.of(codes, self.weights, [part[:, -1] for part in raw], float(self.of_mean[-1]))


@dataclass(frozen=True)
class Terms:
    """What makes cosines of integer products, per row: arrays (n,) float64.

    With codes c of length 1 / inverse and a mean m, a row is (c * inverse - m) * factor. Of a source in parts a row is
    its parts, each times the root of its weight, side by side.

    Attributes:
        inverse: (parts, n) 1 over the length of the codes, times the root of the weight; 0 of a zero row.
        shift: What a mean takes from the product of two rows, a half for each; None where no mean is removed.
        factor: 1 over the distance from the mean; None likewise.
    """

    inverse: NDArray[np.float64]
    shift: NDArray[np.float64] | None
    factor: NDArray[np.float64] | None

    @classmethod
    def of(
        cls,
        codes: NDArray[np.int8],
        weights: Sequence[float],
        to_mean: Sequence[NDArray[np.float64]] | None,
        squared_mean: float,
    ) -> "Terms":
        """Of codes (n, d), the weights of their parts, the products (n,) of each with the mean's, and its square."""
        shape = len(codes), len(weights)
        squared = squared_lengths(codes.reshape(math.prod(shape), codes.shape[1] // len(weights))).reshape(shape).T
        inverse = np.divide(1.0, np.sqrt(squared), out=np.zeros(squared.shape), where=squared > 0)
        if len(weights) > 1:  # of a row that is zero at a checkpoint the others count for all
            shares = np.array(weights)[:, None] * (squared > 0)
            inverse *= np.sqrt(np.divide(shares, shares.sum(axis=0), out=np.zeros(shares.shape), where=shares > 0))
        if to_mean is None:
            return cls(inverse, None, None)
        towards = _summed(part * scale for part, scale in zip(to_mean, inverse, strict=True))
        apart = inverse.any(axis=0) - 2 * towards + squared_mean
        factor = np.divide(1.0, np.sqrt(np.abs(apart)), out=np.zeros(len(codes)), where=apart > AT_THE_MEAN)
        return cls(inverse, towards - squared_mean / 2, factor)

    def at(self, rows: Any) -> "Terms":
        """Of some rows."""
        return Terms(*(None if c is None else c[..., rows] for c in (self.inverse, self.shift, self.factor)))  # type: ignore[arg-type]

    @property
    def alive(self) -> NDArray[np.bool_]:
        """(n,) whether a row has a direction; else it has cosine 0 with everything."""
        return np.asarray(self.inverse.any(axis=0) if self.factor is None else self.factor > 0)

    def cosines(self, products: NDArray[np.integer], others: "Terms") -> NDArray[np.float64]:
        """(n, k) cosines from products (parts, n, k) of codes with k other rows; of a pair the same from both ends."""
        found = _summed(map(_scaled, products, self.inverse, others.inverse))
        if self.shift is not None and others.shift is not None:
            assert self.factor is not None
            assert others.factor is not None
            found -= self.shift[:, None] + others.shift[None, :]
            found *= self.factor[:, None] * others.factor[None, :]
        return found


def _scaled(
    products: NDArray[np.integer], inverse: NDArray[np.float64], others: NDArray[np.float64]
) -> NDArray[np.float64]:
    found = inverse[:, None] * others[None, :]
    found *= products
    return found


def _summed(parts: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The first with the others added in their order."""
    first, *rest = parts
    for part in rest:
        first += part
    return first


def terms_of(source: FeatureSource) -> Terms:
    """Of all rows of a source: one pass."""
    n, towards = source.shape[0], Directions(np.empty((0, source.shape[1])), source)
    found = Terms(np.empty((len(source.weights), n)), *((np.empty(n), np.empty(n)) if towards.centred else (None,) * 2))
    for numbers, values in source.blocks():
        for name, column in vars(towards.terms(codes_of(numbers, values, source))).items():
            if column is not None:
                getattr(found, name)[..., numbers] = column
    return found


def cosines_towards(
    source: FeatureSource, directions: NDArray[np.floating], terms: Terms | None = None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Row numbers and their (len, k) products with a few directions (k, d) as they are, block by block.

    `terms` of all rows, where they are known, are not made again.
    """
    few = Directions(directions, source)
    for numbers, values in source.blocks():
        yield numbers, few.cosines(codes_of(numbers, values, source), terms and terms.at(numbers))


def cosines_to(
    source: FeatureSource, directions: NDArray[np.floating], terms: Terms | None = None
) -> NDArray[np.float64]:
    """(n, k) of all rows together."""
    found = np.empty((source.shape[0], len(directions)))
    for numbers, cosines in cosines_towards(source, directions, terms):
        found[numbers] = cosines
    return found


def cosines_among(codes: NDArray[np.int8], terms: Terms) -> NDArray[np.float64]:
    """(k, k) cosines among a few rows, of their codes and terms."""
    return terms.cosines(products(codes, codes, len(terms.inverse)), terms)


def real_rows(source: FeatureSource, values: NDArray[Any]) -> NDArray[np.float64]:
    """(n, d) unit rows, less the mean where one is removed, that values of a source stand for; zeros for zero rows."""
    codes, roots = codes_of(np.arange(len(values)), values, source), np.sqrt(source.weights)[:, None]
    parts = unit_rows(codes.reshape(_in_parts(source, values))).astype(np.float64)
    rows = (parts.reshape(len(values), len(roots), -1) * roots).reshape(values.shape)
    if len(roots) > 1:
        rows = _normalised(rows, 0.0)
    return _normalised(rows, 0.0) if source.mean is None else _normalised(rows - source.mean, AT_THE_MEAN)


def _normalised(rows: NDArray[np.float64], above: float) -> NDArray[np.float64]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms**2 > above)


def sum_of(source: FeatureSource, terms: Terms | None = None) -> NDArray[np.float64]:
    """(d,) sum of all `real_rows`: every row with its factor in 24 bits, hence the same in any order."""
    terms = terms or terms_of(source)
    planes, steps = planes_of(terms.inverse if terms.factor is None else terms.inverse * terms.factor)
    n_parts = planes.shape[1]
    total = np.zeros((n_parts, len(planes), source.shape[1] // n_parts), dtype=np.int64)
    for numbers, values in source.blocks():
        codes = np.split(codes_of(numbers, values, source), n_parts, axis=1)
        for part, own in enumerate(codes):
            total[part] += products(np.ascontiguousarray(planes[:, part, numbers]), own.T)[0]
    found = np.concatenate([joined(own.T)[:, 0] * step for own, step in zip(total, steps, strict=True)])
    return found if source.mean is None else found - source.mean * math.fsum(terms.factor)  # type: ignore[arg-type]


def codes_of(numbers: NDArray[np.int64], values: NDArray[Any], source: FeatureSource) -> NDArray[np.int8]:
    """C-contiguous codes of a source's values, each part with its own largest code; a fault names the row."""

    def coded(some: NDArray[Any]) -> NDArray[np.int8]:
        return quantise(some.reshape(_in_parts(source, some))).reshape(some.shape)

    return np.ascontiguousarray(naming_the_row(numbers, coded, values))


def _in_parts(source: FeatureSource, values: NDArray[Any]) -> tuple[int, int]:
    """The shape of values with each part of a row as a row of its own."""
    return len(values) * len(source.weights), values.shape[1] // len(source.weights)


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
