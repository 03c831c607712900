"""Gradient stores without a model: vectors that depend on their rows alone."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from g2is_assets.contracts.contract import Column, Contract
from g2is_assets.contracts.gradients import INDEX, SET_ASIDE, VECTORS
from g2is_assets.store.features import StoredFeatures
from g2is_assets.store.lake import Lake
from g2is_assets.store.vectors import Filled, Vectors, VectorStore
from g2is_assets.store.version import Draft, Recipe, Version
from g2is_assets.store.views import rebuild_views

DIM = 16
SETTINGS = {"kinds": ["adam", "sgd"], "sketch_dim": DIM, "bits": 8, "seed": 0}
SHARD_ROWS = 4
ROWS = [f"row{i:02d}" for i in range(10)]


def vector(row_id: str, kind: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A row's vector, from its id alone; ids that start with a fault have it."""
    if row_id.startswith("zero"):
        return np.zeros(DIM, dtype=np.float32)
    if row_id.startswith("nan") and kind == "sgd":
        return np.full(DIM, np.nan, dtype=np.float32)
    if row_id.startswith("inf"):
        return np.full(DIM, np.inf, dtype=np.float32)
    seed = int.from_bytes(hashlib.sha256(f"{row_id} {kind}".encode()).digest()[:4], "big")
    return (3 * np.random.default_rng(seed).normal(size=DIM)).astype(np.float32)


def loss(row_id: str) -> float:
    return float("nan") if row_id.startswith("badloss") else 1.5


class Compute:
    """Vectors of batches, with a list of the rows that were asked for."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.calls = 0

    def __call__(self, batches: Iterable[list[str]]) -> Iterator[Vectors]:
        self.calls += 1
        return self.vectors(batches)

    def vectors(self, batches: Iterable[list[str]]) -> Iterator[Vectors]:
        for batch in batches:
            self.rows += batch
            features = {kind: np.stack([vector(row, kind) for row in batch]) for kind in SETTINGS["kinds"]}
            losses = np.array([loss(row) for row in batch], dtype=np.float32)
            yield Vectors(list(batch), [len(row) for row in batch], losses, features)


def pairs(lengths: Sequence[int]) -> list[list[int]]:
    """Batches of two, in order."""
    return [list(range(i, min(i + 2, len(lengths)))) for i in range(0, len(lengths), 2)]


def fill(
    store: VectorStore, rows: Iterable[str], compute: Compute | None = None, shard_rows: int = SHARD_ROWS
) -> tuple[Filled, list[str]]:
    compute = compute or Compute()
    filled = store.fill({row: len(row) for row in rows}, pairs, compute, shard_rows, "run")
    return filled, compute.rows


def by_name(filled: Filled) -> dict[str, Version]:
    return {shard.name: shard for shard in filled.shards}


def flip_byte(shard: Path) -> None:
    file = shard / VECTORS.file
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


LENGTHS = {f"row{number}": number + 1 for number in range(6)}
NUMBERS = Contract((), "noun", "Some numbers", {"n": Column(pl.Int64, "A number")})


def compute(batches: Iterable[list[str]]) -> Iterator[Vectors]:
    """Vectors that depend on their rows alone."""
    for batch in batches:
        vectors = np.stack([np.random.default_rng(LENGTHS[row]).standard_normal(64) for row in batch])
        yield Vectors(batch, [LENGTHS[row] for row in batch], np.ones(len(batch)), {"sgd": vectors.astype(np.float32)})


def fill_small(lake: Lake, run_id: str = "run") -> Filled:
    """Six rows in three shards."""
    store = VectorStore(lake, {"kinds": ["sgd"], "sketch_dim": 64, "bits": 8})
    return store.fill(LENGTHS, lambda lengths: [[i] for i in range(len(lengths))], compute, 2, run_id)


def write_index(draft: Draft, filled: Filled) -> None:
    """What a version of gradients is made of."""
    aside = sorted(filled.set_aside.items())
    draft.write(INDEX, filled.index)
    draft.write(SET_ASIDE, pl.DataFrame(aside, schema=SET_ASIDE.schema, orient="row"))
    draft.made_of(filled.shards)


def small_refresh(root: Path) -> None:
    """Everything that writes to a lake, without a model: a version, gradients in shards, mapped copies, views."""
    lake = Lake(root)

    def gradients(draft: Draft) -> None:
        filled = fill_small(lake, draft.run_id)
        StoredFeatures(by_name(filled), filled.index, "sgd").array()
        write_index(draft, filled)

    numbers = pl.DataFrame({"n": [1, 2, 3]})
    lake.make(Recipe("stage/noun", "a", "1", {}), "run", lambda draft: draft.write(NUMBERS, numbers))
    lake.make(Recipe("gradients/pool", None, "1", {}), "run", gradients)
    rebuild_views(lake)
