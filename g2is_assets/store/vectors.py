"""Sketched gradients and embeddings: content-addressed shards, computed once per row and settings.

A shard is a version of `vectors/shard` like any other, in the partition of its address: the digest of all settings that
determine a row's vector. Its recipe names its rows, batch by batch, so that it can be computed again as it was. Many
stand side by side; an index names those that its version is made of.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts.gradients import INDEX, SET_ASIDE, VECTORS, vectors_of
from g2is_assets.core.codes import quantise, to_bytes
from g2is_assets.errors import StoreError
from g2is_assets.hashing import json_sha256
from g2is_assets.store.files import read_parquet
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import PRUNED, Manifest, read_manifest
from g2is_assets.store.tombstones import erased_rows
from g2is_assets.store.version import Draft, Recipe, Version
from g2is_assets.store.versions import version_folders

SHARD: Final = VECTORS.assets[0]
CODE_VERSION: Final = "1"
"""Of the shard's tables; what determines a vector is a part of the address."""

STORED: Final = 1.02
"""Bytes on disk of a byte of codes, at most: zstd takes a tenth off those of 8 bits, and norms and ids come on top."""
ZERO_GRADIENT: Final = "zero gradient"
NOT_FINITE: Final = "gradient or loss is not finite"


@dataclass(frozen=True)
class Vectors:
    """Sketched gradients of some rows, before normalisation.

    Attributes:
        row_ids: The rows.
        n_tokens: Their token counts.
        losses: (n,) float.
        features: Per kind, (n, sketch_dim) float32.
    """

    row_ids: list[str]
    n_tokens: list[int]
    losses: NDArray[np.float32]
    features: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Filled:
    """What `VectorStore.fill` found and did.

    Attributes:
        index: Contract `INDEX`: the wanted rows that have vectors, in the order wanted.
        set_aside: Wanted rows without vectors, with the reason.
        shards: All shards in which these rows stand.
        n_computed: Rows computed now.
        n_tokens_computed: Their tokens.
        n_damaged_shards: Shards that were damaged; the rows among them that are wanted were computed again.
    """

    index: pl.DataFrame
    set_aside: dict[str, str]
    shards: list[Version]
    n_computed: int
    n_tokens_computed: int
    n_damaged_shards: int


Batches = list[list[str]]
"""Row ids, batch by batch, in the order in which they are computed."""


def address_of(settings: Mapping[str, Any]) -> str:
    """Name of the partition of all shards made with these settings."""
    return json_sha256(dict(settings))[:16]


