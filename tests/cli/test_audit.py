"""The audit trail of a real refresh: whole as it is, broken by any one byte, and it answers where every row went."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner, Result

from g2is_assets.cli import main
from g2is_assets.cli.jobs import open_instance
from g2is_assets.orchestration.auditing import examine, reported_digests
from g2is_assets.orchestration.definitions import build_defs
from g2is_assets.settings.project import Project, load_project
from g2is_assets.store.gc import collect_garbage
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version
from support.projects import write_project
from support.rows import arithmetic_row, write_jsonl

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
DOMAIN = "sums"


def refresh(settings: Path, *jobs: tuple[str, str | None], **ops: Any) -> None:
    """Run jobs on the project's own instance, as the command line does."""
    definitions = build_defs(settings)
    config = QUIET | ({"ops": ops} if ops else {})
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DAGSTER_HOME", "")
        environment.setenv("G2IS_CONFIG", "")
        with open_instance(load_project(settings)) as instance:
            for job, domain in jobs:
                definitions.resolve_job_def(job).execute_in_process(
                    instance=instance, run_config=config if job == "refresh_pool" else QUIET, partition_key=domain
                )


def g2is(settings: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--config", str(settings)])


def answer(settings: Path, *arguments: str) -> Any:
    result = g2is(settings, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


@pytest.fixture(scope="module")
def built_once(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audited") / "project"
    shutil.copytree(tiny_model, root / "model")
    settings = write_project(root, Path("model"))
    (root / "domains" / DOMAIN / "domain.toml").write_text('title = "Sums"\n')
    refresh(settings, ("refresh_pool", None), ("refresh_domain", DOMAIN))
    return settings


@pytest.fixture
def built(built_once: Path, tmp_path: Path) -> Path:
    shutil.copytree(built_once.parent, tmp_path / "project")
    return tmp_path / "project" / built_once.name


def flip(file: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


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


def heads(settings: Path) -> tuple[Project, Lake, Version, list[str]]:
    project = load_project(settings)
    lake = Lake(project.home / "lake")
    head = lake.current("finetune/adapter", DOMAIN)
    with dg.DagsterInstance.from_config(str(project.home / ".dagster")) as instance:
        return project, lake, head, reported_digests(instance, head)


def test_an_untouched_chain_is_whole_and_witnessed(built: Path) -> None:
    result = g2is(built, "audit", "verify", DOMAIN)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"finetune/adapter[{DOMAIN}]: whole\n")
    assert len(result.output.splitlines()) == 2  # nothing else to say
    head = Lake(built.parent / "lake").current("finetune/adapter", DOMAIN).as_input.manifest_sha256
    assert f"head {head}" in result.output


def test_one_flipped_bit_in_any_file_behind_the_adapter_is_named(built: Path) -> None:
    project, lake, head, witness = heads(built)
    files = behind(built)
    kinds = {file.suffix for file in files}
    assert {".parquet", ".safetensors", ".json", ".npy", ".jsonl", ".toml"} <= kinds
    missed = []
    for file in files:
        before = file.read_bytes()
        flip(file)
        try:
            found = examine(load_project(built), lake, head, witness, current=True).broken
            named = [f"{finding.where} {finding.what}" for finding in found]
        except Exception as error:  # a manifest or settings file that cannot be read any more
            named = [str(error)]
        if not any(file.name in text for text in named):
            missed.append((str(file.relative_to(built.parent)), named))
        file.write_bytes(before)
    assert missed == []
    assert examine(project, lake, head, witness, current=True).findings == []
    assert len(files) > 50


def tampered_manifest(settings: Path) -> Path:
    file = Lake(settings.parent / "lake").current("instructions/pool").folder / "manifest.json"
    file.write_text(file.read_text().replace('"run_id": "', '"run_id": "0'))
    return file


def missing_table(settings: Path) -> Path:
    file = Lake(settings.parent / "lake").current("selection/subset", DOMAIN).folder / "budgets.parquet"
    file.unlink()
    return file


def stray_file(settings: Path) -> Path:
    file = Lake(settings.parent / "lake").current("graph/neighbors").folder / "stray.parquet"
    file.write_bytes(b"x")
    return file


@pytest.mark.parametrize("tamper", [tampered_manifest, missing_table, stray_file])
def test_verify_ends_with_1_and_names_the_first_broken_link(built: Path, tamper: Callable[[Path], Path]) -> None:
    file = tamper(built)
    result = g2is(built, "audit", "verify", DOMAIN)
    assert result.exit_code == 1
    assert result.output.splitlines()[0].endswith(f"BROKEN, first at {file}")
    report = json.loads(g2is(built, "audit", "verify", DOMAIN, "--json").output)[0]
    assert report["whole"] is False
    assert [finding["state"] for finding in report["findings"]] == ["altered"]


def test_a_chain_forged_from_end_to_end_differs_from_dagsters_event(built: Path) -> None:
    lake = Lake(built.parent / "lake")
    adapter = lake.current("finetune/adapter", DOMAIN)
    file = adapter.folder / "manifest.json"
    file.write_text(file.read_text().replace(adapter.manifest.run_id, "another-run"))
    result = g2is(built, "audit", "verify", DOMAIN)
    assert result.exit_code == 1
    assert "Dagster's last event says" in result.output


def test_without_a_witness_it_says_so_and_a_given_digest_serves(built: Path) -> None:
    shutil.rmtree(built.parent / ".dagster")
    result = g2is(built, "audit", "verify", DOMAIN)
    assert result.exit_code == 0
    assert "unwitnessed" in result.output
    digest = str(Lake(built.parent / "lake").current("finetune/adapter", DOMAIN).as_input.manifest_sha256)
    assert "unwitnessed" not in g2is(built, "audit", "verify", DOMAIN, "--expect", digest[:16]).output
    wrong = g2is(built, "audit", "verify", DOMAIN, "--expect", "0" * 64)
    assert wrong.exit_code == 1
    assert "expected was 0000" in wrong.output
    short = g2is(built, "audit", "verify", DOMAIN, "--expect", digest[:4])
    assert short.exit_code == 1


def test_a_path_verifies_an_older_version_too(built: Path) -> None:
    old = Lake(built.parent / "lake").current("finetune/adapter", DOMAIN)
    (built.parent / "domains" / DOMAIN / "domain.toml").write_text('title = "Sums"\n[finetune]\nseed = 1\n')
    refresh(built, ("refresh_domain", DOMAIN))
    assert Lake(built.parent / "lake").current("finetune/adapter", DOMAIN).folder != old.folder
    result = g2is(built, "audit", "verify", str(old.folder / "adapter" / "adapter_model.safetensors"))
    assert result.exit_code == 0, result.output
    assert "whole" in result.output
    nowhere = g2is(built, "audit", "verify", str(built))
    assert nowhere.exit_code == 1
    assert "belongs to no version" in nowhere.output
    assert "Traceback" not in nowhere.output


def test_a_damaged_pointer_breaks_its_own_chain_only(built: Path) -> None:
    adapters = built.parent / "lake" / "finetune" / "adapter"
    shutil.copytree(adapters / DOMAIN, adapters / "words")
    (adapters / "words" / "current.json").write_text("{")
    result = g2is(built, "audit", "verify")
    assert result.exit_code == 1
    assert f"finetune/adapter[{DOMAIN}]: whole" in result.output
    assert "words: BROKEN at its head: " in result.output
    reports = json.loads(g2is(built, "audit", "verify", "--json").output)
    assert [report["whole"] for report in reports] == [True, False]


def test_a_changed_settings_file_shows_until_the_next_refresh_records_it(built: Path) -> None:
    built.write_text(built.read_text() + "\n# a remark\n")
    result = g2is(built, "audit", "verify", DOMAIN)
    assert result.exit_code == 1
    assert "altered: g2is.toml" in result.output
    refresh(built, ("refresh_domain", DOMAIN))
    assert g2is(built, "audit", "verify", DOMAIN).exit_code == 0


def test_a_lost_manifest_is_mended_by_a_refresh_without_model_work(built: Path) -> None:
    lake = Lake(built.parent / "lake")
    adapter = lake.current("finetune/adapter", DOMAIN)
    tampered_manifest(built).write_text("{}")
    refresh(built, ("refresh_pool", None), ("refresh_domain", DOMAIN))
    result = g2is(built, "audit", "verify", DOMAIN)
    assert result.exit_code == 0, result.output
    now = lake.current("finetune/adapter", DOMAIN)
    assert now.manifest.data_version == adapter.manifest.data_version
    assert now.manifest.metrics == adapter.manifest.metrics
    assert now.as_input != adapter.as_input  # its manifest names the pool's new one


def test_show_prints_the_whole_chain_with_who_when_and_which_code(built: Path) -> None:
    text = g2is(built, "audit", "show", DOMAIN).output
    for asset in ("finetune/adapter[sums]", "selection/subset[sums]", "gradients/pool", "graph/neighbors"):
        assert f"\n{asset}  version " in text
    for asset in ("gradients/target[sums]", "warmup/checkpoint", "warmup/sample", "instructions/pool"):
        assert f"\n{asset}  version " in text
    assert "file:pool/sums.jsonl" in text
    assert "seed 0" in text
    assert "by licenses: Apache-2.0 " in text
    shown = answer(built, "audit", "show", DOMAIN)
    adapter = shown["chain"][0]
    assert adapter["asset"] == "finetune/adapter"
    assert {"run_id", "made_by", "created_at", "git_revision", "libraries", "settings", "inputs"} <= adapter.keys()
    lake = Lake(built.parent / "lake")
    lineage = pl.read_parquet(lake.current("audit/lineage", DOMAIN).folder / "lineage.parquet")
    assert set(lineage["manifest_sha256"]) >= {link["manifest_sha256"] for link in shown["chain"]}


def rows_of(settings: Path, asset: str, table: str, domain: str | None = None) -> list[str]:
    return pl.read_parquet(Lake(settings.parent / "lake").current(asset, domain).folder / table)["row_id"].to_list()


def test_impact_tells_how_an_adapter_was_exposed_to_a_row(built: Path) -> None:
    taken, sampled = (
        rows_of(built, "selection/subset", "subset.parquet", DOMAIN),
        set(rows_of(built, "warmup/sample", "sample.parquet")),
    )
    found = answer(built, "audit", "impact", "--row", taken[1][:10])["exposures"]
    kinds = {exposure["kind"] for exposure in found}
    assert "trained on" in kinds
    assert ("warmup" in kinds) == (taken[1] in sampled)
    trained = next(exposure for exposure in found if exposure["kind"] == "trained on")
    adapter = Lake(built.parent / "lake").current("finetune/adapter", DOMAIN)
    assert trained["order"] == 1
    assert trained["run_id"] == adapter.manifest.run_id
    assert trained["current"] is True
    only_sampled = next(row for row in sorted(sampled) if row not in taken)
    kinds = {e["kind"] for e in answer(built, "audit", "impact", "--row", only_sampled)["exposures"]}
    assert kinds - {"random baseline"} == {"warmup"}
    validation = pl.read_parquet(
        Lake(built.parent / "lake").current("instructions/target", DOMAIN).folder / "target.parquet"
    ).filter(pl.col("split") == "validation")["row_id"][0]
    found = answer(built, "audit", "impact", "--row", validation)["exposures"]
    assert [exposure["kind"] for exposure in found] == ["validation"]
    text = g2is(built, "audit", "impact", "--row", taken[1]).output
    assert "trained on (in the subset that the adapter was trained on):" in text
    assert f"{taken[1][:12]} as row 2 (component" in text


def test_impact_answers_for_sources_licences_and_pruned_versions(built: Path) -> None:
    taken = rows_of(built, "selection/subset", "subset.parquet", DOMAIN)
    by_source = {
        source: {
            e["row_id"]
            for e in answer(built, "audit", "impact", "--source", source)["exposures"]
            if e["kind"] == "trained on"
        }
        for source in ("sums", "words")
    }
    assert by_source["sums"] | by_source["words"] == set(taken)
    assert by_source["sums"].isdisjoint(by_source["words"])
    both = answer(built, "audit", "impact", "--license", "apache-2.0", "--source", "sums")["exposures"]
    assert {e["row_id"] for e in both if e["kind"] == "trained on"} == by_source["sums"]
    nothing = answer(built, "audit", "impact", "--license", "CC-BY-NC-4.0")
    assert nothing == {"n_rows": 0, "exposures": [], "unreadable": []}
    write_jsonl(built.parent / "pool" / "words.jsonl", [arithmetic_row(n, "words") for n in range(20, 40)])
    refresh(built, ("refresh_pool", None), ("refresh_domain", DOMAIN))
    before = answer(built, "audit", "impact", "--source", "words")
    assert {e["row_id"] for e in before["exposures"] if e["kind"] == "trained on" and not e["current"]} == by_source[
        "words"
    ]
    collect_garbage(Lake(built.parent / "lake"), 1, 0.0)
    after = answer(built, "audit", "impact", "--source", "words")
    assert after == before
    assert g2is(built, "audit", "verify", DOMAIN).exit_code == 0


def test_impact_asks_for_one_thing_and_knows_when_there_is_none(built: Path) -> None:
    for arguments in ([], ["--row", "x", "--source", "sums"]):
        result = g2is(built, "audit", "impact", *arguments)
        assert result.exit_code == 1
        assert "name a --row" in result.output
    result = g2is(built, "audit", "impact", "--row", "ffffffffffff")
    assert result.exit_code == 1
    assert "is or was 'ffffffffffff'" in result.output


def test_diff_says_which_rows_came_and_went_and_why(built: Path) -> None:
    lake = Lake(built.parent / "lake")
    before = lake.current("selection/subset", DOMAIN)
    taken = rows_of(built, "selection/subset", "subset.parquet", DOMAIN)
    own = {json.loads(line)["id"] for line in (built.parent / "pool" / "words.jsonl").read_text().splitlines()}
    assert own
    write_jsonl(built.parent / "pool" / "words.jsonl", [arithmetic_row(n, "words") for n in range(100, 120)])
    (built.parent / "domains" / DOMAIN / "domain.toml").write_text("[selection]\nbudget = 9\n")
    refresh(built, ("refresh_pool", None), ("refresh_domain", DOMAIN))
    after = lake.current("selection/subset", DOMAIN)
    shown = answer(built, "audit", "diff", DOMAIN, before.folder.name[:8], after.folder.name)
    now = rows_of(built, "selection/subset", "subset.parquet", DOMAIN)
    assert shown["n_kept"] == len(set(taken) & set(now))
    came = {change["row_id"]: change["why"] for change in shown["changes"] if change["came"]}
    went = {change["row_id"]: change["why"] for change in shown["changes"] if not change["came"]}
    assert came.keys() == set(now) - set(taken)
    assert went.keys() == set(taken) - set(now)
    pool = set(rows_of(built, "instructions/pool", "pool.parquet"))
    assert {row for row, why in went.items() if why == "left the pool"} == {row for row in went if row not in pool}
    assert any("selection/subset: another version (budget" in cause for cause in shown["causes"])
    assert any("instructions/pool: another version (file:pool/words.jsonl changed)" in c for c in shown["causes"])
    text = g2is(built, "audit", "diff", DOMAIN, before.folder.name, after.folder.name).output
    assert "rows in both" in text
    unknown = g2is(built, "audit", "diff", DOMAIN, "zzzz", after.folder.name)
    assert unknown.exit_code == 1
    assert "'zzzz' names no version of the subset" in unknown.output


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def test_the_check_passes_on_a_whole_chain_and_fails_on_a_broken_one(built: Path, instance: dg.DagsterInstance) -> None:
    definitions = build_defs(built)
    for expected in (True, False):
        result = definitions.resolve_job_def("refresh_domain").execute_in_process(
            instance=instance, run_config=QUIET, partition_key=DOMAIN, raise_on_error=False
        )
        checks = {e.check_name: e for e in result.get_asset_check_evaluations()}
        assert checks["chain_is_whole"].passed is expected, checks["chain_is_whole"].description
        flip(Lake(built.parent / "lake").current("warmup/checkpoint").folder / "moments.safetensors")
