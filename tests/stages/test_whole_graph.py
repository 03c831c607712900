"""The whole graph, for real, with a tiny random model and two domains: made twice, elsewhere, and what is in it."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from g2is_assets.contracts.gradients import VECTORS
from g2is_assets.contracts.tables import contract_of, main_table
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import read_manifest
from g2is_assets.store.pruning import plan_pruning
from g2is_assets.store.version import Version
from support.projects import DOMAINS, Undisturbed, payload
from support.runs import computed, run, run_all
from support.shared import copied

MakeProject = Callable[..., Path]


def test_a_first_run_computes_everything(undisturbed: Undisturbed) -> None:
    assert set(undisturbed.computed.values()) == {True}
    assert len(undisturbed.computed) == 5 + 9 * len(DOMAINS)


Results = list[dg.ExecuteInProcessResult]


@pytest.fixture(scope="module")
def second(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    """A copy in which everything was refreshed once more, and the runs that did it."""
    settings = copied(undisturbed.settings, tmp_path_factory.mktemp("second") / "project")
    with dg.DagsterInstance.ephemeral() as instance:
        return settings, run_all(settings, instance, *DOMAINS)


def test_a_second_run_computes_nothing_and_changes_no_byte(
    second: tuple[Path, Results], undisturbed: Undisturbed
) -> None:
    settings, results = second
    assert set(computed(*results).values()) == {False}
    assert payload(settings.parent / "lake") == undisturbed.both


def test_a_run_elsewhere_gives_the_same_bytes(
    undisturbed: Undisturbed, make_project: MakeProject, instance: dg.DagsterInstance
) -> None:
    again = make_project("elsewhere")
    run_all(again, instance, *DOMAINS)
    first, other = undisturbed.both, payload(again.parent / "lake")
    assert {name for name in first.keys() | other.keys() if first.get(name) != other.get(name)} == set()
    assert any(name.startswith("selection/subset/sums/") for name in first)


def test_gradients_and_graph_on_ray_are_those_in_process_byte_for_byte(
    undisturbed: Undisturbed, make_project: MakeProject, instance: dg.DagsterInstance
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'g2is_assets[ray]'")
    on_ray = make_project("ray")
    on_ray.write_text('engine = "ray"\nworkers = 2\n' + on_ray.read_text())
    run(on_ray, instance, "refresh_pool")
    made = payload(on_ray.parent / "lake")
    assert any(name.startswith("vectors/shard/") for name in made)
    assert {name: undisturbed.both.get(name) for name in made} == made


def test_all_checks_report_and_only_those_of_quality_may_fail(second: tuple[Path, Results]) -> None:
    evaluations = [evaluation for result in second[1] for evaluation in result.get_asset_check_evaluations()]
    assert len(evaluations) == 4 + 8 * len(DOMAINS)
    failed = {evaluation.check_name for evaluation in evaluations if not evaluation.passed}
    assert failed <= {"tuned_beats_base_and_random", "constraints_bite", "walk_stays_home"}


PICTURES = {
    "instructions/pool": {"rows"},
    "instructions/target": {"rows"},
    "warmup/checkpoint": {"losses"},
    "gradients/pool": {"vectors", "time"},
    "gradients/target": {"vectors", "time"},
    "graph/neighbors": {"cosines", "map"},
    "knowledge/components": {"spectrum", "loadings"},
    "selection/subset": {"walk", "steps", "sources"},
    "finetune/adapter": {"losses"},
    "finetune/baseline": {"losses"},
    "finetune/evaluation": {"scores", "losses"},
}


def test_every_asset_shows_columns_first_rows_and_pictures_also_when_nothing_is_computed(
    second: tuple[Path, Results],
) -> None:
    events = [event for result in second[1] for event in result.get_asset_materialization_events()]
    assert len(events) == 5 + 9 * len(DOMAINS)
    for event in events:
        materialization = event.step_materialization_data.materialization
        asset, metadata = materialization.asset_key.to_user_string(), materialization.metadata
        counted = "dagster/partition_row_count" if materialization.partition else "dagster/row_count"
        assert metadata[counted].value > 0, asset
        assert all(column.description for column in metadata["dagster/column_schema"].schema.columns)
        texts = {name: str(v.value) for name, v in metadata.items() if isinstance(v, dg.MarkdownMetadataValue)}
        drawn = {name for name, text in texts.items() if text.startswith("![")}
        assert drawn == {f"g2is/{name}" for name in PICTURES.get(asset, ())}, asset
        assert all(len(text) < 81_000 for text in texts.values())
        assert texts.keys() == drawn, asset
        tables = {name for name, value in metadata.items() if isinstance(value, dg.TableMetadataValue)}
        assert tables == {"g2is/tables", "g2is/first_rows"}, asset


def test_every_stored_table_has_a_contract_that_people_are_told_of(built: Path) -> None:
    for manifest in sorted((built.parent / "lake").rglob("manifest.json")):
        version = Version(manifest.parent, read_manifest(manifest.parent))
        for table in version.manifest.n_rows:
            contract = contract_of(version.manifest.asset, table)
            columns = pl.read_parquet_schema(version.folder / f"{table}.parquet")
            missing = contract.columns.keys() - columns.keys()
            assert list(columns) == [name for name in contract.columns if name in columns], contract.name
            assert not missing or (contract is VECTORS and missing.isdisjoint({"row_id", "loss", "n_tokens"}))
        assert main_table(version.manifest.asset).table in version.manifest.n_rows


def test_without_preview_rows_no_text_of_a_row_gets_into_the_history(built: Path, instance: dg.DagsterInstance) -> None:
    built.write_text("preview_rows = 0\n" + built.read_text())
    results = run_all(built, instance, *DOMAINS)
    events = [event for result in results for event in result.get_asset_materialization_events()]
    said = "\n".join(str(e.step_materialization_data.materialization.metadata) for e in events)
    assert "g2is/tables" in said
    assert "Spell " not in said
    assert "Add " not in said


def test_a_domain_that_walks_in_balance_gets_its_adapter_and_passes_its_checks(
    built: Path, instance: dg.DagsterInstance
) -> None:
    (built.parent / "domains" / "words" / "domain.toml").write_text('[selection]\nwalk = "balanced"\n')
    result = run(built, instance, "refresh_domain", "words")
    failed = {check.check_name for check in result.get_asset_check_evaluations() if not check.passed}
    assert failed <= {"tuned_beats_base_and_random"}
    lake = Lake(built.parent / "lake")
    subset = lake.current("selection/subset", "words")
    assert subset.manifest.settings["walk"] == "balanced"
    assert subset.manifest.metrics["n_short_of_budget"] == 0
    adapter = lake.current("finetune/adapter", "words").manifest
    assert adapter.inputs["selection/subset"].data_version == subset.manifest.data_version


def test_the_subset_is_part_of_the_pool_and_respects_the_budget(built: Path) -> None:
    lake = Lake(built.parent / "lake")
    pool = pl.read_parquet(lake.current("instructions/pool").folder / "pool.parquet")
    for domain in DOMAINS:
        subset = pl.read_parquet(lake.current("selection/subset", domain).folder / "subset.parquet")
        assert 1 <= len(subset) <= 6  # 15 % of 40 rows
        assert set(subset["row_id"]) <= set(pool["row_id"])


def test_pruning_any_version_leaves_its_row_ids_and_no_text(built: Path) -> None:
    def columns(folder: Path) -> dict[str, pl.DataFrame]:
        # Of rows that the selection did not use, or that a page only shows.
        unused = ("left.parquet", "excluded.parquet", "quoted.parquet")
        tables = [pl.read_parquet(file) for file in folder.glob("*.parquet") if file.name not in unused]
        return {name: pl.concat([t.select(name) for t in tables if name in t]) for t in tables for name in t.columns}

    manifests = sorted((built.parent / "lake").rglob("manifest.json"))
    shards = sorted((built.parent / "lake").glob("vectors/shard/*/*/manifest.json"))
    assert len(manifests) - len(shards) == 5 + 9 * len(DOMAINS)
    assert len(shards) > len(DOMAINS)
    for manifest in manifests:
        before = columns(manifest.parent)
        pruning = plan_pruning(manifest.parent, read_manifest(manifest.parent))
        assert pruning is not None
        pruning.apply()
        after = columns(manifest.parent)
        assert ("row_id" in after) == ("row_id" in before)
        if "row_id" in after:
            assert set(after["row_id"]["row_id"]) == set(before["row_id"]["row_id"])
        assert after.keys().isdisjoint({"messages", "prompt", "response", "answer", "choices", "ids", "file"})


def test_the_adapter_is_a_folder_that_peft_loads(built: Path, tiny_model: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = Lake(built.parent / "lake").current("finetune/adapter", "sums").folder / "adapter"
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = PeftModel.from_pretrained(base, folder)
    assert model.peft_config["default"].r == 2


def test_scores_are_stored_per_row_for_three_models(built: Path) -> None:
    version = Lake(built.parent / "lake").current("finetune/evaluation", "words")
    scores = pl.read_parquet(version.folder / "evaluation.parquet")
    assert dict(scores["model"].value_counts().iter_rows()) == {"base": 7, "random": 7, "g2is": 7}
    mean = scores.filter(pl.col("model") == "g2is")["nll"].mean()
    assert mean == pytest.approx(version.manifest.metrics["nll_g2is"])
