"""The gradient store: content-addressed shards of sketched gradients, computed once per row and settings.

A store folder holds vectors made with one set of settings, written in `store.json`; its name is their digest. A shard
is a Parquet file with a JSON record beside it (SHA-256, row ids, rows set aside), both renamed into place, the record
last. A shard without a whole record, or whose bytes differ from it, does not count, and its rows are computed again.
"""

import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts import gradients as contracts
from g2is_assets.errors import StoreError
from g2is_assets.hashing import file_sha256, json_sha256, known_sha256
from g2is_assets.store.files import read_parquet, write_atomically, writing
from g2is_assets.store.mapped import MAPPED

STORE: Final = "_store"
"""Folder of an asset that holds its stores; no domain can have this name."""

ZERO_GRADIENT: Final = "zero gradient"
NOT_FINITE: Final = "gradient or loss is not finite"
ERASED_ROW: Final = "erased"
"""Reason of a row whose vector was erased on request; see `storage.erasure`."""


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


def store_name(settings: Mapping[str, Any]) -> str:
    """Name of the store's folder for these settings."""
    return json_sha256(json.loads(json.dumps(dict(settings))))[:16]


class GradientStore:
    """Shards of one address."""

    def __init__(self, root: Path, settings: Mapping[str, Any]) -> None:
        """Open or start the store for these settings.

        Args:
            root: Folder of all stores of one asset.
            settings: Everything that determines a row's vector, besides the row itself; must hold `kinds` and
                `sketch_dim`.

        Raises:
            StoreError: The folder was made with other settings, which the message lists.
        """
        self.settings = json.loads(json.dumps(dict(settings)))
        self.kinds: list[str] = list(settings["kinds"])
        self.sketch_dim: int = settings["sketch_dim"]
        self.folder = root / store_name(self.settings)
        record = self.folder / "store.json"
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        if not record.exists():
            write_atomically(record, json.dumps(self.settings, indent=2, sort_keys=True) + "\n")
            return
        found = _read_json(record)
        if found != self.settings:
            names = found.keys() | self.settings.keys()
            differing = sorted(name for name in names if found.get(name) != self.settings.get(name))
            raise StoreError(f"{self.folder} was made with other settings: {', '.join(differing)}; move it away")

    def read_index(self) -> tuple[pl.DataFrame, dict[str, str], list[str]]:
        """Rows with vectors, rows set aside with their reason, and names of damaged shards, all digests checked."""
        index, set_aside, damaged = self._read_shards()
        # A row may stand in two shards after a repair or an erasure that was killed; the first one serves.
        return index.unique("row_id", keep="first", maintain_order=True), set_aside, damaged

    def holds(self, index: pl.DataFrame) -> bool:
        """Whether every row of an index still stands, in a whole shard, where it says."""
        found, _, _ = self._read_shards()
        where = ["row_id", "shard", "position", "sha256"]
        return len(index.join(found, on=where, how="semi")) == len(index)

    def _read_shards(self) -> tuple[pl.DataFrame, dict[str, str], list[str]]:
        """As `read_index`, but every place of a row that stands in several shards."""
        tables = [pl.DataFrame(schema=contracts.INDEX.schema)]
        set_aside: dict[str, str] = {}
        damaged: list[str] = []
        for file in sorted(self.folder.glob("*.shard.json")):
            name = file.name.removesuffix(".shard.json")
            try:
                record = _read_json(file)
                if known_sha256(self.folder / f"{name}.parquet") != record["sha256"]:
                    raise StoreError(f"{name}: digest differs")
                table = read_parquet(self.folder / f"{name}.parquet", columns=["row_id", "loss", "n_tokens"])
                aside = _set_aside(record)
                erased = [row for row, reason in aside.items() if reason == ERASED_ROW]
                set_aside |= aside
            except (StoreError, OSError, KeyError, TypeError):
                damaged.append(name)
                continue
            position = pl.int_range(len(table), dtype=pl.Int64).alias("position")
            table = table.with_columns(position, shard=pl.lit(name), sha256=pl.lit(record["sha256"]))
            # An erased row keeps its place, so that the others keep theirs, but has no vector.
            tables.append(table.filter(~pl.col("row_id").is_in(erased)).select(*contracts.INDEX.columns))
        return pl.concat(tables), set_aside, damaged

    def require_space(self, n_rows: int) -> None:
        """Refuse to start on rows whose vectors the disk cannot hold.

        Raises:
            StoreError: Less space is free than the vectors take, with a tenth to spare.
        """
        needed = int(1.1 * n_rows * len(self.kinds) * self.sketch_dim * 2)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise StoreError(
                f"{self.folder}: {n_rows} rows need {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; "
                "free space or set G2IS_HOME to another disk"
            )

    def remove(self, shards: Sequence[str]) -> None:
        """Delete shards with their records and mapped copies."""
        for name in shards:
            for file in shard_files(self.folder, name):
                with writing(file):
                    file.unlink(missing_ok=True)

    def plan(
        self, wanted: Iterable[str], batches: Sequence[Sequence[str]], shard_rows: int, batch_tokens: int = 0
    ) -> list["Shard"]:
        """Fix which batches form which shard before the first is computed; an unfinished plan for these rows goes on.

        Args:
            wanted: Rows of the whole materialisation; they identify the plan.
            batches: Rows still to compute, batch by batch.
            shard_rows: Rows from which a shard is full.
            batch_tokens: Setting behind the batches; another one is another plan.
        """
        # One file per set of rows: domains that share a store do not disturb each other's plans. It stays, so that a
        # shard damaged later is computed again as it was.
        file = self.folder / f"plan-{json_sha256([sorted(wanted), shard_rows, batch_tokens])[:16]}.json"
        if file.exists():
            shards = _read_plan(file)
            missing = {row for batch in batches for row in batch}
            touched = [shard for shard in shards if not missing.isdisjoint(shard.row_ids)]
            if missing == {
                row for shard in touched for row in shard.row_ids
            }:  # whole shards are missing, no part of one
                return touched
        shards = []
        for batch in batches:
            if not shards or sum(map(len, shards[-1].batches)) >= shard_rows:
                shards.append(Shard("", []))
            shards[-1].batches.append(list(batch))
        shards = [Shard(json_sha256(s.batches)[:16], s.batches) for s in shards]
        plan = {"shards": [{"name": s.name, "batches": s.batches} for s in shards]}
        write_atomically(file, json.dumps(plan) + "\n")
        return shards

    def write(self, name: str, parts: Sequence[Vectors]) -> int:
        """Write one shard; rows with a zero or non-finite gradient are recorded with their reason instead.

        Returns:
            Number of rows set aside.
        """
        row_ids = [row for part in parts for row in part.row_ids]
        if not row_ids:
            raise StoreError(f"{self.folder}: no vectors were computed for shard {name}")
        losses = np.concatenate([part.losses for part in parts]).astype(np.float64)
        n_tokens = [n for part in parts for n in part.n_tokens]
        features = {kind: np.concatenate([part.features[kind] for part in parts]) for kind in self.kinds}
        norms = {kind: np.linalg.norm(f.astype(np.float64), axis=1) for kind, f in features.items()}
        finite = np.isfinite(losses) & np.all([np.isfinite(norm) for norm in norms.values()], axis=0)
        nonzero = np.all([norm > 0 for norm in norms.values()], axis=0)
        good = finite & nonzero
        columns: dict[str, Any] = {
            "row_id": [row for row, keep in zip(row_ids, good, strict=True) if keep],
            "loss": losses[good],
            "n_tokens": [n for n, keep in zip(n_tokens, good, strict=True) if keep],
        }
        for kind in self.kinds:
            unit = features[kind][good] / norms[kind][good, None]
            columns[f"features_{kind}"] = unit.astype(np.float16)
            columns[f"norm_{kind}"] = norms[kind][good]
        contract = contracts.shard(self.kinds)
        path = self.folder / f"{name}.parquet"
        scratch = self.folder / f".{uuid.uuid4().hex}.parquet"
        table = pl.DataFrame(columns, schema_overrides=contract.schema_of_width(self.sketch_dim))
        contract.validate(table)
        with writing(path):
            try:
                table.write_parquet(scratch, compression="uncompressed", statistics=False)
                scratch.replace(path)
            finally:
                scratch.unlink(missing_ok=True)
        set_aside = {
            row: NOT_FINITE if not ok else ZERO_GRADIENT
            for row, ok, keep in zip(row_ids, finite, good, strict=True)
            if not keep
        }
        record = {"sha256": file_sha256(path), "n_rows": len(table), "set_aside": set_aside}
        write_atomically(self.folder / f"{name}.shard.json", json.dumps(record, sort_keys=True) + "\n")
        return len(set_aside)