class VectorStore:
    """The shards of one address."""

    def __init__(self, lake: Lake, settings: Mapping[str, Any]) -> None:
        """Open the store for these settings.

        Args:
            lake: The lake.
            settings: Everything that determines a row's vector, besides the row itself; must hold `kinds`,
                `sketch_dim` and `bits`.
        """
        self.lake, self.settings = lake, dict(settings)
        self.kinds: list[str] = list(settings["kinds"])
        self.sketch_dim, self.bits = int(settings["sketch_dim"]), int(settings["bits"])
        self.address = address_of(settings)
        self.place = lake.place(SHARD, self.address)

    def shards(self) -> tuple[list[Version], list[Path]]:
        """The whole shards, and the folders of damaged ones, both by name."""
        whole, damaged = [], []
        for folder in version_folders(self.lake, SHARD, self.address):
            try:
                whole.append(self.lake.whole(folder))
            except StoreError:
                damaged += [] if (folder / PRUNED).exists() else [folder]
        return whole, damaged

    def fill(
        self,
        wanted: Mapping[str, int],
        plan_batches: Callable[[Sequence[int]], list[list[int]]],
        compute: Callable[[Iterable[list[str]]], Iterator[Vectors]],
        shard_rows: int,
        run_id: str,
        batch_tokens: int = 0,
    ) -> Filled:
        """Compute exactly the wanted rows that no whole shard has, shard by shard, and index all of them.

        Killed at any moment, the next call loses at most one shard and goes on to the same bytes.

        Args:
            wanted: Token count by row id, in the order of the instructions table.
            plan_batches: Groups positions of rows by their token counts.
            compute: Vectors of each batch of row ids, in order; called once, and only if a row is missing.
            shard_rows: Rows from which a shard is full.
            run_id: For the manifests.
            batch_tokens: Setting behind `plan_batches`; another one is another plan.

        Raises:
            StoreError: Less disk is free than the vectors take, or it cannot be written.
        """
        shards, damaged = self.shards()
        held = {shard.folder: _rows(shard.manifest) - erased_rows(shard.folder) for shard in shards}
        missing = set(wanted).difference(*held.values())
        if missing:
            # A row erased there and wanted again needs another recipe: of equal ones that shard would serve.
            erased = [shard.name for shard in shards if not erased_rows(shard.folder).isdisjoint(wanted)]
            fill_id = json_sha256([sorted(wanted), shard_rows, batch_tokens, *([erased] if erased else [])])[:16]

            def planned(rows: list[str]) -> list[Recipe]:
                batches = [[rows[i] for i in batch] for batch in plan_batches([wanted[row] for row in rows])]
                return [self._recipe(fill_id, part) for part in _in_shards(batches, shard_rows)]

            plan = self._plan_again(damaged, missing)
            left = missing.difference(*map(_rows, plan))
            # What this very fill would have planned, had it not been killed; if that is not what is missing, no more.
            others = (held[shard.folder] for shard in shards if shard.manifest.settings["fill"] != fill_id)
            before = set().union(*others)
            begun = [r for r in planned([row for row in wanted if row not in before]) if not left.isdisjoint(_rows(r))]
            resumed = left == {row for recipe in begun for row in _rows(recipe)}
            plan += begun if resumed else planned([row for row in wanted if row in left])
            shards += self._compute(plan, compute, run_id)
        for folder in damaged:
            self.lake.retire(folder)
        index, set_aside, serving = _index(shards, wanted)
        return Filled(index, set_aside, serving, len(missing), sum(wanted[row] for row in missing), len(damaged))

    def _recipe(self, fill_id: str, batches: Batches) -> Recipe:
        settings = {"vectors": self.settings, "fill": fill_id, "batches": batches}
        return Recipe(SHARD, self.address, CODE_VERSION, settings)

    def _plan_again(self, damaged: list[Path], missing: set[str]) -> list[Recipe]:
        """The recipes of damaged shards of which every row is missing: they are computed again as they were."""
        plan: list[Recipe] = []
        unplanned = set(missing)
        for folder in damaged:
            with suppress(StoreError):
                manifest = read_manifest(folder)
                recipe = self._recipe(manifest.settings.get("fill", ""), manifest.settings.get("batches", []))
                if recipe.input_digest == manifest.input_digest and _rows(recipe) <= unplanned:
                    plan.append(recipe)
                    unplanned -= _rows(recipe)
        return plan

    def _compute(
        self, plan: list[Recipe], compute: Callable[[Iterable[list[str]]], Iterator[Vectors]], run_id: str
    ) -> list[Version]:
        self._require_space(sum(len(_rows(recipe)) for recipe in plan))
        vectors, made = compute([batch for recipe in plan for batch in recipe.settings["batches"]]), []
        for recipe in plan:
            parts = list(islice(vectors, len(recipe.settings["batches"])))
            if len(parts) < len(recipe.settings["batches"]):
                raise StoreError(f"{self.place}: fewer vectors than batches were computed")
            made.append(self.lake.make(recipe, run_id, partial(self._write, parts=parts))[0])
        if next(vectors, None) is not None:  # asked once more, so that progress and worker close
            raise StoreError(f"{self.place}: more vectors than batches were computed")
        return made

    def _write(self, draft: Draft, parts: list[Vectors]) -> None:
        """Write one shard; rows with a zero or non-finite gradient are listed with their reason instead."""
        row_ids = pl.Series("row_id", [row for part in parts for row in part.row_ids], dtype=pl.String)
        losses = np.concatenate([part.losses for part in parts]).astype(np.float64)
        features = {kind: np.concatenate([part.features[kind] for part in parts]) for kind in self.kinds}
        norms = {kind: np.linalg.norm(f.astype(np.float64), axis=1) for kind, f in features.items()}
        finite = np.isfinite(losses) & np.all([np.isfinite(norm) for norm in norms.values()], axis=0)
        good = finite & np.all([norm > 0 for norm in norms.values()], axis=0)
        kept = pl.Series(good)
        n_tokens = np.array([n for part in parts for n in part.n_tokens])
        columns: dict[str, Any] = {"row_id": row_ids.filter(kept), "loss": losses[good], "n_tokens": n_tokens[good]}
        for kind in self.kinds:
            codes = quantise(features[kind][good] / norms[kind][good, None], self.bits)
            columns[f"codes_{kind}"] = to_bytes(codes, self.bits)
            columns[f"norm_{kind}"] = norms[kind][good]
        contract = vectors_of(self.kinds)
        draft.write(contract, pl.DataFrame(columns, schema_overrides=contract.schema))
        reasons = pl.Series("reason", np.where(finite, ZERO_GRADIENT, NOT_FINITE)[~good], dtype=pl.String)
        draft.write(SET_ASIDE, pl.DataFrame([row_ids.filter(~kept), reasons]).sort("row_id"))

    def _require_space(self, n_rows: int) -> None:
        """Refuse to start on rows whose vectors the disk cannot hold, with a tenth to spare."""
        needed = int(1.1 * STORED * n_rows * len(self.kinds) * self.sketch_dim * self.bits / 8)
        self.place.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.place).free
        if free < needed:
            raise StoreError(
                f"{self.place}: {n_rows} rows need {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; "
                "free space or set G2IS_HOME to another disk"
            )


