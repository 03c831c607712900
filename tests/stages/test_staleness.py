"""Staleness as an owner meets it: who is stale after which edit, and because of what."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
import pytest

from g2is_assets.contracts.audit import STALENESS
from g2is_assets.settings.project import load_project
from g2is_assets.stages import frame
from g2is_assets.stages import staleness as module
from g2is_assets.stages.catalog import refreshed
from g2is_assets.stages.stage import PROJECT
from g2is_assets.stages.staleness import staleness
from g2is_assets.stages.workspace import Workspace
from support.rows import arithmetic_row, write_jsonl
from support.runs import run

MakeProject = Callable[..., Path]


def look(settings: Path) -> pl.DataFrame:
    return STALENESS.validate(staleness(Workspace(load_project(settings))))


def states(settings: Path) -> dict[str, str]:
    """What is not current, by asset and domain."""
    found = look(settings).filter(pl.col("state") != "current")
    return {
        f"{row['asset']}[{row['domain']}]" if row["domain"] else row["asset"]: row["state"]
        for row in found.iter_rows(named=True)
    }


def reason(settings: Path, asset: str, domain: str | None = None) -> dict[str, object]:
    found = look(settings).filter((pl.col("asset") == asset) & pl.col("domain").eq_missing(domain))
    return found.row(0, named=True)


def test_all_is_missing_before_and_current_after_a_refresh(make_project: MakeProject, built: Path) -> None:
    empty = look(make_project("empty"))
    assert (set(empty["state"]), set(empty["stale"]), len(empty)) == ({"missing"}, {True}, 5 + 9 * 2)
    full = look(built)
    assert (set(full["state"]), set(full["stale"]), full["reason"].null_count()) == ({"current"}, {False}, len(full))


def test_only_the_domain_whose_settings_changed_is_stale_and_only_from_there_on(built: Path) -> None:
    (built.parent / "domains" / "sums" / "domain.toml").write_text("budget = 0.1\n")
    assert states(built) == {
        "selection/subset[sums]": "stale",
        "finetune/adapter[sums]": "stale",
        "finetune/baseline[sums]": "stale",
        "finetune/evaluation[sums]": "stale",
        "audit/lineage[sums]": "stale",
        "audit/report[sums]": "stale",
    }
    subset, adapter = reason(built, "selection/subset", "sums"), reason(built, "finetune/adapter", "sums")
    assert (subset["reason"], subset["direct"]) == ("setting selection.budget 0.15 -> 0.1", True)
    assert (adapter["reason"], adapter["direct"]) == ("upstream selection/subset is stale", False)
    assert (adapter["input"], adapter["now"]) == ("selection/subset", None)


def test_a_pool_edit_makes_the_pool_stale_then_its_domains_but_not_the_warmup(
    built: Path, instance: dg.DagsterInstance
) -> None:
    write_jsonl(built.parent / "pool" / "sums.jsonl", [arithmetic_row(n) for n in range(21)])
    stale = states(built)
    assert set(stale.values()) == {"stale"}
    assert {"instructions/pool", "gradients/pool", "graph/neighbors", "selection/subset[words]"} <= stale.keys()
    kept = ("warmup/sample", "warmup/checkpoint", "gradients/target[sums]", "knowledge/components[words]")
    assert stale.keys().isdisjoint(kept)
    pool = reason(built, "instructions/pool")
    assert pool["input"] == "file:pool/sums.jsonl"
    assert pool["reason"] == (
        f"input file:pool/sums.jsonl is now version {str(pool['now'])[:12]}, made from {str(pool['made_from'])[:12]}"
    )
    assert reason(built, "selection/subset", "words")["direct"] is False
    run(built, instance, "refresh_pool")
    subset = reason(built, "selection/subset", "words")
    assert str(subset["reason"]).startswith("input gradients/pool is now version ")
    assert subset["direct"] is True
    assert not {"instructions/pool", "graph/neighbors"} & states(built).keys()
    with duckdb.connect(str(built.parent / "lake" / "g2is.duckdb"), read_only=True) as connection:
        seen = connection.sql("select asset from audit_staleness where direct and domain = 'words'").fetchall()
    assert ("selection/subset",) in seen


def test_files_that_come_and_go_and_settings_and_code_are_named(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (built.parent / "pool" / "words.jsonl").rename(built.parent / "pool" / "more.jsonl")
    assert reason(built, "instructions/pool")["reason"] == (
        "input file:pool/more.jsonl is new; input file:pool/words.jsonl is gone"
    )
    built.write_text(built.read_text().replace("share = 0.2", "share = 0.3"))
    assert reason(built, "warmup/sample")["reason"] == "setting warmup.share 0.2 -> 0.3"
    assert reason(built, "warmup/checkpoint")["reason"] == "upstream warmup/sample is stale"
    stage = replace(frame.stage_of("knowledge/components"), code_version="next")
    monkeypatch.setitem(frame._BY_KEY, stage.key, stage)
    assert reason(built, "knowledge/components", "sums")["reason"] == (
        "code version 3 -> next; upstream gradients/target is stale"
    )


def test_an_upstream_that_was_deleted_is_named(built: Path) -> None:
    shutil.rmtree(built.parent / "lake" / "warmup" / "sample")
    assert states(built)["warmup/sample"] == "missing"
    checkpoint = reason(built, "warmup/checkpoint")
    assert (checkpoint["state"], checkpoint["reason"]) == ("stale", "upstream warmup/sample is missing")


def test_what_cannot_be_told_is_unknown_and_hides_nothing_else(built: Path, instance: dg.DagsterInstance) -> None:
    (built.parent / "domains" / "sums" / "validation.jsonl").unlink()
    broken = reason(built, "instructions/target", "sums")
    assert (broken["state"], broken["stale"]) == ("unknown", False)
    assert "validation.jsonl is not there as a file" in str(broken["reason"])
    assert reason(built, "finetune/evaluation", "sums")["state"] == "unknown"
    assert not any("words" in name for name in states(built))
    run(built, instance, "refresh_domain", "words")
    (built.parent / "lake" / "graph" / "neighbors" / "current.json").write_text("{")
    assert "current.json is damaged" in str(reason(built, "graph/neighbors")["reason"])


def test_content_behind_a_uri_is_unknown_not_stale(built: Path) -> None:
    text = built.read_text()
    built.write_text(text.replace('["pool/*.jsonl"]', '["pool/*.jsonl", "https://example.org/rows.jsonl"]'))
    assert reason(built, "instructions/pool")["reason"] == (
        "input file:https://example.org/rows.jsonl is new; "
        'setting instructions.sources [{"license":null,"path":"pool/*.jsonl","source":null}] -> '
        '[{"license":null,"path":"pool/*.jsonl","source":null},'
        '{"license":null,"path":"https://example.org/rows.jsonl","source":null}]'
    )
    workspace = Workspace(load_project(built))
    recipe = frame._in_run(frame.recipe_of(workspace, "instructions/pool", PROJECT), "run 1")
    workspace.lake.make(recipe, "run 1", lambda draft: (draft.folder / "rows").write_text("as fetched"))
    pool = reason(built, "instructions/pool")
    assert (pool["state"], pool["stale"]) == ("unknown", False)
    assert pool["reason"] == "file:https://example.org/rows.jsonl is read again in every run"
    assert reason(built, "warmup/sample")["state"] == "current"
    (built.parent / "pool" / "words.jsonl").unlink()
    assert reason(built, "instructions/pool")["reason"] == "input file:pool/words.jsonl is gone"


def test_a_model_that_is_not_here_is_neither_fetched_nor_an_error(built: Path) -> None:
    text = built.read_text().splitlines(keepends=True)
    built.write_text("".join('model = "nobody/nothing-of-that-name"\n' if "model =" in line else line for line in text))
    pool = reason(built, "instructions/pool")
    assert pool["state"] == "unknown"
    assert "cannot be loaded" in str(pool["reason"])


def test_staleness_that_fails_lets_the_refresh_go_on(
    built: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_look", lambda *_: 1 / 0)
    run(built, instance, "refresh_domain", "sums")
    assert "audit_staleness: not up to date" in caplog.text


def test_every_asset_is_listed_after_what_it_is_made_from(built: Path) -> None:
    table = look(built)
    shared, own = ([stage.key for stage in refreshed(partition)] for partition in ("project", "domain"))
    assert table["asset"].to_list() == [*shared, *own, *own]
    assert table["domain"].to_list() == [None] * len(shared) + ["sums"] * len(own) + ["words"] * len(own)
