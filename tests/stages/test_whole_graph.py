"""The whole graph, for real, with a tiny random model and two domains."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from g2is_assets.cli.checkup import check_warmup
from g2is_assets.contracts.gradients import VECTORS
from g2is_assets.contracts.tables import contract_of, main_table
from g2is_assets.errors import G2isError, MissingInputError, SettingsError, SourceError
from g2is_assets.settings.project import load_project
from g2is_assets.stages.checks import EXAMINED, checked
from g2is_assets.stages.frame import stage_of
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import read_manifest
from g2is_assets.store.pruning import plan_pruning
from g2is_assets.store.version import Version
from support.projects import DOMAINS, Undisturbed, payload
from support.rows import write_jsonl
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
    before = set(lake.current("warmup/sample").read(_sample_contract())["row_id"])
    with (built.parent / "pool" / "sums.jsonl").open("a") as file:
        file.writelines(json.dumps({"prompt": f"Say {n}.", "response": str(n)}) + "\n" for n in range(60))
    checks = run(built, instance, "refresh_pool").get_asset_check_evaluations()
    assert set(lake.current("warmup/sample").read(_sample_contract())["row_id"]) == before
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
    after = set(lake.current("warmup/sample").read(_sample_contract())["row_id"])
    assert len(after) == 20
    assert after != before
    run(built, instance, "refresh_pool")
    assert set(lake.current("warmup/sample").read(_sample_contract())["row_id"]) == after


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
    own = [row for n in ("validation", "test") for row in _rows(built.parent / "domains" / "sums" / f"{n}.jsonl")]
    write_jsonl(built.parent / "pool" / "leak.jsonl", own)
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


def test_rows_that_are_both_validation_and_test_are_refused(built: Path, instance: dg.DagsterInstance) -> None:
    folder = built.parent / "domains" / "words"
    shutil.copy(folder / "validation.jsonl", folder / "test.jsonl")
    with pytest.raises(SourceError, match="domain 'words': 5 rows are both validation and test"):
        run(built, instance, "refresh_domain", "words")


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


def _rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def _sample_contract():  # type: ignore[no-untyped-def]
    from g2is_assets.contracts.warmup import SAMPLE

    return SAMPLE


def break_settings(settings: Path, text: str) -> None:
    settings.write_text(settings.read_text() + text)


FAULTS: dict[str, tuple[Callable[[Path], object], type[G2isError], str]] = {
    "a missing pool": (
        lambda s: [file.unlink() for file in (s.parent / "pool").iterdir()],
        SourceError,
        r"pool/\*\.jsonl.*matches no file",
    ),
    "a folder as source": (
        lambda s: s.write_text(s.read_text().replace("pool/*.jsonl", "pool")),
        SourceError,
        r"pool is or matches a folder; name the files in it, such as pool/\*\.jsonl",
    ),
    "prompts that fill max_length": (
        lambda s: s.write_text(s.read_text().replace("max_length = 96", "max_length = 16")),
        SourceError,
        r"the pool is empty.*40 set aside; pool/sums\.jsonl, line 1: no response left",
    ),
    "a file that two sources name": (
        lambda s: s.write_text(s.read_text().replace('*.jsonl"]', '*.jsonl", { path = "pool/sums.jsonl" }]')),
        SourceError,
        r"sums\.jsonl is named twice in `sources`: by 'pool/\*\.jsonl' and by 'pool/sums\.jsonl'",
    ),
    "an empty pool": (
        lambda s: [file.write_text("") for file in (s.parent / "pool").iterdir()],
        SourceError,
        r"the pool is empty.*sums\.jsonl",
    ),
    "a missing column": (
        lambda s: (s.parent / "pool" / "sums.jsonl").write_text('{"question": "a", "rating": "b"}\n'),
        SourceError,
        r"sums\.jsonl, line 1: unknown columns: question, rating; beside `question` stands no response",
    ),
    "a malformed line": (
        lambda s: (s.parent / "pool" / "sums.jsonl").write_text('{"instruction": "a", "output": "b"}\n{"instr\n'),
        SourceError,
        r"sums\.jsonl, line 2: not valid JSON",
    ),
    "an unknown setting": (
        lambda s: break_settings(s, "learning_rat = 0.1\n"),
        SettingsError,
        r"g2is\.toml: unknown setting 'finetune\.learning_rat'; did you mean 'learning_rate'",
    ),
    "an unreadable model": (
        lambda s: s.write_text(s.read_text().replace('model = "', 'model = "/nowhere', 1)),
        G2isError,
        r"there is no folder /nowhere.*; correct `model`",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_pool_or_setting_raises_one_clear_error_and_writes_nothing(
    make_project: MakeProject, instance: dg.DagsterInstance, fault: str
) -> None:
    spoil, error, message = FAULTS[fault]
    settings = make_project()
    spoil(settings)
    with pytest.raises(error, match=message):
        run(settings, instance, "refresh_pool")
    # What is stale is told also then.
    assert {file.name for file in (settings.parent / "lake").rglob("*.parquet")} <= {"staleness.parquet"}
    assert list((settings.parent / "lake").rglob(".writing-*")) == []


def test_a_domain_with_one_usable_row_fails_alone(built: Path, instance: dg.DagsterInstance) -> None:
    validation = built.parent / "domains" / "words" / "validation.jsonl"
    validation.write_text('{"instruction": "a", "output": "b"}\n{"instruction": "a", "output": ""}\n')
    before = payload(built.parent / "lake")
    with pytest.raises(
        SourceError, match=r"words/validation\.jsonl: 1 usable validation row, at least 2.*line 2: empty response"
    ):
        run(built, instance, "refresh_domain", "words")
    assert payload(built.parent / "lake") == before
    assert run(built, instance, "refresh_domain", "sums").success


def test_a_test_file_without_usable_rows_is_refused(built: Path, instance: dg.DagsterInstance) -> None:
    (built.parent / "domains" / "words" / "test.jsonl").write_text("")
    with pytest.raises(SourceError, match=r"words/test\.jsonl: 0 usable test rows"):
        run(built, instance, "refresh_domain", "words")


def test_a_budget_larger_than_the_pool_is_refused(built: Path, instance: dg.DagsterInstance) -> None:
    (built.parent / "domains" / "sums" / "domain.toml").write_text("budget = 4000\n")
    before = payload(built.parent / "lake")
    with pytest.raises(SettingsError, match=r"domain 'sums': the budget of 4,000 rows is larger than the pool's \d+"):
        run(built, instance, "refresh_domain", "sums")
    assert payload(built.parent / "lake") == before


def test_a_domain_before_its_pool_names_what_to_materialise(
    make_project: MakeProject, instance: dg.DagsterInstance
) -> None:
    with pytest.raises(MissingInputError, match="warmup/checkpoint has not been materialised"):
        run(make_project(), instance, "refresh_domain", "sums")


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