def _in_shards(batches: Batches, shard_rows: int) -> list[Batches]:
    """Batches in their order, as many together as fill a shard."""
    shards: list[Batches] = []
    for batch in batches:
        if not shards or sum(map(len, shards[-1])) >= shard_rows:
            shards.append([])
        shards[-1].append(batch)
    return shards


def _rows(made_by: Recipe | Manifest) -> set[str]:
    return {row for batch in made_by.settings["batches"] for row in batch}


def _index(shards: Iterable[Version], wanted: Mapping[str, int]) -> tuple[pl.DataFrame, dict[str, str], list[Version]]:
    """Where the wanted rows stand, which were set aside and why, and the shards that say so."""
    tables, serving = [pl.DataFrame(schema=INDEX.schema)], []
    set_aside: dict[str, str] = {}
    for shard in shards:
        if _rows(shard.manifest).isdisjoint(wanted):
            continue
        table = read_parquet(shard.folder / VECTORS.file, columns=["row_id", "loss", "n_tokens"]).with_columns(
            pl.int_range(pl.len(), dtype=pl.Int64).alias("position"),
            pl.lit(shard.name).alias("shard"),
            pl.lit(shard.manifest.files[VECTORS.file].sha256).alias("sha256"),
        )
        # An erased row keeps its place, so that the others keep theirs, but has no vector.
        tables.append(table.filter(~pl.col("row_id").is_in(list(erased_rows(shard.folder)))).select(*INDEX.columns))
        aside = dict(read_parquet(shard.folder / SET_ASIDE.file).iter_rows())
        set_aside |= {row: reason for row, reason in aside.items() if row in wanted}
        serving.append(shard)
    # A row may stand in two shards after a repair that was killed; the first one serves.
    found = pl.concat(tables).unique("row_id", keep="first", maintain_order=True)
    order = pl.DataFrame({"row_id": list(wanted)}, schema={"row_id": pl.String})
    index = order.join(found, on="row_id", how="inner", maintain_order="left").select(*INDEX.columns)
    return index, {row: set_aside[row] for row in wanted if row in set_aside}, serving
