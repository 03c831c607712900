"""A small study, for real: two domains, four variants, a tiny model; again, without its lake, and what is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from g2is_assets.contracts import study as contracts
from g2is_assets.core.problem import Problem, Selection
from g2is_assets.core.selectors import SELECTORS
from g2is_assets.errors import MissingInputError, SettingsError, StudyPaused
from g2is_assets.orchestration.definitions import build_defs
from g2is_assets.settings.project import load_project
from g2is_assets.stages.frame import recipe_of
from g2is_assets.stages.variants import place_of
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.gc import collect_garbage
from g2is_assets.store.lake import Lake
from g2is_assets.store.measured import Measured
from g2is_assets.store.views import rebuild_views
from g2is_assets.trail.chain import follow
from g2is_assets.trail.exposure import TRAINED, Exposures
from support.projects import STUDY, payload, write_project

VARIANTS = ("base", "random", "less", "embedding")
DOMAINS = ("sums", "words")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run(
    settings: Path, instance: dg.DagsterInstance, job: str, key: object = None, **tags: str
) -> dg.ExecuteInProcessResult:
    found = build_defs(settings).resolve_job_def(job)
    return found.execute_in_process(instance=instance, run_config=QUIET, partition_key=key, tags=tags)  # type: ignore[arg-type]


def variant_key(domain: str, variant: str) -> dg.MultiPartitionKey:
    return dg.MultiPartitionKey({"domain": domain, "variant": f"small.{variant}"})


def prepare(settings: Path, instance: dg.DagsterInstance) -> None:
    run(settings, instance, "refresh_pool")
    run(settings, instance, "study_embedding")
    for domain in DOMAINS:
        run(settings, instance, "study_domain", domain)


def run_study(settings: Path, instance: dg.DagsterInstance) -> dict[str, int]:
    """Everything; returns for every materialisation of the stage whether it did work."""
    prepare(settings, instance)
    keys = [variant_key(domain, variant) for domain in DOMAINS for variant in VARIANTS]
    results = [run(settings, instance, "study_variant", key) for key in keys]
    results.append(run(settings, instance, "study_leaderboard"))
    computed = {}
    for result in results:
        for event in result.get_asset_materialization_events():
            made = event.step_materialization_data.materialization
            computed[f"{'/'.join(made.asset_key.path)}[{made.partition}]"] = int(made.metadata["g2is/computed"].value)
    return computed


@pytest.fixture(scope="module")
def built_once(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = write_project(tmp_path_factory.mktemp("study") / "project", tiny_model)
    (settings.parent / "studies").mkdir()
    (settings.parent / "studies" / "small.toml").write_text(STUDY)
    test = settings.parent / "domains" / "sums" / "test.jsonl"
    choice = {"instruction": "Is 2 even?", "output": "Yes", "answer": "Yes", "choices": ["No", "Yes"]}
    test.write_text(json.dumps(choice) + "\n" + test.read_text())
    with dg.DagsterInstance.ephemeral() as instance:
        computed = run_study(settings, instance)
    assert set(computed.values()) == {1}
    assert len(computed) == 3 * len(DOMAINS) * len(VARIANTS) + 1
    return settings


@pytest.fixture
def built(built_once: Path, tmp_path: Path) -> Path:
    shutil.copytree(built_once.parent, tmp_path / "project")
    return tmp_path / "project" / built_once.name


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained or scored again")

    for name in ("fit.fit_lora", "evaluate.nll_and_choices", "evaluate.answer"):
        monkeypatch.setattr(f"g2is_assets.training.{name}", refuse)


def lake_of(settings: Path) -> Lake:
    return Lake(settings.parent / "lake")


def board_of(settings: Path) -> pl.DataFrame:
    return lake_of(settings).current("study/leaderboard").read(contracts.LEADERBOARD)


def cell_files(settings: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in (settings.parent / "cells").rglob("*.parquet")}


def test_a_second_run_trains_nothing_and_changes_no_byte(
    built: Path, instance: dg.DagsterInstance, no_training: None
) -> None:
    before, cells = payload(built.parent / "lake"), cell_files(built)
    assert set(run_study(built, instance).values()) == {0}
    assert payload(built.parent / "lake") == before
    assert cell_files(built) == cells


def test_without_its_lake_a_study_takes_its_scores_from_the_cells(
    built: Path, instance: dg.DagsterInstance, no_training: None
) -> None:
    before, cells = board_of(built), cell_files(built)
    shutil.rmtree(built.parent / "lake")
    run_study(built, instance)
    assert board_of(built).drop("selection_s").equals(before.drop("selection_s"))
    assert cell_files(built) == cells


def test_without_its_cells_a_study_repeats_them_to_the_digit(built: Path, instance: dg.DagsterInstance) -> None:
    before = Measured(built.parent / "cells", "small").all()
    key = variant_key("sums", "random")
    shutil.rmtree(built.parent / "cells")
    result = run(built, instance, "study_variant", key)
    assert result.success
    again = Measured(built.parent / "cells", "small").all().values()
    assert len(again) == 3
    for cell in again:
        assert cell.validation_nll == before[cell.digest].validation_nll
        scores, then = cell.scores, before[cell.digest].scores
        assert (scores and (scores.nll, scores.correct)) == (then and (then.nll, then.correct))


def test_every_variant_has_its_rows_trainings_and_scores(built: Path) -> None:
    lake = lake_of(built)
    for domain in DOMAINS:
        for variant in VARIANTS:
            place = f"{domain}.small.{variant}"
            seeds = {"base": [0], "less": [0]}.get(variant, [0, 1])
            subset = lake.current("study/subset", place).read(contracts.SUBSET)
            trainings = lake.current("study/adapter", place).read(contracts.ADAPTER)
            scores = lake.current("study/score", place).read(contracts.SCORES)
            assert subset.group_by("seed").len().sort("seed").rows() == (
                [] if variant == "base" else [(seed, 6) for seed in seeds]
            )
            assert trainings.filter("chosen")["seed"].to_list() == seeds
            assert len(trainings) == (1 if variant == "base" else 2 + len(seeds) - 1)
            assert scores["seed"].unique().sort().to_list() == seeds
            assert scores.filter(part="development")["row_id"].n_unique() == 4
            assert scores.filter(part="final")["row_id"].n_unique() == (4 if domain == "sums" else 3)
            parts = lake.parts_of(lake.current("study/adapter", place)).values()
            assert len(parts) == (0 if variant == "base" else len(seeds))
            assert all(list(part.folder.glob("adapter/*.safetensors")) for part in parts)


def test_development_rows_are_the_first_of_the_file(built: Path) -> None:
    scores = lake_of(built).current("study/score", "sums.small.base").read(contracts.SCORES)
    target = lake_of(built).current("instructions/target", "sums").folder / "target.parquet"
    named = scores.join(pl.read_parquet(target), on="row_id").filter(part="development")
    # The row with choices, which has no id, then three of the file's others.
    assert set(named["ids"].list.first()) == {None, "sums:205", "sums:206", "sums:207"}
    assert named.filter(pl.col("correct").is_not_null())["prompt"].to_list() == ["Is 2 even?"]


def test_selectors_that_do_not_draw_choose_alike_for_every_seed(built: Path) -> None:
    lake = lake_of(built)
    for variant, alike in (("embedding", True), ("random", False)):
        table = lake.current("study/subset", f"words.small.{variant}").read(contracts.SUBSET)
        first, second = (table.filter(seed=seed)["row_id"].to_list() for seed in (0, 1))
        assert (first == second) is alike


def test_the_leaderboard_compares_every_variant_and_hides_final_rows(built: Path, instance: dg.DagsterInstance) -> None:
    board = board_of(built)
    assert set(board["part"]) == {"development"}
    assert set(board["domain"]) == {"sums", "words", "all"}
    for _, part in board.group_by("domain"):
        assert set(part["variant"]) == set(VARIANTS)
        assert part["rank"].to_list() == [1, 2, 3, 4]
        assert part["nll"].is_sorted()
    assert board.filter(domain="sums")["accuracy"].is_not_null().all()
    assert board.filter(domain="words")["accuracy"].is_null().all()
    # `less` has one seed, `random` two: what is compared are the means shown.
    for _, part in board.group_by("domain"):
        nll = dict(part.select("variant", "nll").iter_rows())
        assert part.filter(variant="less")["minus_random"].to_list() == pytest.approx([nll["less"] - nll["random"]])
    study = built.parent / "studies" / "small.toml"
    study.write_text("final = true\n" + study.read_text())
    run(built, instance, "study_leaderboard")
    assert set(board_of(built)["part"]) == {"development", "final"}


def test_pictures_stand_in_the_metadata(built: Path, instance: dg.DagsterInstance) -> None:
    events = run(built, instance, "study_leaderboard").get_asset_materialization_events()
    metadata = events[0].step_materialization_data.materialization.metadata
    for name in ("grid", "intervals"):
        assert str(metadata[f"g2is/{name}"].value).startswith(f"![{name}](data:image/png;base64,iVBORw0KGgo")


def test_a_domain_outside_the_study_is_refused(built: Path, instance: dg.DagsterInstance) -> None:
    study = built.parent / "studies" / "small.toml"
    study.write_text('domains = ["sums"]\n' + study.read_text())
    with pytest.raises(SettingsError, match=r"small\.toml leaves the domain 'words' out \(it has sums\)"):
        run(built, instance, "study_variant", variant_key("words", "less"))


def test_when_the_time_is_over_the_run_ends_with_a_clear_word(built: Path, instance: dg.DagsterInstance) -> None:
    shutil.rmtree(built.parent / "cells")
    with pytest.raises(StudyPaused, match="the time given is over"):
        run(built, instance, "study_variant", variant_key("sums", "less"), **{"g2is/stop_at": "1.0"})


def test_fewer_validation_rows_steer_the_selection_only(built: Path, instance: dg.DagsterInstance) -> None:
    study = built.parent / "studies" / "small.toml"
    extra = '[variants.scarce]\nselector = "less"\nvalidation_rows = 2\nseeds = [0, 1]\n'
    extra += '[variants.scarce_embedding]\nselector = "embedding"\nvalidation_rows = 2\nseeds = [0, 1]\n'
    study.write_text(study.read_text() + extra)
    for variant, whole in (("scarce", "less"), ("scarce_embedding", "embedding")):
        run(built, instance, "study_variant", variant_key("sums", variant))
        few = lake_of(built).current("study/subset", f"sums.small.{variant}")
        first, second = (few.manifest.settings["validation"][seed] for seed in ("0", "1"))
        assert len(first) == len(second) == 2
        assert set(first) != set(second)
        all_of_them = lake_of(built).current("study/subset", f"sums.small.{whole}")
        tables = [version.read(contracts.SUBSET).filter(seed=0) for version in (few, all_of_them)]
        assert tables[0]["score"].to_list() != tables[1]["score"].to_list()
        other_rows = few.read(contracts.SUBSET).filter(seed=1)
        assert tables[0]["score"].to_list() != other_rows["score"].to_list()


def test_a_variant_may_read_a_smaller_sketch(
    built: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = built.parent / "studies" / "small.toml"
    study.write_text(study.read_text() + '[variants.cheap]\nselector = "less"\nseeds = [0]\nsketch_dim = 16\n')
    seen = []

    def spy(problem: Problem) -> Selection:
        assert problem.target is not None
        seen.append((problem.gradients["adam"].shape[1], problem.target.shape[1]))
        return SELECTORS["random"].select(problem)

    monkeypatch.setitem(SELECTORS, "less", replace(SELECTORS["less"], select=spy))
    run(built, instance, "study_variant", variant_key("sums", "cheap"))
    assert seen == [(16, 16)]
    assert lake_of(built).current("study/subset", "sums.small.cheap").manifest.settings["sketch_dim"] == 16


def test_a_default_that_a_variant_leaves_open_is_part_of_what_its_rows_are_made_from(built: Path) -> None:
    study = built.parent / "studies" / "small.toml"
    digests = []
    for options in ("", "options = { redundancy = 0.25 }\n", "options = { redundancy = 0.5 }\n"):
        study.write_text(f'{STUDY}[variants.walk]\nselector = "g2is"\n{options}')
        workspace = Workspace(load_project(built))
        made_from = recipe_of(workspace, "study/subset", place_of(workspace, "sums", "small.walk"))
        assert made_from.settings["options"]["fair"] is True
        digests.append(made_from.input_digest)
    assert digests[0] == digests[1] != digests[2]


def test_the_sources_of_a_domains_rows_are_the_sub_tasks_that_less_tells_apart(
    built: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = built.parent / "domains" / "sums" / "validation.jsonl"
    lines = file.read_text().splitlines()
    file.write_text(
        "\n".join([*lines[:2], *(line.replace('"source": "sums"', '"source": "more"') for line in lines[2:])])
    )
    prepare(built, instance)
    seen = {}

    def spy(problem: Problem) -> Selection:
        seen.update(zip(map(tuple, problem.target.tolist()), problem.sub_tasks, strict=True))
        return SELECTORS["random"].select(problem)

    monkeypatch.setitem(SELECTORS, "less", replace(SELECTORS["less"], select=spy))
    run(built, instance, "study_variant", variant_key("sums", "less"))
    assert sorted(seen.values()) == ["more"] * (len(lines) - 2) + ["sums"] * 2


def test_views_have_the_names_of_the_tables(built: Path) -> None:
    import duckdb

    with duckdb.connect(str(rebuild_views(lake_of(built))), read_only=True) as connection:
        names = {row[0] for row in connection.execute("SHOW TABLES").fetchall()}
        counted = connection.execute("SELECT count(*) FROM study_embedding_vectors").fetchone()
    assert {
        "study_subset",
        "study_adapter",
        "study_score",
        "study_leaderboard",
        "study_leaderboard_overlap",
        "study_leaderboard_sources",
        "study_embedding_index",
        "study_embedding_set_aside",
    } <= names
    assert counted == (40,)


def test_collection_leaves_what_the_study_uses(built: Path, instance: dg.DagsterInstance, no_training: None) -> None:
    before = payload(built.parent / "lake")
    collect_garbage(lake_of(built), keep_versions=1, min_age_s=0)
    assert payload(built.parent / "lake") == before
    assert set(run_study(built, instance).values()) == {0}


def test_rows_that_a_study_trained_on_are_exposures_and_its_chain_is_whole(built: Path) -> None:
    lake = lake_of(built)
    taken = lake.current("study/subset", "sums.small.random").read(contracts.SUBSET)["row_id"].unique()
    found = [one for one in Exposures(lake).of(set(taken)) if one.domain == "sums.small.random"]
    assert {one.row_id for one in found if one.kind == TRAINED} == set(taken)
    assert len([one for one in found if one.kind == TRAINED]) == len(taken)
    chain = follow(lake, [lake.current("study/leaderboard")])
    assert [link.label for link in chain if link.version is None] == []
    assert {"study/embedding", "gradients/target", "warmup/sample"} <= {link.asset for link in chain}


def test_what_an_earlier_text_of_the_study_gave_is_left_out_until_it_is_made_again(
    built: Path, instance: dg.DagsterInstance
) -> None:
    study = built.parent / "studies" / "small.toml"
    study.write_text(STUDY.replace('selector = "less"\n', 'selector = "length"\n', 1))
    run(built, instance, "study_leaderboard")
    assert set(board_of(built)["variant"]) == set(VARIANTS) - {"less"}
    run(built, instance, "study_variant", variant_key("sums", "less"))
    run(built, instance, "study_leaderboard")
    assert set(board_of(built).filter(domain="sums")["variant"]) == set(VARIANTS)
    assert set(board_of(built).filter(domain="words")["variant"]) == set(VARIANTS) - {"less"}
    study.write_text(STUDY.replace("rates = [0.03, 0.003]", "rates = [0.03]"))
    with pytest.raises(MissingInputError, match="no variant of any study has been scored yet"):
        run(built, instance, "study_leaderboard")


def test_a_leaderboard_of_nothing_is_refused(built: Path, instance: dg.DagsterInstance) -> None:
    shutil.rmtree(built.parent / "lake" / "study" / "score")
    with pytest.raises(MissingInputError, match="no variant of any study has been scored yet"):
        run(built, instance, "study_leaderboard")


def test_what_was_scored_on_other_test_rows_leaves_the_board_until_it_is_scored_again(
    built: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = built.parent / "domains" / "sums" / "test.jsonl"
    test.write_text(test.read_text() + '{"instruction": "Is 3 even?", "output": "No"}\n')
    prepare(built, instance)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("g2is_assets.training.fit.fit_lora", refuse)  # the adapters are kept: they are only scored
    run(built, instance, "study_variant", variant_key("sums", "less"))
    run(built, instance, "study_leaderboard")
    board = board_of(built)
    assert set(board.filter(domain="sums")["variant"]) == {"less"}
    assert set(board.filter(domain="words")["variant"]) == set(VARIANTS)


def test_a_project_without_studies_has_no_study_assets(make_project: Callable[[], Path]) -> None:
    keys = {spec.key.path[0] for spec in build_defs(make_project()).resolve_all_asset_specs()}
    assert "study" not in keys
    assert "selection" in keys
