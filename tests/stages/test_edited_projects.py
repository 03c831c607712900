"""Edits of pool, domains and settings, refreshed for real: what is made anew, and what becomes of the rows."""

import json
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from g2is_assets.cli.checkup import check_warmup
from g2is_assets.contracts.warmup import SAMPLE
from g2is_assets.settings.project import load_project
from g2is_assets.stages.checks import EXAMINED, checked
from g2is_assets.stages.frame import stage_of
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Lake
from support.projects import DOMAINS
from support.runs import computed, run, run_all

MakeProject = Callable[..., Path]


def test_a_grown_pool_computes_only_its_new_rows_and_keeps_the_checkpoint(
    built: Path, instance: dg.DagsterInstance
) -> None:
    lake = Lake(built.parent / "lake")
    checkpoint = lake.current("warmup/checkpoint").manifest.data_version
    more = built.parent / "pool" / "more.jsonl"
    more.write_text(
        "".join(json.dumps({"instruction": f"Name number {n}.", "output": f"It is {n}."}) + "\n" for n in range(3))
    )
    result = run(built, instance, "refresh_pool")
    assert result.success
    gradients = lake.current("gradients/pool").manifest
    assert (gradients.metrics["n_computed"], gradients.metrics["n_reused"]) == (3, 40)
    assert gradients.n_rows["index"] == 43
    assert lake.current("warmup/checkpoint").manifest.data_version == checkpoint
    more.unlink()
    run(built, instance, "refresh_pool")
    assert lake.current("gradients/pool").manifest.n_rows["index"] == 40


def test_a_warmup_that_does_not_stand_for_the_pool_is_told_and_a_redraw_on_request_draws_from_the_pool_as_it_is(
    built: Path, instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "g2is_assets")
    lake = Lake(built.parent / "lake")
    before = set(lake.current("warmup/sample").read(SAMPLE)["row_id"])
    with (built.parent / "pool" / "sums.jsonl").open("a") as file:
        file.writelines(json.dumps({"prompt": f"Say {n}.", "response": str(n)}) + "\n" for n in range(60))
    checks = run(built, instance, "refresh_pool").get_asset_check_evaluations()
    assert set(lake.current("warmup/sample").read(SAMPLE)["row_id"]) == before
    stale = next(check for check in checks if check.check_name == "sample_stands_for_the_pool")
    assert not stale.passed
    said = "the sample has 8 rows, `share` asks for 20 of 100; 0 have left the pool; a new warmup is due: "
    said += "`g2is refresh --all --redraw-warmup`"
    assert said in str(stale.description)
    assert said in caplog.text
    workspace = Workspace(load_project(built))
    places = {"project": None, "domain": "sums"}
    versions = {e.asset: lake.current(e.asset, places[stage_of(e.asset).partition]) for e in EXAMINED}
    shown = checked(workspace, versions)
    assert [check.said for check in shown if check.name == stale.check_name] == [said]
    assert [(found.state, found.said) for found in check_warmup(workspace.project)] == [("warning", said)]
    run(built, instance, "refresh_pool", ops={"warmup__sample": {"config": {"redraw": True}}})
    assert list(check_warmup(workspace.project)) == []
    after = set(lake.current("warmup/sample").read(SAMPLE)["row_id"])
    assert len(after) == 20
    assert after != before
    run(built, instance, "refresh_pool")
    assert set(lake.current("warmup/sample").read(SAMPLE)["row_id"]) == after


def test_another_sketch_makes_everything_behind_it_anew(built: Path, instance: dg.DagsterInstance) -> None:
    lake = Lake(built.parent / "lake")
    before = lake.current("gradients/pool").manifest
    built.write_text(built.read_text().replace("[gradients]", "[gradients]\nseed = 1"))
    done = computed(*run_all(built, instance, "sums"))
    assert {name for name, value in done.items() if not value} == {
        "instructions/pool",
        "warmup/sample",
        "warmup/checkpoint",
        "instructions/target[sums]",
    }
    after = lake.current("gradients/pool").manifest
    assert after.metrics["n_computed"] == 40
    assert after.data_version != before.data_version