@dataclass(frozen=True)
class Filled:
    """What `fill_store` found and did.

    Attributes:
        index: Contract `INDEX`: the wanted rows that have vectors, in the order wanted.
        set_aside: Wanted rows without vectors, with the reason.
        n_computed: Rows computed now.
        n_tokens_computed: Their tokens.
        n_damaged_shards: Shards that were damaged and computed again.
    """

    index: pl.DataFrame
    set_aside: dict[str, str]
    n_computed: int
    n_tokens_computed: int
    n_damaged_shards: int


def fill_store(
    store: GradientStore,
    wanted: Mapping[str, int],
    plan_batches: Callable[[Sequence[int]], list[list[int]]],
    compute: Callable[[Iterable[list[str]]], Iterator[Vectors]],
    shard_rows: int,
    batch_tokens: int = 0,
) -> Filled:
    """Compute exactly the wanted rows that the store lacks, shard by shard, and index all of them.

    Killed at any moment, the next call loses at most one shard and follows the same plan to the same bytes.

    Args:
        store: The open store.
        wanted: Token count by row id, in the order of the instructions table.
        plan_batches: Groups positions of rows by their token counts.
        compute: Vectors of each batch of row ids, in order; called once, and only if a row is missing.
        shard_rows: Rows from which a shard is full.
        batch_tokens: Setting behind `plan_batches`; another one is another plan.
    """
    index, set_aside, damaged = store.read_index()
    store.remove(damaged)
    have = set(index["row_id"]) | set_aside.keys()
    missing = [row for row in wanted if row not in have]
    n_computed = n_tokens = 0
    if missing:
        positions = plan_batches([wanted[row] for row in missing])
        shards = store.plan(wanted, [[missing[i] for i in batch] for batch in positions], shard_rows, batch_tokens)
        batches = [batch for shard in shards for batch in shard.batches]
        store.require_space(sum(map(len, batches)))
        vectors = compute(batches)
        for shard in shards:
            store.write(shard.name, list(islice(vectors, len(shard.batches))))
        if next(vectors, None) is not None:  # asked once more, so that progress and worker close
            raise StoreError(f"{store.folder}: more vectors than batches were computed")
        n_computed, n_tokens = sum(map(len, batches)), sum(wanted[row] for batch in batches for row in batch)
        index, set_aside, _ = store.read_index()
    order = pl.DataFrame({"row_id": list(wanted)}, schema={"row_id": pl.String})
    return Filled(
        index=order.join(index, on="row_id", how="inner", maintain_order="left").select(*contracts.INDEX.columns),
        set_aside={row: set_aside[row] for row in wanted if row in set_aside},
        n_computed=n_computed,
        n_tokens_computed=n_tokens,
        n_damaged_shards=len(damaged),
    )


