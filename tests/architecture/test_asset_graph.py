"""The resolved asset graph, pinned: keys, dependencies, partitions, versions, checks and jobs."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from g2is_assets.definitions import build_defs

GRAPH = """
audit/lineage [domain] <- finetune/adapter, finetune/evaluation
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
instructions/target, knowledge/components
warmup/checkpoint <- warmup/sample
warmup/sample <- instructions/pool
"""


@pytest.fixture
def specs(make_project: Callable[..., Path]) -> list[dg.AssetSpec]:
    return list(build_defs(make_project()).resolve_all_asset_specs())


def test_the_graph_is_the_one_written_here(specs: list[dg.AssetSpec]) -> None:
    lines = []
    for spec in specs:
        partitioned = " [domain]" if spec.partitions_def else ""
        deps = ", ".join(sorted(dep.asset_key.to_user_string() for dep in spec.deps))
        lines.append(f"{spec.key.to_user_string()}{partitioned} <- {deps}".rstrip())
    assert sorted(lines) == GRAPH.strip().splitlines()


def test_every_asset_says_what_it_is(specs: list[dg.AssetSpec]) -> None:
    for spec in specs:
        assert spec.group_name == spec.key.path[0]
        assert spec.code_version
        assert spec.kinds
        assert spec.owners
        assert len(spec.description or "") > 60, spec.key


def test_partitions_are_the_domain_folders(specs: list[dg.AssetSpec]) -> None:
    sets = {tuple(spec.partitions_def.get_partition_keys()) for spec in specs if spec.partitions_def}
    assert sets == {("sums", "words")}


def test_no_domain_job_writes_a_shared_asset(make_project: Callable[..., Path]) -> None:
    definitions = build_defs(make_project())
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
