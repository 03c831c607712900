"""The only place where things are wired: `build_defs` for tests and the command line, `defs` for Dagster."""

from pathlib import Path

import dagster as dg

from g2is_assets.orchestration.automation import build_jobs, build_schedules, build_study_jobs
from g2is_assets.orchestration.checks import CHECKS
from g2is_assets.orchestration.executor import waiting_executor
from g2is_assets.orchestration.metadata import table_metadata
from g2is_assets.orchestration.partitions import domain_partitions, variant_partitions
from g2is_assets.orchestration.sensors import build_sensor
from g2is_assets.settings.project import load_project
from g2is_assets.stages import audit, finetune, gradients, graph, instructions, knowledge, selection, study, warmup
from g2is_assets.stages.studies import load_studies
from g2is_assets.stages.study_recipes import variant_keys
from g2is_assets.stages.workspace import Workspace

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
    audit.report,
]
VARIANT_ASSETS = [study.subset, study.adapter, study.score]


def build_defs(config_path: str | Path | None = None) -> dg.Definitions:
    """All assets, checks, jobs, schedules and the sensor for one settings file; of studies only if there is one.

    Raises:
        SettingsError: The settings, a domain's settings or a study is wrong.
    """
    project = load_project(config_path)
    partitions = domain_partitions(sorted(project.domains))
    owners = [project.settings.owner]

    def shared(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(owners=owners).merge_attributes(
            metadata=table_metadata(spec.key.to_user_string())
        )

    def per_domain(spec: dg.AssetSpec) -> dg.AssetSpec:
        return shared(spec).replace_attributes(partitions_def=partitions)

    pool_assets = [asset.map_asset_specs(shared) for asset in POOL_ASSETS]
    domain_assets = [asset.map_asset_specs(per_domain) for asset in DOMAIN_ASSETS]
    jobs, study_assets, study_jobs = build_jobs(pool_assets, domain_assets), [], []
    if studies := load_studies(project):
        variants = variant_partitions(partitions, variant_keys(studies.values()))

        def per_variant(spec: dg.AssetSpec) -> dg.AssetSpec:
            return shared(spec).replace_attributes(partitions_def=variants)

        embedding, leaderboard = (asset.map_asset_specs(shared) for asset in (study.embedding, study.leaderboard))
        variant_assets = [asset.map_asset_specs(per_variant) for asset in VARIANT_ASSETS]
        study_assets = [embedding, *variant_assets, leaderboard]
        study_jobs = build_study_jobs(embedding, variant_assets, leaderboard)
    return dg.Definitions(
        assets=[*pool_assets, *domain_assets, *study_assets],
        asset_checks=CHECKS,
        jobs=[*jobs, *study_jobs],
        schedules=build_schedules(project),
        sensors=[build_sensor(project, jobs)],
        resources={"workspace": Workspace(project)},
        executor=waiting_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The code location that `workspace.yaml` names."""
    return build_defs()
