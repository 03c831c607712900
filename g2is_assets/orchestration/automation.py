"""Jobs and schedules: what is refreshed together, and when. A domain's job never writes an asset that others share."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg

from g2is_assets.errors import SettingsError
from g2is_assets.settings.project import Domain, Project
from g2is_assets.stages.catalog import STAGES, refreshed

REFRESH_POOL: Final = "refresh_pool"
REFRESH_DOMAIN: Final = "refresh_domain"
JOBS: Final[dict[str, tuple[str, list[str]]]] = {
    REFRESH_POOL: (
        "Bring pool, checkpoint, pool gradients and graph up to date; skip what has not changed.",
        [stage.key for stage in refreshed("project")],
    ),
    REFRESH_DOMAIN: (
        "Bring one domain up to date, from its rows to the evaluated adapter; skip the unchanged.",
        [stage.key for stage in refreshed("domain")],
    ),
}
"""What all domains share, and one domain's partition: description and assets by the job's name."""
STUDY_JOBS: Final = {
    "study_embedding": ("Embed the pool's rows that are new, for selectors by similarity.", ["study/embedding"]),
    "study_domain": (
        "Bring up to date what the variants of a study read of a domain.",
        [stage.key for stage in refreshed("domain") if stage.key.endswith("/target")],
    ),
    "study_variant": (
        "Select, train and score one variant in one domain; what was trained before is read.",
        [stage.key for stage in STAGES if stage.partition == "variant"],
    ),
    "study_leaderboard": ("Compare everything that has been scored.", ["study/leaderboard"]),
}
"""The same of studies; `study_variant` runs for one domain and variant, from its subset to its scores."""
NIGHTLY: Final = "0 3 * * *"
"""The schedule of a domain that names none; it waits to be switched on."""
ENDED: Final = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
OWNER_TAG: Final = "g2is/owner"
"""Tag of a domain's runs: Dagster knows owners of assets, not of partitions."""


def build_jobs(jobs: Mapping[str, tuple[str, list[str]]]) -> list[Any]:
    """Jobs of `JOBS` or `STUDY_JOBS`."""
    return [
        dg.define_asset_job(name, dg.AssetSelection.assets(*(key.split("/") for key in keys)), description=description)
        for name, (description, keys) in jobs.items()
    ]


def build_schedules(project: Project) -> list[dg.ScheduleDefinition]:
    """`refresh_<domain>` for every domain: on if its `domain.toml` says when, else nightly and off.

    Raises:
        SettingsError: A domain's `refresh` is no cron schedule.
    """
    for domain in project.domains.values():
        check_cron(domain)
    return [_schedule_of(domain) for domain in project.domains.values()]


def check_cron(domain: Domain) -> None:
    """Hold a domain's `refresh` to what Dagster can run.

    Raises:
        SettingsError: It has other than five fields, is no cron schedule, or names a day that never comes.
    """
    cron = domain.refresh
    if cron is None:
        return
    try:
        if len(cron.split()) != 5:
            raise ValueError
        found = dg.TimeWindowPartitionsDefinition(
            datetime(2024, 1, 1), "%Y-%m-%d", timezone=domain.timezone, cron_schedule=cron
        )
        _schedule_of(domain)
    except (ValueError, dg.DagsterInvalidDefinitionError):
        raise SettingsError(
            f"{domain.file}: refresh: {cron!r} is no cron schedule of five fields, such as '0 3 * * *' for 3 o'clock"
        ) from None
    try:
        found.get_next_partition_window(datetime.now(UTC))
    except ValueError:
        raise SettingsError(f"{domain.file}: refresh: the day that {cron!r} names never comes") from None


def _schedule_of(domain: Domain) -> dg.ScheduleDefinition:
    def request(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        """A run of this domain's partition, once per tick."""
        tick = context.scheduled_execution_time.isoformat()
        return dg.RunRequest(run_key=tick, partition_key=domain.name, tags={OWNER_TAG: domain.owner})

    return dg.ScheduleDefinition(
        name=f"refresh_{domain.name}",
        job_name=REFRESH_DOMAIN,
        cron_schedule=domain.refresh or NIGHTLY,
        execution_timezone=domain.timezone,
        execution_fn=request,
        default_status=dg.DefaultScheduleStatus.RUNNING if domain.refresh else dg.DefaultScheduleStatus.STOPPED,
        description=f"Refresh the domain {domain.name} ({domain.title}) alone. Owner: {domain.owner}.",
    )
