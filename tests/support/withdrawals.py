"""One project in which rows are withdrawn, leave by a refresh and are erased; and all that a lake holds in the end."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from click.testing import Result

from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.store.lake import Lake
from g2is_assets.store.versions import assets_of, partitions_of
from support.commands import g2is
from support.projects import DOMAINS, lake_of, rows_of
from support.runs import computed, run

REASON = "asked by its author"


@dataclass
class Outcome:
    """What the runs of one refresh did: whether each asset did work, and which checks failed how."""

    computed: dict[str, bool]
    failed: dict[str, dg.AssetCheckSeverity]


def refresh(settings: Path, instance: dg.DagsterInstance, *, domains: bool = True, **ops: object) -> Outcome:
    results = [run(settings, instance, "refresh_pool", ops=ops)]
    results += [run(settings, instance, "refresh_domain", domain) for domain in DOMAINS if domains]
    checks = [check for result in results for check in result.get_asset_check_evaluations()]
    return Outcome(computed(*results), {check.check_name: check.severity for check in checks if not check.passed})


def vectors_of(lake: Lake, row: str) -> list[np.ndarray]:
    """Every vector that a store has of a row."""
    found = []
    for file in lake.root.glob("vectors/shard/*/*/vectors.parquet"):
        part = pl.read_parquet(file).filter(pl.col("row_id") == row)
        names = [name for name in part.columns if name.startswith("codes_")]
        found += [np.frombuffer(codes, np.int8) for name in names for codes in part[name]]
    return found


def strings_of(value: Any) -> Iterator[str]:
    """Every string in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings_of(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from strings_of(part)


def all_strings(lake: Lake) -> set[str]:
    """Every string in every Parquet file below the lake."""
    return {
        text
        for file in lake.root.rglob("*.parquet")
        for row in pl.read_parquet(file).select(~pl.selectors.numeric() & ~pl.selectors.array()).rows()
        for text in strings_of(row)
    }


def all_vectors(lake: Lake) -> Iterator[np.ndarray]:
    """Every (n, d) array of numbers that is stored below the lake."""
    for file in lake.root.rglob("*.parquet"):
        table = pl.read_parquet(file).select(pl.selectors.array())
        yield from (table[name].to_numpy() for name in table.columns)
    yield from (np.load(file) for file in lake.root.rglob("*.npy"))


@dataclass
class Story:
    """One project from its first refresh to the last, with what was seen on the way."""

    settings: Path
    in_subset: str
    in_sample: str
    own: str  # a validation row of `words`
    texts: list[str]
    ids: list[str]
    vectors: list[np.ndarray]
    n_pool: int
    withdrawn: list[dict[str, Any]]
    refused: Result
    refreshed: Outcome
    dry: dict[str, Any]
    before_erasure: dict[str, str]
    erased: dict[str, Any]
    after: Outcome

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys([self.in_subset, self.in_sample, self.own]))


def payload_versions(lake: Lake) -> dict[str, str]:
    """Data version of every current version."""
    return {
        f"{asset}[{p}]": lake.current(asset, p).manifest.data_version
        for asset in assets_of(lake)
        for p in partitions_of(lake, asset)
        if lake.find(asset, p)
    }


def tell(settings: Path, instance: dg.DagsterInstance) -> Story:
    """Withdraw three rows of a refreshed project, refresh it, erase them, refresh it again."""
    lake = lake_of(settings)
    pool = lake.current("instructions/pool").read(POOL)
    target = lake.current("instructions/target", "words").read(TARGET)
    sample = rows_of(lake.current("warmup/sample"), "sample")
    in_sample = sample[0]
    subset = rows_of(lake.current("selection/subset", "sums"), "subset")
    in_subset = next(row for row in subset if row not in sample)
    own = target.filter(pl.col("split") == "validation")["row_id"][0]
    rows = [in_subset, in_sample, own]
    columns = ["row_id", "ids", "prompt", "response"]
    said = pl.concat([pool.select(columns), target.select(columns)]).filter(pl.col("row_id").is_in(rows))
    vectors = [vector for row in rows for vector in vectors_of(lake, row)]
    arguments = [part for row in rows for part in ("--row", row)]
    withdrawn = g2is(settings, "withdraw", *arguments, "--reason", REASON, "--by", "ann", "--json")
    erase = ["gc", *(part for row in rows for part in ("--erase", row))]
    refused = g2is(settings, *erase)
    refreshed = refresh(settings, instance)
    before = payload_versions(lake)
    dry = g2is(settings, *erase, "--dry-run", "--json")
    texts_before = all_strings(lake)
    erased = g2is(settings, *erase, "--json")
    assert (withdrawn.exit_code, dry.exit_code, erased.exit_code) == (0, 0, 0), erased.output
    assert set(said["prompt"]) <= texts_before  # else their absence later would prove nothing
    return Story(
        settings=settings,
        in_subset=in_subset,
        in_sample=in_sample,
        own=own,
        texts=[*said["prompt"], *said["response"]],
        ids=said["ids"].explode().to_list(),
        vectors=vectors,
        n_pool=len(pool),
        withdrawn=json.loads(withdrawn.output),
        refused=refused,
        refreshed=refreshed,
        dry=json.loads(dry.output),
        before_erasure=before,
        erased=json.loads(erased.output),
        after=refresh(settings, instance),
    )