@dataclass(frozen=True)
class Shard:
    """A planned shard: its name, which is the digest of its batches, and their row ids."""

    name: str
    batches: list[list[str]]

    @property
    def row_ids(self) -> list[str]:
        """All rows, in the order in which they are computed."""
        return [row for batch in self.batches for row in batch]


def shard_files(folder: Path, name: str) -> list[Path]:
    """A shard's files in the order of deletion: the record first, so that it never seems whole while it goes."""
    files = [folder / f"{name}.shard.json", folder / f"{name}.parquet"]
    return [file for file in files if file.exists()] + sorted((folder / MAPPED).glob(f"{name}.*"))


def _set_aside(record: Mapping[str, Any]) -> dict[str, str]:
    """Rows that a shard's record sets aside, with their reasons."""
    found = record["set_aside"]
    if not isinstance(found, dict) or not all(isinstance(reason, str) for reason in found.values()):
        raise TypeError
    return found


def _read_plan(file: Path) -> list[Shard]:
    try:
        shards = [Shard(str(shard["name"]), shard["batches"]) for shard in _read_json(file)["shards"]]
        if all(isinstance(row, str) for shard in shards for row in shard.row_ids):
            return shards
    except (KeyError, TypeError):
        pass
    raise StoreError(f"{file} is damaged: no plan of shards; delete it and materialise again")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged: {error}; delete it and materialise again") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} is damaged: not a JSON object; delete it and materialise again")
    return value
