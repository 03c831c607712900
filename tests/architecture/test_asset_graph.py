"""The resolved asset graph, pinned: keys, dependencies, partitions, versions, checks and jobs."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from g2is_assets.orchestration.definitions import build_defs

GRAPH = """
audit/lineage [domain] <- finetune/adapter, finetune/evaluation
audit/report [domain] <- audit/lineage, finetune/evaluation, graph/neighbors, instructions/pool, \
instructions/target, knowledge/components, selection/subset, warmup/sample
finetune/adapter [domain] <- instructions/pool, instructions/target, selection/subset
finetune/baseline [domain] <- gradients/pool, instructions/pool, instructions/target, selection/subset
finetune/evaluation [domain] <- finetune/adapter, finetune/baseline, instructions/target
gradients/pool <- instructions/pool, warmup/checkpoint, warmup/sample
gradients/target [domain] <- instructions/target, warmup/checkpoint
graph/neighbors <- gradients/pool, instructions/pool
instructions/pool <-
instructions/target [domain] <-
knowledge/components [domain] <- gradients/target
selection/subset [domain] <- gradients/pool, gradients/target, graph/neighbors, instructions/pool, \
instructions/target
warmup/checkpoint <- warmup/sample
warmup/sample <- instructions/pool
"""

STUDY_GRAPH = """
study/adapter [domain x variant] <- instructions/pool, instructions/target, study/subset
study/embedding <- instructions/pool
study/leaderboard <- instructions/pool, study/adapter, study/score, study/subset
study/score [domain x variant] <- instructions/target, study/adapter
study/subset [domain x variant] <- gradients/pool, gradients/target, graph/neighbors, instructions/pool, \
instructions/target, study/embedding
"""


@pytest.fixture
def settings(make_project: Callable[..., Path]) -> Path:
    """Of a project with a study."""
    found = make_project()
    (found.parent / "studies").mkdir()
    said = 'domains = ["words"]\n[variants.less]\nselector = "less"\n[variants.base]\nselector = "base"\n'
    said += '[variants.near]\nselector = "embedding"\n'
    (found.parent / "studies" / "main.toml").write_text(said)
    return found


@pytest.fixture
def specs(settings: Path) -> list[dg.AssetSpec]:
    return list(build_defs(settings).resolve_all_asset_specs())


def test_the_graph_is_the_one_written_here(specs: list[dg.AssetSpec]) -> None:
    lines = []
    for spec in specs:
        several = isinstance(spec.partitions_def, dg.MultiPartitionsDefinition)
        partitioned = " [domain x variant]" if several else " [domain]" if spec.partitions_def else ""
        deps = ", ".join(sorted(dep.asset_key.to_user_string() for dep in spec.deps))
        lines.append(f"{spec.key.to_user_string()}{partitioned} <- {deps}".rstrip())
    assert sorted(lines) == sorted(GRAPH.strip().splitlines() + STUDY_GRAPH.strip().splitlines())


def test_every_asset_says_what_it_is(specs: list[dg.AssetSpec]) -> None:
    for spec in specs:
        assert spec.group_name == spec.key.path[0]
        assert spec.code_version
        assert spec.kinds
        assert spec.owners
        assert len(spec.description or "") > 60, spec.key


def test_every_asset_tells_its_columns_before_it_is_materialised(specs: list[dg.AssetSpec]) -> None:
    for spec in specs:
        columns = spec.metadata["dagster/column_schema"].columns
        assert columns, spec.key
        assert all(column.description for column in columns)


def test_groups_follow_one_another_so_that_the_graph_reads_from_left_to_right(specs: list[dg.AssetSpec]) -> None:
    stages = ["instructions", "warmup", "gradients", "graph", "knowledge", "selection", "finetune", "audit"]
    links = {(dep.asset_key.path[0], spec.group_name) for spec in specs for dep in spec.deps}
    assert {stage for link in links for stage in link} == {*stages, "study"}
    for before, after in links:
        if after != "study":  # beside the others: nothing is made from it
            assert stages.index(before) <= stages.index(str(after)), (before, after)


def test_what_can_be_set_in_the_launchpad_is_described(settings: Path) -> None:
    assets = [asset for asset in build_defs(settings).assets or [] if isinstance(asset, dg.AssetsDefinition)]
    fields = {
        f"{asset.key.to_user_string()}.{name}": field.description
        for asset in assets
        for name, field in getattr(asset.op.config_schema.config_type, "fields", {}).items()
    }
    assert fields.keys() == {"warmup/sample.redraw"}
    assert all(len(description or "") > 40 for description in fields.values())


def test_partitions_are_the_domain_folders_and_of_studies_their_variants_too(specs: list[dg.AssetSpec]) -> None:
    sets = {tuple(spec.partitions_def.get_partition_keys()) for spec in specs if spec.partitions_def}
    variants = {f"{domain}|main.{variant}" for domain in ("sums", "words") for variant in ("base", "less", "near")}
    assert {frozenset(keys) for keys in sets} == {frozenset({"sums", "words"}), frozenset(variants)}


def test_no_job_of_one_partition_writes_a_shared_asset(settings: Path) -> None:
    definitions = build_defs(settings)
    jobs = {job.name: job for job in definitions.resolve_all_job_defs() if not job.name.startswith("__")}
    keys = {name: {key.to_user_string() for key in job.asset_layer.executable_asset_keys} for name, job in jobs.items()}
    assert keys["refresh_pool"] == {
        "instructions/pool",
        "warmup/sample",
        "warmup/checkpoint",
        "gradients/pool",
        "graph/neighbors",
    }
    assert keys["refresh_pool"].isdisjoint(keys["refresh_domain"])
    assert len(keys["refresh_pool"] | keys["refresh_domain"]) == len(GRAPH.strip().splitlines())
    assert keys["study_domain"] < keys["refresh_domain"]
    assert keys["study_variant"] == {"study/subset", "study/adapter", "study/score"}
    assert (keys["study_embedding"], keys["study_leaderboard"]) == ({"study/embedding"}, {"study/leaderboard"})
