"""A row is withdrawn, leaves by refresh, is erased: what goes, what stays, and what people are told."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from filelock import FileLock

from g2is_assets.contracts.audit import ERASED_PAGE, PAGE
from g2is_assets.contracts.gradients import INDEX
from g2is_assets.contracts.instructions import POOL, WITHHELD
from g2is_assets.contracts.warmup import SAMPLE
from g2is_assets.errors import SettingsError
from g2is_assets.store.manifest import ERASED, describe_bytes
from g2is_assets.store.tombstones import read_tombstones
from g2is_assets.store.versions import assets_of, versions_of
from support.commands import g2is
from support.projects import DOMAINS, Undisturbed, lake_of, rows_of
from support.runs import own_instance, run
from support.shared import copied
from support.withdrawals import (
    REASON,
    Story,
    all_strings,
    all_vectors,
    payload_versions,
    refresh,
    tell,
)


@pytest.fixture(scope="module")
def story(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    settings = copied(undisturbed.settings, tmp_path_factory.mktemp("withdraw") / "project", history=False)
    with dg.DagsterInstance.ephemeral() as instance:
        yield tell(settings, instance)


def test_withdrawing_says_what_follows(story: Story) -> None:
    by_row = {record["row_id"]: record for record in story.withdrawn}
    assert list(by_row) == story.rows
    assert all((r["reason"], r["by"], r["new"]) == (REASON, "ann", True) for r in story.withdrawn)
    taken = by_row[story.in_subset]
    assert taken["in_pool"]
    assert "sums" in taken["subsets"]
    assert {(a["asset"], a["domain"], a["current"]) for a in taken["adapters"]} >= {("finetune/adapter", "sums", True)}
    assert by_row[story.in_sample]["in_sample"]
    assert by_row[story.in_sample]["n_gradients"] == story.n_pool + 2 * 5
    own = by_row[story.own]
    assert (own["in_pool"], own["domains"], own["adapters"]) == (False, ["words"], [])


def test_a_row_that_is_still_used_is_not_erased(story: Story) -> None:
    assert story.refused.exit_code == 1
    assert "still used by" in story.refused.output
    assert "instructions/pool" in story.refused.output
    assert f"run `g2is refresh --domain sums --domain words --config {story.settings}`, then erase" in " ".join(
        story.refused.output.split()
    )


def test_a_refresh_takes_withdrawn_rows_out_of_everything_but_the_sample(story: Story) -> None:
    lake, pool_rows = lake_of(story.settings), {story.in_subset, story.in_sample}
    assert len(rows_of(lake.current("instructions/pool"), "pool")) == story.n_pool - len(pool_rows)
    withheld = lake.current("instructions/pool").read(WITHHELD)
    assert set(withheld["row_id"]) == pool_rows
    assert set(withheld["reason"]) == {"withdrawn"}
    assert set(withheld["detail"]) == {REASON}
    assert lake.current("instructions/pool").manifest.metrics["n_withheld_withdrawn"] == len(pool_rows)
    assert rows_of(lake.current("instructions/target", "words"), "withheld") == [story.own]
    for asset, table in (("gradients/pool", "index"), ("graph/neighbors", "neighbors")):
        assert pool_rows.isdisjoint(rows_of(lake.current(asset), table))
    for domain in DOMAINS:
        assert pool_rows.isdisjoint(rows_of(lake.current("selection/subset", domain), "subset"))
        assert pool_rows.isdisjoint(rows_of(lake.current("finetune/baseline", domain), "rows"))
    assert story.own not in rows_of(lake.current("gradients/target", "words"), "index")
    assert story.own not in rows_of(lake.current("instructions/target", "words"), "target")


def test_what_does_not_hold_the_row_stays_as_it_is(story: Story) -> None:
    unchanged = {name for name, computed in story.refreshed.computed.items() if not computed}
    expected = {"warmup/sample", "warmup/checkpoint", "instructions/target[sums]", "gradients/target[sums]"}
    assert unchanged == expected | {"knowledge/components[sums]"}
    gradients = lake_of(story.settings).current("gradients/pool").manifest
    assert gradients.metrics["n_computed"] == 0


def test_the_check_warns_as_long_as_the_sample_holds_a_withdrawn_row(story: Story) -> None:
    for outcome in (story.refreshed, story.after):
        assert outcome.failed["sample_holds_no_withheld_row"] == dg.AssetCheckSeverity.WARN


def test_a_dry_run_foretells_the_erasure(story: Story) -> None:
    assert story.dry["dry_run"]
    assert not story.erased["dry_run"]
    for name in ("versions", "pruned", "left_alone", "sources", "adapters", "copies"):
        assert story.dry[name] == story.erased[name], name
    assert len([folder for folder in story.erased["versions"] if "/vectors/shard/" in folder]) >= 2
    assert story.erased["left_alone"] == []


def test_after_an_erasure_no_file_of_the_lake_holds_text_id_or_vector(story: Story) -> None:
    lake = lake_of(story.settings)
    strings = all_strings(lake)
    assert len(story.texts) == 2 * len(story.rows)
    assert [text for text in story.texts if any(text in string for string in strings)] == []
    assert strings.isdisjoint(story.ids)
    for file in lake.root.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert [text for text in story.texts if text.encode() in content] == [], file
    assert len(story.vectors) >= 5
    for stored in all_vectors(lake):
        for vector in story.vectors:
            if stored.shape[1] == len(vector):
                assert not (stored.astype(np.float32) == vector.astype(np.float32)).all(axis=1).any()


def test_the_record_that_a_row_was_there_stays(story: Story) -> None:
    lake = lake_of(story.settings)
    sample = lake.current("warmup/sample").read(SAMPLE)
    assert sample.filter(pl.col("row_id") == story.in_sample).to_dicts() == [
        {"row_id": story.in_sample, "messages": [], "tools": None, "response": ""}
    ]
    old = [v for v in versions_of(lake, "instructions/pool")[0] if story.in_subset in rows_of(v, "pool")]
    assert len(old) == 1
    row = old[0].read(POOL).row(by_predicate=pl.col("row_id") == story.in_subset, named=True)
    assert (row["ids"], row["messages"], row["prompt"], row["response"]) == ([], [], "", "")
    assert (row["sources"], row["licenses"]) in ((["sums"], ["Apache-2.0"]), (["words"], ["Apache-2.0"]))
    assert row["n_prompt_tokens"] > 0
    (tombstone,) = read_tombstones(old[0].folder)
    assert (tombstone.reason, set(tombstone.rows)) == (REASON, {story.in_subset, story.in_sample})
    assert set(tombstone.files) == {"pool.parquet"}


def test_every_version_is_whole_after_an_erasure_and_keeps_its_data_version(story: Story) -> None:
    lake = lake_of(story.settings)
    assert payload_versions(lake) == story.before_erasure
    versions = [version for asset in assets_of(lake) for version in versions_of(lake, asset)[0]]
    assert len(versions) > 12
    for version in versions:
        manifest = version.manifest
        assert lake.find_whole(manifest.asset, manifest.data_version, manifest.partition) is not None, version.folder
    assert any(read_tombstones(v.folder) for v in versions if v.manifest.asset == "vectors/shard")


def test_a_refresh_after_an_erasure_does_no_work(story: Story) -> None:
    assert len(story.after.computed) == 5 + 9 * len(DOMAINS)
    assert set(story.after.computed.values()) == {False}


def test_the_command_names_the_sources_that_still_hold_the_text_and_the_adapters(story: Story) -> None:
    (line,) = story.erased["sources"][story.own]
    assert line.startswith("domains/words/validation.jsonl:")
    file, number = story.erased["sources"][story.in_subset][0].rsplit(":", 1)
    text = (story.settings.parent / file).read_text().splitlines()[int(number) - 1]
    assert any(said in text for said in story.texts)
    assert any(name.startswith("finetune/adapter[sums]") for name in story.erased["adapters"][story.in_subset])


def test_withdrawing_again_changes_nothing_and_says_so(story: Story) -> None:
    file = story.settings.parent / "withdrawn.jsonl"
    before = file.read_bytes()
    done = g2is(story.settings, "withdraw", "--row", story.own[:12], "--reason", "again")
    assert done.exit_code == 0
    assert f"{story.own} was withdrawn already, on " in done.output
    assert f"by ann; nothing is changed ({REASON})" in done.output
    assert file.read_bytes() == before


def test_a_row_that_no_version_knows_is_refused_and_nothing_is_written(story: Story) -> None:
    file = story.settings.parent / "withdrawn.jsonl"
    before = file.read_bytes()
    known = rows_of(lake_of(story.settings).current("instructions/pool"), "pool")[0]
    for unknown in ("0" * 32, known[:7], "nobody:1"):
        done = g2is(story.settings, "withdraw", "--row", known, "--row", unknown, "--reason", "why")
        assert done.exit_code == 1
        assert f"is or was '{unknown}'" in done.output
    for option, words in (("reason", (" ", "no \udcff")), ("by", (" ", "me \udcff"))):
        for said in words:
            arguments = {"reason": "why", "by": "me"} | {option: said}
            done = g2is(story.settings, "withdraw", "--row", known, *(f"--{n}={v}" for n, v in arguments.items()))
            assert done.exit_code == 1
            assert f"--{option} is empty or not Unicode" in done.output
    assert file.read_bytes() == before


def test_a_row_that_is_not_withdrawn_is_not_erased(story: Story) -> None:
    known = rows_of(lake_of(story.settings).current("instructions/pool"), "pool")[0]
    done = g2is(story.settings, "gc", "--erase", known)
    assert done.exit_code == 1
    assert f"g2is withdraw --row {known} --reason" in " ".join(done.output.split())


def test_why_says_that_a_row_is_withheld(story: Story) -> None:
    done = g2is(story.settings, "why", "sums", story.in_subset)
    assert done.exit_code == 1
    assert f"row {story.in_subset} may not be used (withdrawn): {REASON}" in done.output


def test_reports_that_quoted_the_rows_are_removed_and_the_current_ones_are_whole(story: Story) -> None:
    lake = lake_of(story.settings)
    for domain in DOMAINS:
        current = lake.current("audit/report", domain)
        old = [v for v in versions_of(lake, "audit/report")[0] if v.manifest.partition == domain]
        old = [v for v in old if v.folder != current.folder]
        assert [(v.folder / PAGE).read_bytes() for v in old] == [ERASED_PAGE]
        assert story.in_subset in rows_of(old[0], "quoted")
        page = (current.folder / PAGE).read_text()
        assert "Adapter report" in page
        assert set(story.rows).isdisjoint(rows_of(current, "quoted"))
        assert [text for text in story.texts if text in page] == []
        assert f'url={current.folder.name}/report.html"' in (current.folder.parent / PAGE).read_text()


def test_a_page_put_in_place_of_a_removed_one_is_named_whatever_the_tombstone_says(copy: Path) -> None:
    lake = lake_of(copy)
    current = lake.current("audit/report", "sums")
    old = next(v for v in versions_of(lake, "audit/report")[0] if read_tombstones(v.folder))
    assert old.folder != current.folder
    forged = b"<p>All is well.</p>"
    (old.folder / PAGE).write_bytes(forged)
    told = (old.folder / ERASED).read_text()
    known = {name: getattr(describe_bytes(ERASED_PAGE), name) for name in ("sha256", "n_bytes")}
    said = {name: getattr(describe_bytes(forged), name) for name in known}
    told = told.replace(known["sha256"], said["sha256"])
    (old.folder / ERASED).write_text(told.replace(f'"n_bytes": {known["n_bytes"]}', f'"n_bytes": {said["n_bytes"]}'))
    done = g2is(copy, "audit", "verify", str(old.folder))
    assert done.exit_code == 1
    assert "no erasure leaves such a report.html" in done.output


def test_erasing_again_changes_nothing(story: Story) -> None:
    done = json.loads(g2is(story.settings, "gc", "--erase", story.own, "--json").output)
    assert [done[name] for name in ("versions", "pruned", "copies")] == [[], [], []]


def test_an_erasure_says_where_the_history_shows_the_row(story: Story) -> None:
    with own_instance(story.settings) as instance:
        metadata = {
            "g2is/first_rows": dg.MetadataValue.table([dg.TableRecord({"row_id": story.own[:8], "prompt": "its text"})])
        }
        instance.report_runless_asset_event(
            dg.AssetMaterialization(["instructions", "target"], metadata=metadata, partition="words")
        )
    done = g2is(story.settings, "gc", "--erase", story.own, "--erase", story.in_sample)
    assert done.exit_code == 0, done.output
    told = [line for line in done.output.splitlines() if "asset wipe" in line]
    assert len(told) == 1
    assert told[0].endswith("dagster asset wipe instructions/target")


def test_nothing_is_erased_while_a_run_is_in_progress(story: Story) -> None:
    processes = story.settings.parent / ".dagster" / "processes"
    processes.mkdir(parents=True, exist_ok=True)
    with FileLock(processes / "0123456789.lock"):
        done = g2is(story.settings, "gc", "--erase", story.own)
    assert done.exit_code == 1
    assert "run 01234567 is in progress" in done.output


@pytest.fixture
def copy(story: Story, tmp_path: Path) -> Path:
    return copied(story.settings, tmp_path / "project")


def test_a_redraw_draws_no_withdrawn_row_and_ends_the_warning(
    copy: Path, story: Story, instance: dg.DagsterInstance
) -> None:
    outcome = refresh(copy, instance, domains=False, warmup__sample={"config": {"redraw": True}})
    assert "sample_holds_no_withheld_row" not in outcome.failed
    sample = lake_of(copy).current("warmup/sample")
    assert set(story.rows).isdisjoint(rows_of(sample, "sample"))
    assert (sample.read(SAMPLE)["messages"].list.len() > 0).all()


def test_the_graph_goes_on_from_the_one_before_after_an_erasure(copy: Path, instance: dg.DagsterInstance) -> None:
    with (copy.parent / "pool" / "sums.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "Say hello to the new row.", "response": "Hello."}) + "\n")
    refresh(copy, instance, domains=False)
    lake = lake_of(copy)
    n_rows = len(lake.current("gradients/pool").read(INDEX))
    assert lake.current("gradients/pool").manifest.metrics["n_computed"] == 1
    assert lake.current("graph/neighbors").manifest.metrics["n_known"] == n_rows - 1


def test_a_checkpoint_trained_after_an_erasure_leaves_the_erased_row_out(
    copy: Path, instance: dg.DagsterInstance
) -> None:
    copy.write_text(copy.read_text().replace("[warmup]", "[warmup]\nseed = 0\nlearning_rate = 1e-3"))
    outcome = refresh(copy, instance, domains=False)
    assert outcome.computed["warmup/checkpoint"] == 1
    assert outcome.computed["warmup/sample"] == 0
    lake = lake_of(copy)
    n_rows = len(rows_of(lake.current("warmup/sample"), "sample"))
    tables = pl.read_parquet(lake.current("gradients/pool").folder / "means.parquet")
    assert set(tables["n_rows"]) == {n_rows - 1}


def test_a_withdrawal_is_tried_and_lifted_with_a_record(built: Path, instance: dg.DagsterInstance) -> None:
    row = rows_of(lake_of(built).current("selection/subset", "sums"), "subset")[0]
    file = built.parent / "withdrawn.jsonl"
    tried = g2is(built, "withdraw", "--row", row, "--reason", REASON, "--dry-run")
    assert f"{row} would be withdrawn" in tried.stdout
    assert "Stale until their next refresh, since their subset holds it: sums." in tried.stdout
    after = f"`g2is refresh --domain sums --config {built}`"
    assert f"Adapters are as they were until then: those served after {after} are trained without it." in tried.stdout
    assert not file.exists()
    assert "is not withdrawn" in g2is(built, "withdraw", "--row", row, "--reason", "x", "--undo").stdout
    g2is(built, "withdraw", "--row", row, "--reason", REASON)
    run(built, instance, "refresh_pool")
    assert row not in rows_of(lake_of(built).current("instructions/pool"), "pool")
    assert (
        "would be withdrawn no more"
        in g2is(built, "withdraw", "--row", row, "--reason", "x", "--undo", "--dry-run").stdout
    )
    lifted = g2is(built, "withdraw", "--row", row, "--reason", "a mistake", "--by", "ann", "--undo")
    assert f"{row} withdrawn no more (a mistake)" in lifted.stdout
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["reason"], line.get("lifted", False)) for line in lines] == [(REASON, False), ("a mistake", True)]
    assert lines[1]["by"] == "ann"
    run(built, instance, "refresh_pool")
    assert row in rows_of(lake_of(built).current("instructions/pool"), "pool")


def test_a_withdrawal_that_was_deleted_by_hand_is_refused(copy: Path, instance: dg.DagsterInstance) -> None:
    (copy.parent / "withdrawn.jsonl").unlink()
    with pytest.raises(SettingsError, match="is missing, with which the current pool was made"):
        refresh(copy, instance, domains=False)
