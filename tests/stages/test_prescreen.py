"""The prescreen: which rows get gradients, what a refresh scores anew, and what is said of a row screened out."""

import re
import shutil
from pathlib import Path

import polars as pl
import polars.selectors as cs
import pytest

from g2is_assets.contracts.gradients import INDEX, SCREEN
from g2is_assets.contracts.selection import EXCLUDED, SCREENED_OUT, SUBSET
from g2is_assets.errors import SettingsError, SourceError, StoreError
from g2is_assets.reports.drawn import draw
from g2is_assets.settings.project import load_project
from g2is_assets.stages.catalog import refreshed as stages_of
from g2is_assets.stages.frame import make
from g2is_assets.stages.stage import PROJECT, Place
from g2is_assets.stages.staleness import staleness
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.erasure import erase
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version
from g2is_assets.store.views import rebuild_views
from support.commands import g2is
from support.projects import lake_of, payload, rows_of, write_project
from support.rows import arithmetic_row, write_jsonl
from support.runs import refresh
from support.shared import copied

WAYS = ("bm25", "embedding", "early_exit")


def screen(settings: Path, by: str = "bm25", keep: float = 0.4, budget: str = "0.15") -> Path:
    """Have the settings say so."""
    text = re.sub(r"\n\[gradients.prescreen\][^[]*", "\n", settings.read_text())
    text = re.sub(r"budget = .*", f"budget = {budget}", text)
    settings.write_text(f'{text.rstrip()}\n[gradients.prescreen]\nby = "{by}"\nkeep = {keep}\n')
    return settings


def selected(settings: Path, *domains: str) -> Lake:
    """Bring the pool up to date, and domains up to their subsets."""
    workspace = Workspace(load_project(settings))
    for stage in stages_of("project"):
        make(workspace, stage.key, PROJECT, "run")
    for domain in domains:
        for key in ("instructions/target", "gradients/target", "selection/subset"):
            make(workspace, key, Place(domain), "run")
    return workspace.lake


def pool_of(lake: Lake) -> Version:
    return lake.current("gradients/pool")


def subset_of(lake: Lake, domain: str) -> pl.DataFrame:
    return lake.current("selection/subset", domain).read(SUBSET)


