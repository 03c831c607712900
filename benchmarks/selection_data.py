"""Pools for `selection.py`: a gradient store of any size, drawn from real features or from synthetic ones.

Up to the number of given rows the store holds these. Further rows are resampled: with the pool's mean m and residuals
r = x - m, a new row is unit(m + scale * (0.8 r_i + 0.6 r_j)) of two random rows. As 0.8² + 0.6² = 1, the residuals keep
their covariance, where isotropic noise would shrink every cosine; the scale is found by bisection such that as many
edges are negative as among the given rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts.gradients import INDEX
from g2is_assets.core.codes import quantise
from g2is_assets.core.knowledge import core_knowledge
from g2is_assets.core.rows import unit_rows
from g2is_assets.store.features import StoredFeatures
from g2is_assets.store.lake import Lake
from g2is_assets.store.vectors import Vectors, VectorStore
from g2is_assets.store.version import Draft, Recipe

Rows = NDArray[np.float32]

SHARD_ROWS: Final = 2048
SAMPLE_ROWS: Final = 2000
"""Rows from which shares of negative edges are measured."""
MIX: Final = (0.8, 0.6)
"""Weights of two residuals; their squares sum to 1."""
SYNTHETIC_ROWS: Final = 4000
SCALES: Final = (0.1, 10.0)
"""Where the scale of resampled residuals is searched."""


def real_features(lake: Path, asset: str, partition: str | None, kind: str) -> Rows:
    """Stored unit vectors of the current version of an asset."""
    opened = Lake(lake)
    version = opened.current(asset, partition)
    return unit_rows(StoredFeatures(opened.parts_of(version), version.read(INDEX), kind).array())


def synthetic_features(rng: np.random.Generator, n_rows: int, dim: int) -> Rows:
    """Unit rows with a shared direction and residuals of rank 32: a mean cosine of 0.3, few negative edges."""
    shared = unit_rows(rng.standard_normal((1, dim)))
    basis = rng.standard_normal((32, dim), dtype=np.float32) / np.sqrt(dim)
    residuals = unit_rows(rng.standard_normal((n_rows, 32), dtype=np.float32) @ basis)
    return unit_rows(np.sqrt(0.3) * shared + np.sqrt(0.7) * residuals)


class Resampler:
    """Draws rows that resemble the given ones."""

    def __init__(self, rows: Rows, rng: np.random.Generator) -> None:
        self.rng, self.mean = rng, rows.mean(axis=0)
        self.residuals = rows - self.mean
        self.scale = self._fit(rows)

    def mixed(self, first: NDArray[np.int64]) -> Rows:
        """Residuals of the given rows, each mixed with that of another random row."""
        n = len(self.residuals)
        second = (first + self.rng.integers(1, n, size=len(first))) % n
        return np.float32(MIX[0]) * self.residuals[first] + np.float32(MIX[1]) * self.residuals[second]

    def draw(self, n_rows: int, near: NDArray[np.int64] | None = None) -> Rows:
        """`n_rows` new unit rows; with `near`, only around these rows."""
        first = self.rng.choice(near if near is not None else len(self.residuals), size=n_rows)
        return unit_rows(self.mean + np.float32(self.scale) * self.mixed(first))

    def _fit(self, rows: Rows) -> float:
        target, _ = edges(rows[:SAMPLE_ROWS])
        residuals = self.mixed(self.rng.integers(len(rows), size=SAMPLE_ROWS))
        products, along = residuals @ residuals.T, residuals @ self.mean
        linear, constant = along[:, None] + along[None, :], self.mean @ self.mean
        low, high = SCALES
        for _ in range(30):  # the share of negative edges grows with the scale
            scale = np.sqrt(low * high)
            negative = constant + scale * linear + scale**2 * products < 0
            np.fill_diagonal(negative, False)
            low, high = (low, scale) if negative.sum() / (negative.size - len(negative)) > target else (scale, high)
        return float(scale)


def edges(rows: Rows) -> tuple[float, float]:
    """Share of negative edges and mean cosine of the complete graph of these rows."""
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, 0)
    n_edges = len(rows) * (len(rows) - 1)
    return int((cosines < 0).sum()) / n_edges, float(cosines.sum(dtype=np.float64)) / n_edges


def make_pool(task: Mapping[str, Any]) -> dict[str, Any]:
    """Write a store of `n` rows, its index, the domain's rows and core knowledge; measure what the rows are like.

    Args:
        task: `folder` to write to, `n`, `features` (`raw` or `mean_removed`), `lake`, `domain`, `kind` or None, `dim`.
    """
    rng = np.random.default_rng(0)
    lake = Path(task["lake"]) if task["lake"] else None
    if lake:
        rows = real_features(lake, "gradients/pool", None, task["kind"])
    else:
        rows = synthetic_features(rng, min(task["n"], SYNTHETIC_ROWS), task["dim"])
    resampler = Resampler(rows, rng)
    if lake and task["domain"]:
        validation = real_features(lake, "gradients/target", task["domain"], "sgd")
    else:
        validation = resampler.draw(24, near=rng.choice(len(rows), size=4, replace=False))
    knowledge = core_knowledge(validation)
    folder = Path(task["folder"])
    core = {"components": knowledge.components, "weights": knowledge.weights}
    np.savez(folder / "knowledge.npz", validation=validation, **core)
    made = Lake(folder / "lake")
    store = VectorStore(made, {"kinds": [task["features"]], "sketch_dim": rows.shape[1], "bits": 8})

    def vectors(batches: Iterable[list[str]]) -> Iterator[Vectors]:
        for ids in batches:
            start = int(ids[0])
            part = rows[start : start + len(ids)]
            part = np.concatenate([part, resampler.draw(len(ids) - len(part))])
            if task["features"] == "mean_removed":
                part = unit_rows(part - resampler.mean)
            losses = np.zeros(len(ids), dtype=np.float32)
            yield Vectors(ids, [1] * len(ids), losses, {task["features"]: part})

    def write(draft: Draft) -> None:
        wanted = {f"{number:08d}": 1 for number in range(task["n"])}
        filled = store.fill(wanted, in_order, vectors, SHARD_ROWS, draft.run_id)
        draft.write(INDEX, filled.index)
        draft.made_of(filled.shards)

    made.make(Recipe("gradients/pool", None, "1", {}), "benchmark", write)
    fresh = resampler.draw(SAMPLE_ROWS)
    kinds = {"given rows": rows[:SAMPLE_ROWS], "resampled rows": fresh}
    measured = {name: [*edges(sample), *edges(unit_rows(sample - resampler.mean))] for name, sample in kinds.items()}
    return {
        "store": str(made.root),
        "n_given": len(rows),
        "dim": rows.shape[1],
        "scale": resampler.scale,
        "n_components": len(knowledge.weights),
        "edges": measured,
    }


class FileFeatures(StoredFeatures):
    """Codes in files of `SHARD_ROWS` rows as the store maps them, without the compressed shards of which those are."""

    def __init__(self, folder: Path, n_rows: int) -> None:
        files = [folder / f"{number:06d}.npy" for number in range(-(-n_rows // SHARD_ROWS))]
        rows = np.arange(n_rows)
        index = pl.DataFrame({"shard": [file.name for file in files]}).select(
            pl.col("shard").repeat_by(SHARD_ROWS).explode().head(n_rows), position=pl.Series(rows % SHARD_ROWS)
        )
        super().__init__({file.name: file for file in files}, index, "raw")  # type: ignore[arg-type]
        self.n_passes = 0

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int8]]]:
        """Rows shard by shard."""
        self.n_passes += 1
        return super().blocks()

    def _open(self, number: int) -> NDArray[np.int8]:
        return np.load(self.shards[number], mmap_mode="r", allow_pickle=False)  # type: ignore[arg-type]


def make_files(task: Mapping[str, Any]) -> dict[str, Any]:
    """Write `n` rows of codes, each a mix of two of `SYNTHETIC_ROWS` rows, and a domain's rows around four of these."""
    rng, folder = np.random.default_rng(0), Path(task["folder"])
    rows = synthetic_features(rng, SYNTHETIC_ROWS, task["dim"])
    validation = Resampler(rows, rng).draw(50, near=rng.choice(len(rows), size=4, replace=False))
    np.savez(folder / "knowledge.npz", validation=validation)
    half, n_bytes = quantise(rows) >> 1, 0
    for number, start in enumerate(range(0, task["n"], SHARD_ROWS)):
        first, second = rng.integers(len(half), size=(2, min(SHARD_ROWS, task["n"] - start)))
        codes = half[first] + (half[second] >> 1)  # that no two mixes are equal
        np.save(folder / f"{number:06d}.npy", codes, allow_pickle=False)
        n_bytes += codes.nbytes
    return {"n_bytes": n_bytes}


def in_order(lengths: Sequence[int]) -> list[list[int]]:
    """A batch for each shard."""
    return [[*range(start, min(start + SHARD_ROWS, len(lengths)))] for start in range(0, len(lengths), SHARD_ROWS)]
