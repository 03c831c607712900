"""The only place where things are wired: `build_defs` for tests and the command line, `defs` for Dagster."""

from pathlib import Path

import dagster as dg

from g2is_assets.orchestration.assets import build_assets
from g2is_assets.orchestration.automation import JOBS, STUDY_JOBS, build_jobs, build_schedules, build_sensor
from g2is_assets.orchestration.checks import CHECKS
from g2is_assets.orchestration.runs import run_resource
from g2is_assets.settings.project import load_project
from g2is_assets.stages.studies import load_studies


def build_defs(config_path: str | Path | None = None) -> dg.Definitions:
    """All assets, checks, jobs, schedules and the sensor for one settings file; of studies only if there is one.

    Raises:
        SettingsError: The settings, a domain's settings or a study is wrong.
    """
    project = load_project(config_path)
    studies = load_studies(project)
    jobs = build_jobs(JOBS)
    return dg.Definitions(
        assets=list(build_assets(project, studies).values()),
        asset_checks=CHECKS,
        jobs=[*jobs, *(build_jobs(STUDY_JOBS) if studies else [])],
        schedules=build_schedules(project),
        sensors=[build_sensor(project, jobs)],
        resources={"workspace": run_resource(project)},
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The code location that `workspace.yaml` names."""
    return build_defs()
