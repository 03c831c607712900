"""Jobs and schedules: what is refreshed together, and when. A domain's job never writes an asset that others share."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg

from g2is_assets.errors import SettingsError
from g2is_assets.settings.project import Domain, Project
from g2is_assets.stages.catalog import STAGES, refreshed

REFRESH_POOL: Final = "refresh_pool"
REFRESH_DOMAIN: Final = "refresh_domain"
STUDY_EMBEDDING: Final = "study_embedding"
STUDY_DOMAIN: Final = "study_domain"
STUDY_VARIANT: Final = "study_variant"
STUDY_LEADERBOARD: Final = "study_leaderboard"
NIGHTLY: Final = "0 3 * * *"
"""The schedule of a domain that names none; it waits to be switched on."""
OWNER_TAG: Final = "g2is/owner"
"""Tag of a domain's runs: Dagster knows owners of assets, not of partitions."""


def build_jobs() -> list[Any]:
    """`refresh_pool` for what all domains share, `refresh_domain` for one domain's partition."""
    return [
        _job(
            REFRESH_POOL,
            "Bring pool, checkpoint, pool gradients and graph up to date; skip what has not changed.",
            *(stage.key for stage in refreshed("project")),
        ),
        _job(
            REFRESH_DOMAIN,
            "Bring one domain up to date, from its rows to the evaluated adapter; skip the unchanged.",
            *(stage.key for stage in refreshed("domain")),
        ),
    ]


def build_study_jobs() -> list[Any]:
    """Jobs of studies; `study_variant` runs for one domain and variant, from its subset to its scores."""
    variant = [stage.key for stage in STAGES if stage.partition == "variant"]
    return [
        _job(STUDY_EMBEDDING, "Embed the pool's rows that are new, for selectors by similarity.", "study/embedding"),
        _job(
            STUDY_DOMAIN,
            "Bring up to date what the variants of a study read of a domain.",
            "instructions/target",
            "gradients/target",
        ),
        _job(
            STUDY_VARIANT,
            "Select, train and score one variant in one domain; what was trained before is read.",
            *variant,
        ),
        _job(STUDY_LEADERBOARD, "Compare everything that has been scored.", "study/leaderboard"),
    ]


def _job(name: str, description: str, *keys: str) -> Any:
    assets = [dg.AssetKey(key.split("/")) for key in keys]
    return dg.define_asset_job(name, selection=dg.AssetSelection.assets(*assets), description=description)


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
    return dg.ScheduleDefinition(
        name=f"refresh_{domain.name}",
        job_name=REFRESH_DOMAIN,
        cron_schedule=domain.refresh or NIGHTLY,
        execution_timezone=domain.timezone,
        execution_fn=_request(domain),
        default_status=dg.DefaultScheduleStatus.RUNNING if domain.refresh else dg.DefaultScheduleStatus.STOPPED,
        description=f"Refresh the domain {domain.name} ({domain.title}) alone. Owner: {domain.owner}.",
    )


def _request(domain: Domain) -> Callable[[dg.ScheduleEvaluationContext], dg.RunRequest]:
    """A run of this domain's partition, once per tick."""

    def request(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        tick = context.scheduled_execution_time.isoformat()
        return dg.RunRequest(run_key=tick, partition_key=domain.name, tags={OWNER_TAG: domain.owner})

    return request
