"""The audit trail of a real refresh: whole as it is, broken by any one byte, and it answers where every row went."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from g2is_assets.contracts.instructions import POOL
from g2is_assets.orchestration.auditing import examine, history_of
from g2is_assets.settings.project import Project, load_project
from g2is_assets.store.gc import collect_garbage
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version
from g2is_assets.trail.witness import Witness
from support.commands import answer, g2is
from support.projects import flip, lake_of, rows_of, tamper_with_manifest
from support.rows import arithmetic_row, write_jsonl
from support.runs import refresh, run

DOMAIN = "sums"


def behind(settings: Path) -> list[Path]:
    """Every file behind the adapter and its proof, each kind there is."""
    root = settings.parent
    versions = [root / "lake" / stage for stage in ("instructions", "warmup", "gradients", "graph", "knowledge")]
    versions += [root / "lake" / stage for stage in ("selection", "finetune", "audit", "vectors")]
    files = [file for place in versions for file in place.rglob("*") if file.is_file()]
    derived = {"current.json", "staleness.parquet", ".pictures.json"}
    files = [f for f in files if f.name not in derived and f.suffix != ".lock"]
    sources = [*root.glob("pool/*.jsonl"), *(root / "domains" / DOMAIN).iterdir(), settings]
    model = [f for f in (root / "model").iterdir() if f.suffix in {".json", ".safetensors", ".jinja"}]
    return sorted(files) + sorted(sources) + sorted(model)


def heads(settings: Path) -> tuple[Project, Lake, Version, list[Witness]]:
    project = load_project(settings)
    lake = Lake(project.home / "lake")
    head = lake.current("finetune/adapter", DOMAIN)
    with dg.DagsterInstance.from_config(str(project.home / ".dagster")) as instance:
        return project, lake, head, [history_of(instance, DOMAIN)]


def test_an_untouched_chain_is_whole_and_witnessed(copy: Path) -> None:
    result = g2is(copy, "audit", "verify", DOMAIN)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"finetune/adapter[{DOMAIN}]: whole\n")
    assert len(result.output.splitlines()) == 2  # nothing else to say
    head = lake_of(copy).current("finetune/adapter", DOMAIN).as_input.manifest_sha256
    assert f"head {head}" in result.output


def test_one_flipped_bit_in_any_file_behind_the_adapter_is_named(copy: Path) -> None:
    project, lake, head, witness = heads(copy)
    files = behind(copy)
    kinds = {file.suffix for file in files}
    assert {".parquet", ".safetensors", ".json", ".npy", ".jsonl", ".toml"} <= kinds
    missed = []
    for file in files:
        before = file.read_bytes()
        flip(file)
        try:
            found = examine(load_project(copy), lake, head, witness, current=True).broken
            named = [f"{finding.where} {finding.what}" for finding in found]
        except Exception as error:  # a manifest or settings file that cannot be read any more
            named = [str(error)]
        if not any(file.name in text for text in named):
            missed.append((str(file.relative_to(copy.parent)), named))
        file.write_bytes(before)
    assert missed == []
    assert examine(project, lake, head, witness, current=True).findings == []
    assert len(files) > 50


def missing_table(settings: Path) -> Path:
    file = lake_of(settings).current("selection/subset", DOMAIN).folder / "budgets.parquet"
    file.unlink()
    return file


def stray_file(settings: Path) -> Path:
    file = lake_of(settings).current("graph/neighbors").folder / "stray.parquet"
    file.write_bytes(b"x")
    return file


@pytest.mark.parametrize("tamper", [tamper_with_manifest, missing_table, stray_file])
def test_verify_ends_with_1_and_names_the_first_broken_link(copy: Path, tamper: Callable[[Path], Path]) -> None:
    file = tamper(copy)
    result = g2is(copy, "audit", "verify", DOMAIN)
    assert result.exit_code == 1
    assert result.output.splitlines()[0].endswith(f"BROKEN, first at {file}")
    report = json.loads(g2is(copy, "audit", "verify", DOMAIN, "--json").output)[0]
    assert report["whole"] is False
    assert {finding["state"] for finding in report["findings"]} == {"altered"}


def test_a_chain_forged_from_end_to_end_differs_from_dagsters_event(copy: Path) -> None:
    lake = lake_of(copy)
    adapter = lake.current("finetune/adapter", DOMAIN)
    file = adapter.folder / "manifest.json"
    file.write_text(file.read_text().replace(adapter.manifest.run_id, "another-run"))
    result = g2is(copy, "audit", "verify", DOMAIN)
    assert result.exit_code == 1
    assert "Dagster's last event says" in result.output


def test_without_a_witness_it_says_so_and_a_given_digest_serves(copy: Path) -> None:
    shutil.rmtree(copy.parent / ".dagster")
    result = g2is(copy, "audit", "verify", DOMAIN)
    assert result.exit_code == 3
    assert result.output.startswith(f"finetune/adapter[{DOMAIN}]: whole, UNWITNESSED\n")
    digest = str(lake_of(copy).current("finetune/adapter", DOMAIN).as_input.manifest_sha256)
    vouched = g2is(copy, "audit", "verify", DOMAIN, "--expect", digest[:16])
    assert vouched.exit_code == 3  # of the evaluation and the report it says nothing
    assert "finetune/evaluation[sums]" in vouched.output
    assert "finetune/adapter[sums], " not in vouched.output
    assert "served[sums]" not in vouched.output
    wrong = g2is(copy, "audit", "verify", DOMAIN, "--expect", "0" * 64)
    assert wrong.exit_code == 1
    assert "expected was 0000" in wrong.output
    short = g2is(copy, "audit", "verify", DOMAIN, "--expect", digest[:4])
    assert short.exit_code == 1


def test_before_the_first_refresh_there_is_nothing_to_verify_but_a_lake_that_was_wiped_is_missed(
    make_project: Callable[[], Path], copy: Path
) -> None:
    done = g2is(make_project(), "audit", "verify")
    assert (done.exit_code, done.stdout.split(":")[0]) == (0, "Nothing to verify")
    shutil.rmtree(copy.parent / "lake")
    done = g2is(copy, "audit", "verify")
    assert done.exit_code == 1
    for name in ("finetune/adapter/sums", "instructions/pool"):
        assert f"{name}/current.json: it is gone" in done.stdout


def test_a_path_verifies_an_older_version_too(copy: Path) -> None:
    old = lake_of(copy).current("finetune/adapter", DOMAIN)
    (copy.parent / "domains" / DOMAIN / "domain.toml").write_text('title = "Sums"\n[finetune]\nseed = 1\n')
    refresh(copy, DOMAIN)
    assert lake_of(copy).current("finetune/adapter", DOMAIN).folder != old.folder
    result = g2is(copy, "audit", "verify", str(old.folder / "adapter" / "adapter_model.safetensors"))
    assert result.exit_code == 0, result.output
    assert "whole" in result.output
    nowhere = g2is(copy, "audit", "verify", str(copy))
    assert nowhere.exit_code == 1
    assert "belongs to no version" in nowhere.output
    assert "Traceback" not in nowhere.output


def test_a_damaged_pointer_breaks_its_own_chain_only(copy: Path) -> None:
    adapters = copy.parent / "lake" / "finetune" / "adapter"
    shutil.copytree(adapters / DOMAIN, adapters / "words")
    (adapters / "words" / "current.json").write_text("{")
    result = g2is(copy, "audit", "verify")
    assert result.exit_code == 1
    assert f"finetune/adapter[{DOMAIN}]: whole" in result.output
    assert "words: BROKEN at its head: " in result.output
    reports = json.loads(g2is(copy, "audit", "verify", "--json").output)
    assert [report["whole"] for report in reports] == [True, False, False]


def test_a_changed_settings_file_shows_until_the_next_refresh_records_it(copy: Path) -> None:
    copy.write_text(copy.read_text() + "\n# a remark\n")
    result = g2is(copy, "audit", "verify", DOMAIN)
    assert result.exit_code == 1
    assert "altered: g2is.toml" in result.output
    refresh(copy, DOMAIN)
    assert g2is(copy, "audit", "verify", DOMAIN).exit_code == 0


def test_a_lost_manifest_is_mended_by_a_refresh_without_model_work(copy: Path) -> None:
    lake = lake_of(copy)
    adapter = lake.current("finetune/adapter", DOMAIN)
    tamper_with_manifest(copy).write_text("{}")
    refresh(copy, DOMAIN)
    result = g2is(copy, "audit", "verify", DOMAIN)
    assert result.exit_code == 0, result.output
    now = lake.current("finetune/adapter", DOMAIN)
    assert now.manifest.data_version == adapter.manifest.data_version
    assert now.manifest.metrics == adapter.manifest.metrics
    assert now.as_input != adapter.as_input  # its manifest names the pool's new one


def test_show_prints_the_whole_chain_with_who_when_and_which_code(copy: Path) -> None:
    text = g2is(copy, "audit", "show", DOMAIN).output
    for asset in ("finetune/adapter[sums]", "selection/subset[sums]", "gradients/pool", "graph/neighbors"):
        assert f"\n{asset}  version " in text
    for asset in ("gradients/target[sums]", "warmup/checkpoint", "warmup/sample", "instructions/pool"):
        assert f"\n{asset}  version " in text
    assert "file:pool/sums.jsonl" in text
    assert "seed 0" in text
    assert "by licenses: Apache-2.0 " in text
    shown = answer(copy, "audit", "show", DOMAIN)
    adapter = shown["chain"][0]
    assert adapter["asset"] == "finetune/adapter"
    assert {"run_id", "made_by", "created_at", "git_revision", "libraries", "settings", "inputs"} <= adapter.keys()
    lake = lake_of(copy)
    lineage = pl.read_parquet(lake.current("audit/lineage", DOMAIN).folder / "lineage.parquet")
    assert set(lineage["manifest_sha256"]) >= {link["manifest_sha256"] for link in shown["chain"]}


def test_impact_tells_how_an_adapter_was_exposed_to_a_row(copy: Path) -> None:
    taken, sampled = (
        rows_of(lake_of(copy).current("selection/subset", DOMAIN), "subset"),
        set(rows_of(lake_of(copy).current("warmup/sample"), "sample")),
    )
    found = answer(copy, "audit", "impact", "--row", taken[1][:10])["exposures"]
    kinds = {exposure["kind"] for exposure in found}
    assert "trained on" in kinds
    assert ("warmup" in kinds) == (taken[1] in sampled)
    trained = next(exposure for exposure in found if exposure["kind"] == "trained on")
    adapter = lake_of(copy).current("finetune/adapter", DOMAIN)
    assert trained["order"] == 1
    assert trained["run_id"] == adapter.manifest.run_id
    assert trained["current"] is True
    only_sampled = next(row for row in sorted(sampled) if row not in taken)
    kinds = {e["kind"] for e in answer(copy, "audit", "impact", "--row", only_sampled)["exposures"]}
    assert kinds - {"random baseline"} == {"warmup"}
    validation = pl.read_parquet(lake_of(copy).current("instructions/target", DOMAIN).folder / "target.parquet").filter(
        pl.col("split") == "validation"
    )["row_id"][0]
    found = answer(copy, "audit", "impact", "--row", validation)["exposures"]
    assert [exposure["kind"] for exposure in found] == ["validation"]
    text = g2is(copy, "audit", "impact", "--row", taken[1]).output
    assert "trained on (in the subset that the adapter was trained on):" in text
    assert f"{taken[1][:12]} as row 2 (component" in text


def test_impact_answers_for_sources_licences_and_pruned_versions(copy: Path) -> None:
    taken = rows_of(lake_of(copy).current("selection/subset", DOMAIN), "subset")
    by_source = {
        source: {
            e["row_id"]
            for e in answer(copy, "audit", "impact", "--source", source)["exposures"]
            if e["kind"] == "trained on"
        }
        for source in ("sums", "words")
    }
    assert by_source["sums"] | by_source["words"] == set(taken)
    assert by_source["sums"].isdisjoint(by_source["words"])
    both = answer(copy, "audit", "impact", "--license", "apache-2.0", "--source", "sums")["exposures"]
    assert {e["row_id"] for e in both if e["kind"] == "trained on"} == by_source["sums"]
    nothing = answer(copy, "audit", "impact", "--license", "CC-BY-NC-4.0")
    assert nothing == {"n_rows": 0, "exposures": [], "unreadable": []}
    write_jsonl(copy.parent / "pool" / "words.jsonl", [arithmetic_row(n, "words") for n in range(20, 40)])
    refresh(copy, DOMAIN)
    before = answer(copy, "audit", "impact", "--source", "words")
    assert {e["row_id"] for e in before["exposures"] if e["kind"] == "trained on" and not e["current"]} == by_source[
        "words"
    ]
    collect_garbage(lake_of(copy), 1, 0.0)
    after = answer(copy, "audit", "impact", "--source", "words")
    assert after == before
    assert g2is(copy, "audit", "verify", DOMAIN).exit_code == 0


def test_impact_asks_for_one_thing_and_knows_when_there_is_none(copy: Path) -> None:
    for arguments in ([], ["--row", "x", "--source", "sums"]):
        result = g2is(copy, "audit", "impact", *arguments)
        assert result.exit_code == 1
        assert "name a --row" in result.output
    result = g2is(copy, "audit", "impact", "--row", "ffffffffffff")
    assert result.exit_code == 1
    assert "is or was 'ffffffffffff'" in result.output


def test_diff_says_which_rows_came_and_went_and_why(copy: Path) -> None:
    lake = lake_of(copy)
    before = lake.current("selection/subset", DOMAIN)
    taken = rows_of(lake_of(copy).current("selection/subset", DOMAIN), "subset")
    own = {json.loads(line)["id"] for line in (copy.parent / "pool" / "words.jsonl").read_text().splitlines()}
    assert own
    write_jsonl(copy.parent / "pool" / "words.jsonl", [arithmetic_row(n, "words") for n in range(100, 120)])
    (copy.parent / "domains" / DOMAIN / "domain.toml").write_text("[selection]\nbudget = 9\n")
    refresh(copy, DOMAIN)
    after = lake.current("selection/subset", DOMAIN)
    shown = answer(copy, "audit", "diff", DOMAIN, before.folder.name[:8], after.folder.name)
    now = rows_of(lake_of(copy).current("selection/subset", DOMAIN), "subset")
    assert shown["n_kept"] == len(set(taken) & set(now))
    came = {change["row_id"]: change["why"] for change in shown["changes"] if change["came"]}
    went = {change["row_id"]: change["why"] for change in shown["changes"] if not change["came"]}
    assert came.keys() == set(now) - set(taken)
    assert went.keys() == set(taken) - set(now)
    pool = set(rows_of(lake_of(copy).current("instructions/pool"), "pool"))
    assert {row for row, why in went.items() if why == "left the pool"} == {row for row in went if row not in pool}
    assert any("selection/subset: another version (budget" in cause for cause in shown["causes"])
    assert any("instructions/pool: another version (file:pool/words.jsonl changed)" in c for c in shown["causes"])
    text = g2is(copy, "audit", "diff", DOMAIN, before.folder.name, after.folder.name).output
    assert "rows in both" in text
    assert text == g2is(copy, "audit", "diff", DOMAIN).output == g2is(copy, "audit", "diff", DOMAIN, before.name).output
    there = {row["row_id"]: row for row in lake.current("instructions/pool").read(POOL).iter_rows(named=True)}
    first = next(row for row in now if row in came)
    assert f"+ {first[:12]}  {came[first]}; {there[first]['sources'][0]}: {there[first]['prompt'][:20]}" in text
    assert all(counts == [0, 0] or sum(counts) for counts in shown["sources"].values())
    assert sum(after for _, after in shown["sources"].values()) == len(now)
    nll = [lake.current("finetune/evaluation", DOMAIN).manifest.metrics["nll_g2is"], shown["results"][1]["nll_g2is"]]
    assert nll[0] == nll[1] != shown["results"][0]["nll_g2is"]
    assert f"g2is {nll[0]:.4f}" in text
    ever = answer(copy, "audit", "versions", DOMAIN)
    assert [one["subset"] for one in ever] == [before.folder.name, after.folder.name]
    assert [(one["served"], one["metrics"]["nll_g2is"]) for one in ever] == [
        (False, shown["results"][0]["nll_g2is"]),
        (True, nll[0]),
    ]
    assert "(served)" in g2is(copy, "audit", "versions", DOMAIN).output
    unknown = g2is(copy, "audit", "diff", DOMAIN, "zzzz", after.folder.name)
    assert unknown.exit_code == 1
    assert "'zzzz' names no version of the subset" in unknown.output


def test_the_check_passes_on_a_whole_chain_and_fails_on_a_broken_one(copy: Path, instance: dg.DagsterInstance) -> None:
    for expected in (True, False):
        result = run(copy, instance, "refresh_domain", DOMAIN, raise_on_error=False)
        checks = {e.check_name: e for e in result.get_asset_check_evaluations()}
        assert checks["chain_is_whole"].passed is expected, checks["chain_is_whole"].description
        flip(lake_of(copy).current("warmup/checkpoint").folder / "moments.safetensors")
