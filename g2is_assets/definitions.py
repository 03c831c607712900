"""The only place where things are wired: `build_defs` for tests and the command line, `defs` for Dagster."""

from pathlib import Path

import dagster as dg

from g2is_assets.assets import audit, finetune, gradients, graph, instructions, knowledge, selection, warmup
from g2is_assets.automation import build_jobs, build_schedules
from g2is_assets.checks import CHECKS
from g2is_assets.executor import waiting_executor
from g2is_assets.partitions import domain_partitions
from g2is_assets.project import load_project
from g2is_assets.resources import Workspace
from g2is_assets.sensors import build_sensor

POOL_ASSETS = [instructions.pool, warmup.sample, warmup.checkpoint, gradients.pool, graph.neighbors]
DOMAIN_ASSETS = [
    instructions.target,
    gradients.target,
    knowledge.components,
    selection.subset,
    finetune.adapter,
    finetune.baseline,
    finetune.evaluation,
    audit.lineage,
]


def build_defs(config_path: str | Path | None = None) -> dg.Definitions:
    """All assets, checks, jobs, schedules and the sensor for one settings file.

    Raises:
        SettingsError: The settings or a domain's settings are wrong.
    """
    project = load_project(config_path)
    partitions = domain_partitions(sorted(project.domains))
    owners = [project.settings.owner]

    def shared(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(owners=owners)

    def per_domain(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(owners=owners, partitions_def=partitions)

    pool_assets = [asset.map_asset_specs(shared) for asset in POOL_ASSETS]
    domain_assets = [asset.map_asset_specs(per_domain) for asset in DOMAIN_ASSETS]
    jobs = build_jobs(pool_assets, domain_assets)
    return dg.Definitions(
        assets=[*pool_assets, *domain_assets],
        asset_checks=CHECKS,
        jobs=jobs,
        schedules=build_schedules(project),
        sensors=[build_sensor(project, jobs)],
        resources={"workspace": Workspace(project)},
        executor=waiting_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The code location that `workspace.yaml` names."""
    return build_defs()
