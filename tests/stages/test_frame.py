"""Recipes: the digest of each is the one that its version was made with, and its inputs are those of the graph."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dagster as dg

from g2is_assets.orchestration.definitions import build_defs
from g2is_assets.settings.project import load_project
from g2is_assets.stages import catalog
from g2is_assets.stages.catalog import STAGES
from g2is_assets.stages.frame import _in_run, make, recipe_of
from g2is_assets.stages.instructions import READ_EVERY_RUN
from g2is_assets.stages.stage import PROJECT, Place
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.version import asset_of
from support.runs import computed, run_all

MakeProject = Callable[..., Path]


def test_every_stage_stands_after_those_that_it_is_made_from(make_project: MakeProject) -> None:
    project, seen = load_project(make_project()), set[str]()
    for stage in (*catalog.refreshed("project"), *catalog.refreshed("domain")):
        assert set(stage.all_inputs(project, [Place("sums")])) <= seen
        seen.add(stage.key)
    assert len({stage.key for stage in STAGES}) == len(STAGES)


def test_a_recipe_is_the_one_that_its_version_was_made_with(refreshed: Path) -> None:
    definitions, workspace = build_defs(refreshed), Workspace(load_project(refreshed))
    upstream = {
        spec.key.to_user_string(): {dep.asset_key.to_user_string() for dep in spec.deps}
        for spec in definitions.resolve_all_asset_specs()
    }
    for stage in (*catalog.refreshed("project"), *catalog.refreshed("domain")):
        place = PROJECT if stage.partition == "project" else Place("sums")
        recipe = recipe_of(workspace, stage.key, place)
        made = workspace.lake.current(stage.key, recipe.partition).manifest
        assert (recipe.input_digest, recipe.settings) == (made.input_digest, made.settings)
        assert upstream[stage.key] == {asset_of(name) for name in recipe.versions}


def test_a_balanced_subset_depends_on_neither_nodes_nor_stored_edges(copy: Path, instance: dg.DagsterInstance) -> None:
    copy.write_text(copy.read_text().replace("n_neighbors = 4", "n_neighbors = 5") + "[knowledge]\nnodes = 'mean'\n")
    made = {name for name, work in computed(*run_all(copy, instance, "sums")).items() if work}
    assert {"graph/neighbors", "knowledge/components[sums]"} <= made
    assert made.isdisjoint(
        f"{name}[sums]" for name in ("selection/subset", "finetune/adapter", "finetune/baseline", "finetune/evaluation")
    )


def test_a_run_stands_in_for_the_content_behind_a_uri(make_project: MakeProject) -> None:
    settings = make_project()
    text = settings.read_text().replace('["pool/*.jsonl"]', '["pool/*.jsonl", "https://example.org/rows.jsonl"]')
    settings.write_text(text)
    recipe = recipe_of(Workspace(load_project(settings)), "instructions/pool", PROJECT)
    uri = "file:https://example.org/rows.jsonl"
    assert [name for name, value in recipe.inputs.items() if value.data_version == READ_EVERY_RUN] == [uri]
    one, other = _in_run(recipe, "run 1"), _in_run(recipe, "run 2")
    assert one.inputs[uri].data_version == "run 1"
    assert one.input_digest != other.input_digest
    assert one.inputs["file:pool/sums.jsonl"] == recipe.inputs["file:pool/sums.jsonl"]
    assert replace(one, inputs={}) == replace(other, inputs={})


def test_what_domains_share_is_made_by_one_run_for_which_others_wait(make_project: MakeProject) -> None:
    workspace = Workspace(load_project(make_project()))

    @contextmanager
    def turn() -> Iterator[bool]:
        assert make(workspace, "instructions/pool", PROJECT, "the other").written
        yield True

    made = make(workspace, "instructions/pool", PROJECT, "this one", turn=turn)
    assert (made.written, made.version.manifest.run_id) == (False, "the other")
