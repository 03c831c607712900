"""A licence that is denied keeps its rows out of all that is trained on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from g2is_assets.contracts.instructions import POOL, WITHHELD
from g2is_assets.errors import SourceError
from support.projects import DOMAINS, lake_of, rows_of
from support.runs import run
from support.withdrawals import (
    refresh,
)

MakeProject = Callable[..., Path]


def set_policy(settings: Path, policy: str) -> None:
    settings.write_text(settings.read_text() + f"[licenses]\n{policy}\n")


def set_licenses(settings: Path, licenses: dict[str, str | None]) -> None:
    """Other licences for rows, by the id that their source gave them."""
    for file in (settings.parent / "pool").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows:
            row["license"] = licenses.get(row["id"], row["license"])
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_denied_licence_keeps_a_row_out_of_all_that_is_trained_on(built: Path, instance: dg.DagsterInstance) -> None:
    settings, lake = built, lake_of(built)
    rows = lake.current("instructions/pool").read(POOL)
    ids = dict(rows.select("row_id", pl.col("ids").list.first()).iter_rows())
    in_sample = rows_of(lake.current("warmup/sample"), "sample")[0]
    denied = [in_sample, *[row for row in ids if row != in_sample][:2]]
    set_licenses(settings, {ids[denied[0]]: "GPL-3.0", ids[denied[1]]: " gpl-3.0 "})
    again = next(row for row in pool_lines(settings) if row["id"] == ids[denied[2]])
    again |= {"id": "copied", "license": "GPL-3.0"}
    (settings.parent / "pool" / "again.jsonl").write_text(json.dumps(again) + "\n")
    set_policy(settings, 'allow = ["MIT", "apache-2.0"]\nunknown = "deny"')
    outcome = refresh(settings, instance)
    version = lake.current("instructions/pool")
    withheld = version.read(WITHHELD)
    assert set(withheld["row_id"]) == set(denied)
    assert set(withheld["reason"]) == {"license"}
    merged = withheld.row(by_predicate=pl.col("row_id") == denied[2], named=True)
    assert (merged["licenses"], merged["detail"]) == (["Apache-2.0", "GPL-3.0"], "GPL-3.0")
    assert version.manifest.metrics["n_withheld_license"] == 3
    assert outcome.failed["sample_holds_no_withheld_row"] == dg.AssetCheckSeverity.ERROR
    after = refresh(settings, instance, domains=False, warmup__sample={"config": {"redraw": True}})
    assert "sample_holds_no_withheld_row" not in after.failed
    used = [("instructions/pool", None, "pool"), ("warmup/sample", None, "sample")]
    used += [(a, d, t) for d in DOMAINS for a, t in (("selection/subset", "subset"), ("finetune/baseline", "rows"))]
    for asset, domain, table in used:
        assert set(rows_of(lake.current(asset, domain), table)).isdisjoint(denied)


def pool_lines(settings: Path) -> list[dict[str, Any]]:
    files = sorted((settings.parent / "pool").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_without_a_policy_the_table_is_empty_and_an_unknown_licence_is_decided_on_explicitly(
    make_project: MakeProject, instance: dg.DagsterInstance
) -> None:
    settings = make_project()
    lake = lake_of(settings)
    set_licenses(settings, {"sums:0": None})
    pools = []
    for policy in (None, 'deny = ["GPL"]\nunknown = "allow"', 'deny = ["GPL"]\nunknown = "deny"'):
        if policy:
            settings.write_text(settings.read_text().split("[licenses]")[0])
            set_policy(settings, policy)
        run(settings, instance, "refresh_pool", asset_selection=[dg.AssetKey(["instructions", "pool"])])
        pools.append(lake.current("instructions/pool"))
    assert [len(pool.read(WITHHELD)) for pool in pools] == [0, 0, 1]
    assert pools[2].read(WITHHELD)["ids"].to_list() == [["sums:0"]]
    assert "licenses" not in pools[0].manifest.settings
    assert len({pool.manifest.input_digest for pool in pools}) == 3
    assert pools[0].manifest.data_version == pools[1].manifest.data_version != pools[2].manifest.data_version


def test_everything_withheld_is_one_clear_error(make_project: MakeProject, instance: dg.DagsterInstance) -> None:
    settings = make_project()
    set_policy(settings, 'deny = ["Apache-2.0"]\nunknown = "deny"')
    with pytest.raises(
        SourceError, match=r"the pool is empty: no usable row in .*40 withheld, see \[licenses\].*Apache"
    ):
        refresh(settings, instance, domains=False)
    assert not list((settings.parent / "lake" / "instructions").rglob("*.parquet"))
