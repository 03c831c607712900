"""A version of an asset, the draft that becomes one, and the recipe that says what determines it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from g2is_assets.contracts.contract import Contract
from g2is_assets.errors import StoreError
from g2is_assets.hashing import known_sha256
from g2is_assets.store.files import read_parquet
from g2is_assets.store.manifest import MANIFEST, Input, Manifest, input_digest
from g2is_assets.store.tombstones import expected_files

Metric = int | float | str


@dataclass(frozen=True)
class Version:
    """One materialised version of an asset."""

    folder: Path
    manifest: Manifest

    @property
    def as_input(self) -> Input:
        """How a downstream manifest names this version."""
        return Input(data_version=self.manifest.data_version, manifest_sha256=known_sha256(self.folder / MANIFEST))

    def as_input_of(self, name: str) -> Input:
        """The same under an input's name: where that names one table, its content alone counts."""
        table = name.split("/")[2:]
        if not table or "[" in name:
            return self.as_input
        content = self.manifest.files[f"{table[0]}.parquet"].sha256
        return self.as_input.model_copy(update={"data_version": content})

    @property
    def name(self) -> str:
        """What its content and recipe are called: the folder's name, but for a copy made in place of a damaged one."""
        return f"{self.manifest.input_digest[:12]}-{self.manifest.data_version[:12]}"

    @property
    def part_name(self) -> str:
        """How the manifest of a version that is made of this one names it."""
        return f"{self.manifest.asset}/{self.name}[{self.manifest.partition}]"

    def read(self, contract: Contract) -> pl.DataFrame:
        """Read a table and hold it to its digest and its contract.

        Raises:
            StoreError: The file is missing, or its bytes are not those that were written.
            ContractError: It breaks the contract.
        """
        file = self.folder / contract.file
        table = read_parquet(file)
        record = expected_files(self.folder, self.manifest).get(file.name)
        if record is None or known_sha256(file) != record.sha256:
            raise StoreError(f"{file} is damaged: its digest differs from the manifest; materialise again")
        return contract.validate(table, where=str(self.folder))


def asset_of(name: str) -> str:
    """The asset that an input's or part's name speaks of.

    `graph/neighbors/groups` names a table, `study/score[a.b]` a partition, `vectors/shard/0123-4567[89ab]` a version.
    """
    return "/".join(name.partition("[")[0].split("/")[:2])


def partition_of(name: str) -> str | None:
    """The partition that it names, if it does."""
    return name.partition("[")[2].removesuffix("]") or None


class Draft:
    """A version being written: tables and files under a temporary name."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self.folder, self.run_id = folder, run_id
        self.parts: dict[str, Input] = {}
        self.metrics: dict[str, Metric] = {}
        self.n_rows: dict[str, int] = {}

    def write(self, contract: Contract, table: pl.DataFrame) -> None:
        """Write a table that keeps its contract.

        Raises:
            ContractError: It does not; then nothing of this version remains.
        """
        contract.write(contract.validate(table), self.folder / contract.file)
        self.n_rows[contract.table] = len(table)

    def made_of(self, parts: Iterable[Version]) -> None:
        """Record versions of which this one is made: as long as it is kept, they are."""
        self.parts |= {part.part_name: part.as_input for part in parts}

    def metric(self, **values: Metric) -> None:
        """Record numbers for people: shown in the UI, kept in the manifest, no part of the data version.

        Raises:
            StoreError: A number is not finite, which JSON cannot hold.
        """
        bad = [name for name, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
        if bad:
            raise StoreError(f"metrics that are not finite: {', '.join(bad)}")
        self.metrics |= values


@dataclass(frozen=True)
class Recipe:
    """What determines a version: which asset, made by which code, with which settings, from which inputs.

    `follows_inputs = False` keeps changed inputs from making the version stale: it is remade on request only.
    `versions` are the inputs that are assets, for whoever follows the recipe to read: `inputs` only names them.
    """

    asset: str
    partition: str | None
    code_version: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Input] = field(default_factory=dict)
    follows_inputs: bool = True
    versions: Mapping[str, Version] = field(default_factory=dict, repr=False, compare=False)

    @property
    def input_digest(self) -> str:
        """SHA-256 of everything that the payload may depend on."""
        inputs = self.inputs if self.follows_inputs else {}
        return input_digest(self.asset, self.partition, self.code_version, self.settings, inputs)
