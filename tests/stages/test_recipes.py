"""Recipes: one for every asset, and the digest of each is the one that its version was made with."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg

from g2is_assets.orchestration.definitions import build_defs
from g2is_assets.settings.project import load_project
from g2is_assets.stages.recipes import CODE_VERSIONS, PER_DOMAIN, READ_EVERY_RUN, RECIPES, SHARED, in_run, recipe_of
from g2is_assets.stages.workspace import Workspace

MakeProject = Callable[..., Path]
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def test_every_asset_has_a_recipe_and_the_code_version_of_its_definition(make_project: MakeProject) -> None:
    specs = list(build_defs(make_project()).resolve_all_asset_specs())
    assert {spec.key.to_user_string(): spec.code_version for spec in specs} == CODE_VERSIONS
    assert {spec.key.to_user_string(): spec.partitions_def is not None for spec in specs} == {
        asset: asset in PER_DOMAIN for asset in RECIPES
    }


def test_a_recipe_names_the_inputs_that_the_graph_has_and_stands_after_them(
    make_project: MakeProject, instance: dg.DagsterInstance
) -> None:
    settings = make_project()
    definitions = build_defs(settings)
    for job, domain in (("refresh_pool", None), ("refresh_domain", "sums")):
        definitions.resolve_job_def(job).execute_in_process(instance=instance, run_config=QUIET, partition_key=domain)
    workspace = Workspace(load_project(settings))
    upstream = {
        spec.key.to_user_string(): {dep.asset_key.to_user_string() for dep in spec.deps}
        for spec in definitions.resolve_all_asset_specs()
    }
    seen: set[str] = set()
    for asset in RECIPES:
        recipe = recipe_of(workspace, asset, None if asset in SHARED else "sums")
        made = workspace.lake.current(asset, recipe.partition).manifest
        assert (recipe.input_digest, recipe.settings) == (made.input_digest, made.settings)
        assert recipe.versions.keys() == recipe.inputs.keys() & RECIPES.keys() <= seen
        if asset != "gradients/target":
            assert upstream[asset] == set(recipe.versions)
        seen.add(asset)


def test_a_run_stands_in_for_the_content_behind_a_uri(make_project: MakeProject) -> None:
    settings = make_project()
    text = settings.read_text().replace('["pool/*.jsonl"]', '["pool/*.jsonl", "https://example.org/rows.jsonl"]')
    settings.write_text(text)
    recipe = recipe_of(Workspace(load_project(settings)), "instructions/pool")
    uri = "file:https://example.org/rows.jsonl"
    assert [name for name, value in recipe.inputs.items() if value.data_version == READ_EVERY_RUN] == [uri]
    one, other = in_run(recipe, "run 1"), in_run(recipe, "run 2")
    assert one.inputs[uri].data_version == "run 1"
    assert one.input_digest != other.input_digest
    assert one.inputs["file:pool/sums.jsonl"] == recipe.inputs["file:pool/sums.jsonl"]