def test_the_domains_own_rows_in_the_pool_are_never_trained_on(built: Path, instance: dg.DagsterInstance) -> None:
    files = [built.parent / "domains" / "sums" / f"{split}.jsonl" for split in ("validation", "test")]
    (built.parent / "pool" / "leak.jsonl").write_text("".join(file.read_text() for file in files))
    (built.parent / "domains" / "sums" / "domain.toml").write_text("budget = 30\n")
    run(built, instance, "refresh_pool")
    run(built, instance, "refresh_domain", "sums")
    lake = Lake(built.parent / "lake")
    target = pl.read_parquet(lake.current("instructions/target", "sums").folder / "target.parquet")
    subset = lake.current("selection/subset", "sums")
    chosen = set(pl.read_parquet(subset.folder / "subset.parquet")["row_id"])
    drawn = set(pl.read_parquet(lake.current("finetune/baseline", "sums").folder / "rows.parquet")["row_id"])
    excluded = pl.read_parquet(subset.folder / "excluded.parquet")
    assert set(excluded.filter(pl.col("reason") == "equal")["row_id"]) == set(target["row_id"])
    assert (chosen | drawn).isdisjoint(target["row_id"])
    assert len(chosen) > 12


def test_a_domain_without_test_rows_is_scored_on_validation_and_says_so(
    copy: Path, instance: dg.DagsterInstance
) -> None:
    (copy.parent / "domains" / "sums" / "test.jsonl").unlink()
    run_all(copy, instance, "sums")
    metrics = Lake(copy.parent / "lake").current("finetune/evaluation", "sums").manifest.metrics
    assert metrics["split"] == "validation"


def test_duplicates_are_merged_with_all_sources_and_counted(
    make_project: MakeProject, instance: dg.DagsterInstance
) -> None:
    settings = make_project()
    rows = (settings.parent / "pool" / "sums.jsonl").read_text().splitlines()
    copies = [json.loads(row) | {"id": None, "source": "copy", "license": "MIT"} for row in rows[:4]]
    (settings.parent / "pool" / "copy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in copies))
    with (settings.parent / "pool" / "sums.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "Yes or no?", "response": "Yes.", "answer": "Yes", "choices": ["Yes", "No"]}))
    run(settings, instance, "refresh_pool")
    version = Lake(settings.parent / "lake").current("instructions/pool")
    pool = pl.read_parquet(version.folder / "pool.parquet")
    assert pool.filter(pl.col("answer") == "Yes")["choices"].to_list() == [["Yes", "No"]]
    merged = pool.filter(pl.col("n_merged") == 2)
    assert version.manifest.metrics["n_merged"] == 4
    assert len(pool) == 41
    assert merged["sources"].to_list() == [["copy", "sums"]] * 4
    assert merged["licenses"].to_list() == [["Apache-2.0", "MIT"]] * 4


def test_unusable_rows_are_set_aside_with_their_reason(make_project: MakeProject, instance: dg.DagsterInstance) -> None:
    settings = make_project()
    rows = [
        {"instruction": "Say nothing.", "output": " "},
        {"instruction": "word " * 200, "output": "lost"},
        {"messages": [{"role": "user", "content": "hello"}]},
        {
            "messages": [
                {"role": "user", "content": "What time is it?"},
                {"role": "assistant", "content": "", "tool_calls": [{"name": "clock", "arguments": {}}]},
                {"role": "tool", "content": "noon"},
                {"role": "assistant", "content": "word " * 200},
            ],
            "tools": [{"name": "clock"}],
        },
    ]
    (settings.parent / "pool" / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(settings, instance, "refresh_pool")
    version = Lake(settings.parent / "lake").current("instructions/pool")
    rejected = pl.read_parquet(version.folder / "rejected.parquet")
    metrics = version.manifest.metrics
    assert (metrics["n_rejected"], metrics["n_truncated"], metrics["n_lost"]) == (3, 1, 1)
    assert rejected["line"].to_list() == [1, 2, 3]
    assert [reason.split(":")[0] for reason in rejected["reason"]] == [
        "empty response",
        "no response left",
        "no response",
    ]


def test_an_override_of_one_domain_changes_that_domain_only(built: Path, instance: dg.DagsterInstance) -> None:
    (built.parent / "domains" / "sums" / "domain.toml").write_text("budget = 2\n[finetune]\nseed = 7\n")
    done = computed(*run_all(built, instance, *DOMAINS))
    assert {name for name, value in done.items() if value} == {
        "selection/subset[sums]",
        "finetune/adapter[sums]",
        "finetune/baseline[sums]",
        "finetune/evaluation[sums]",
        "audit/lineage[sums]",
        "audit/report[sums]",
    }
    assert Lake(built.parent / "lake").current("selection/subset", "sums").manifest.n_rows["subset"] == 2