@pytest.fixture(scope="module")
def story(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of the domain `sums`, with BM25 and 0.4 of the pool kept; not to be changed."""
    settings = screen(write_project(tmp_path_factory.mktemp("screened") / "project", tiny_model))
    shutil.move(settings.parent / "domains" / "words", settings.parent / "words")
    selected(settings, "sums")
    return settings


@pytest.fixture
def screened(story: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return copied(story, tmp_path / "screened")


@pytest.mark.parametrize("by", WAYS)
def test_where_all_rows_are_kept_all_is_as_without_a_prescreen(by: str, copy: Path) -> None:
    before = payload(copy.parent / "lake")
    lake = selected(screen(copy, by, keep=1.0), "sums")
    after = payload(copy.parent / "lake")
    new = {name for name in after.keys() - before.keys() if not name.startswith("vectors/shard")}
    assert new == {"gradients/pool/screen.parquet"}
    assert {name: after[name] for name in before} == before
    assert pool_of(lake).manifest.metrics["n_computed"] == 0
    assert pool_of(lake).manifest.metrics["share_computed"] == 1.0


def test_of_forty_rows_the_sixteen_best_are_computed_and_only_they_are_chosen_from(story: Path) -> None:
    lake = lake_of(story)
    table, index = pool_of(lake).read(SCREEN), pool_of(lake).read(INDEX)
    kept = table.filter("kept")
    assert (len(table), len(kept)) == (40, 16)
    assert kept["score"].min() >= table.filter(~pl.col("kept"))["score"].max()
    assert table.sort("rank")["rank"].to_list() == list(range(1, 41))
    assert index["row_id"].to_list() == [
        row for row in rows_of(lake.current("instructions/pool"), "pool") if row in kept["row_id"]
    ]
    assert set(rows_of(lake.current("graph/neighbors"), "groups")) == set(kept["row_id"])
    subset, excluded = subset_of(lake, "sums"), lake.current("selection/subset", "sums").read(EXCLUDED)
    assert len(subset) == 6  # 0.15 of the pool, not of what was kept
    assert set(subset["row_id"]) <= set(kept["row_id"])
    assert set(excluded.filter(reason=SCREENED_OUT)["row_id"]) == set(table.filter(~pl.col("kept"))["row_id"])
    metrics = pool_of(lake).manifest.metrics
    assert (metrics["n_screened"], metrics["n_scored"], metrics["share_computed"]) == (24, 40, 0.4)


def test_an_early_exit_passes_half_of_two_layers_and_is_counted_apart(screened: Path) -> None:
    lake = selected(screen(screened, "early_exit"))
    metrics, n_tokens = pool_of(lake).manifest.metrics, lake.current("instructions/pool").manifest.metrics["n_tokens"]
    assert metrics["n_tokens_prescreen"] > n_tokens  # also those of the domain's rows
    assert (
        0
        < metrics["n_flop_prescreen"] / metrics["n_tokens_prescreen"]
        < metrics["n_flop"] / metrics["n_tokens_computed"]
    )
    rebuild_views(lake)
    told = g2is(screened, "sql", "--csv", "SELECT count(*), count(codes_adam) FROM gradients_pool_vectors")
    assert len({*told.output.splitlines()[-1].split(",")}) == 1, told.output  # none of an early exit
    assert draw(lake, pool_of(lake)).keys() == {"vectors", "time"}
    again = selected(screen(screened, "early_exit", keep=0.5))
    assert pool_of(again).manifest.metrics["n_tokens_prescreen"] == 0
    assert pool_of(again).manifest.metrics["n_scored"] == 0


def test_why_says_of_a_row_that_it_was_screened_out_with_score_and_place(story: Path) -> None:
    table = pool_of(lake_of(story)).read(SCREEN)
    row = table.filter(rank=20).row(0, named=True)
    told = g2is(story, "why", "sums", row["row_id"])
    assert told.exit_code == 0, told.output
    said = " ".join(told.output.split())
    lowest = table.filter(rank=16)["score"][0]
    assert (
        f"screened out. Its score by bm25, {row['score']:.4f}, is the 20th of 40; the best 16, down to {lowest:.4f}"
        in said
    )
    assert '"rank": 20' in g2is(story, "why", "sums", row["row_id"], "--json").output


def test_a_new_row_scores_itself_alone(screened: Path) -> None:
    before = pool_of(lake_of(screened)).read(SCREEN)
    with (screened.parent / "pool" / "words.jsonl").open("a") as file:
        file.write('{"prompt": "Add 3 grapes and 3 drums.", "response": "3 + 3 = 6. The answer is 6."}\n')
    lake = selected(screened)
    after, metrics = pool_of(lake).read(SCREEN), pool_of(lake).manifest.metrics
    assert (metrics["n_scored"], len(after)) == (1, 41)
    same = ["row_id", "score"]
    assert after.join(before, on="row_id", how="semi").select(same).equals(before.select(same))
    assert metrics["n_computed"] == len(after.filter("kept").join(before.filter("kept"), on="row_id", how="anti"))


@pytest.mark.parametrize("by", WAYS)
def test_another_domain_adds_its_rows_and_leaves_the_subset_of_the_first(by: str, screened: Path) -> None:
    computed = {
        *rows_of(pool_of(lake_of(screened)), "index"),
        *rows_of(lake_of(screened).current("warmup/sample"), "sample"),
    }
    lake = selected(screen(screened, by, keep=0.3), "sums")
    first, subset = pool_of(lake), subset_of(lake, "sums")
    computed |= set(rows_of(first, "index"))
    shutil.move(screened.parent / "words", screened.parent / "domains" / "words")
    stale = staleness(Workspace(load_project(screened), looking=True)).filter(asset="gradients/pool")
    assert "domains.words" in stale["reason"][0]
    lake = selected(screened, "sums", "words")
    second, metrics = pool_of(lake), pool_of(lake).manifest.metrics
    added = set(rows_of(second, "index")) - set(rows_of(first, "index"))
    assert added - computed
    assert set(rows_of(first, "index")) < set(rows_of(second, "index"))
    assert (metrics["n_scored"], metrics["n_computed"]) == (40, len(added - computed))
    assert second.read(SCREEN).filter(domain="sums").equals(first.read(SCREEN))
    assert subset_of(lake, "sums").equals(subset)
    words = subset_of(lake, "words")["row_id"]
    assert set(words) <= set(second.read(SCREEN).filter(pl.col("kept"), domain="words")["row_id"])


@pytest.mark.parametrize("by", ["embedding", "early_exit"])
def test_an_erased_row_leaves_no_vector_that_it_was_scored_by(by: str, screened: Path) -> None:
    lake = selected(screen(screened, by), "sums")
    gone = [pool_of(lake).read(SCREEN)["row_id"][7], rows_of(lake.current("instructions/target", "sums"), "target")[-1]]

    def vectors(row: str) -> list[bytes]:
        shards = [pl.read_parquet(file) for file in lake.root.glob("vectors/shard/*/*/vectors.parquet")]
        here = [shard.filter(row_id=row).select(cs.starts_with("codes_")) for shard in shards]
        return [codes for shard in here for row in shard.rows() for codes in row if any(codes)]

    assert all(map(vectors, gone))
    erase(lake, gone, "asked for", [])
    assert not any(map(vectors, gone))


def test_edited_rows_of_a_domain_are_scored_for_it_alone(screened: Path) -> None:
    shutil.move(screened.parent / "words", screened.parent / "domains" / "words")
    before = pool_of(selected(screened)).read(SCREEN)
    write_jsonl(
        screened.parent / "domains" / "words" / "validation.jsonl",
        [arithmetic_row(n, "words") for n in range(400, 405)],
    )
    after = pool_of(selected(screened))
    assert after.manifest.metrics["n_scored"] == 40
    assert after.read(SCREEN).filter(domain="sums").equals(before.filter(domain="sums"))
    assert not after.read(SCREEN).filter(domain="words").equals(before.filter(domain="words"))


def test_a_budget_beyond_what_is_kept_is_refused(screened: Path) -> None:
    with pytest.raises(SettingsError, match=r"20 rows is larger .* 16 eligible rows \(of 40, 24 screened out.*`keep`"):
        selected(screen(screened, budget="20"), "sums")


def test_a_domain_whose_rows_are_not_there_is_named(screened: Path) -> None:
    (screened.parent / "words" / "validation.jsonl").write_text("no row\n")
    shutil.move(screened.parent / "words", screened.parent / "domains" / "words")
    with pytest.raises(SourceError, match=r"prescreen.*'words'.*validation"):
        selected(screened)
    (screened.parent / "domains" / "words" / "validation.jsonl").unlink()
    with pytest.raises(SourceError, match=r"prescreen.*'words'.*is not there"):
        selected(screened)
    shutil.rmtree(screened.parent / "domains" / "words")
    shutil.rmtree(screened.parent / "domains" / "sums")
    with pytest.raises(SettingsError, match="domain add"):
        selected(screened)


def test_a_domain_that_the_pool_was_not_screened_for_is_told_to_refresh_the_pool(screened: Path) -> None:
    shutil.move(screened.parent / "words", screened.parent / "domains" / "words")
    workspace = Workspace(load_project(screened))
    for key in ("instructions/target", "gradients/target"):
        make(workspace, key, Place("words"), "run")
    with pytest.raises(StoreError, match="refresh --pool"):
        make(workspace, "selection/subset", Place("words"), "run")


def test_the_baseline_is_drawn_from_the_whole_pool_and_the_chain_is_whole(screened: Path) -> None:
    refresh(screen(screened, "early_exit", keep=0.2), "sums")
    lake = lake_of(screened)
    drawn = rows_of(lake.current("finetune/baseline", "sums"), "rows")
    assert set(drawn) - set(rows_of(pool_of(lake), "index"))
    assert "file:domains/sums/validation.jsonl" in pool_of(lake).manifest.inputs
    told = g2is(screened, "audit", "verify", "sums")
    assert told.exit_code == 0, told.output
