"""Jobs and schedules: what is refreshed together, and when. A domain's job never writes an asset that others share."""

import time
from collections.abc import Callable
from typing import Any, Final

import dagster as dg
from dagster._utils.schedules import is_valid_cron_string, schedule_execution_time_iterator

from g2is_assets.errors import SettingsError
from g2is_assets.settings.project import Domain, Project

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


def build_jobs(
    pool_assets: list[dg.AssetsDefinition],
    domain_assets: list[dg.AssetsDefinition],
) -> list[Any]:
    """`refresh_pool` for what all domains share, `refresh_domain` for one domain's partition."""
    return [
        dg.define_asset_job(
            REFRESH_POOL,
            selection=dg.AssetSelection.assets(*pool_assets),
            description="Bring pool, checkpoint, pool gradients and graph up to date; skip what has not changed.",
        ),
        dg.define_asset_job(
            REFRESH_DOMAIN,
            selection=dg.AssetSelection.assets(*domain_assets),
            description="Bring one domain up to date, from its rows to the evaluated adapter; skip the unchanged.",
        ),
    ]


def build_study_jobs(
    embedding: dg.AssetsDefinition, variant_assets: list[dg.AssetsDefinition], leaderboard: dg.AssetsDefinition
) -> list[Any]:
    """Jobs of studies; `study_variant` runs for one domain and variant, from its subset to its scores."""
    return [
        dg.define_asset_job(
            STUDY_EMBEDDING,
            selection=dg.AssetSelection.assets(embedding),
            description="Embed the pool's rows that are new, for selectors by similarity.",
        ),
        dg.define_asset_job(
            STUDY_DOMAIN,
            selection=dg.AssetSelection.assets(["instructions", "target"], ["gradients", "target"]),
            description="Bring up to date what the variants of a study read of a domain.",
        ),
        dg.define_asset_job(
            STUDY_VARIANT,
            selection=dg.AssetSelection.assets(*variant_assets),
            description="Select, train and score one variant in one domain; what was trained before is read.",
        ),
        dg.define_asset_job(
            STUDY_LEADERBOARD,
            selection=dg.AssetSelection.assets(leaderboard),
            description="Compare everything that has been scored.",
        ),
    ]


def build_schedules(project: Project) -> list[dg.ScheduleDefinition]:
    """`refresh_<domain>` for every domain: on if its `domain.toml` says when, else nightly and off.

    Raises:
        SettingsError: A domain's `refresh` is no cron schedule.
    """
    return [_schedule(domain) for domain in project.domains.values()]


def check_cron(domain: Domain) -> None:
    """Hold a domain's `refresh` to what Dagster can run.

    Raises:
        SettingsError: It has other than five fields, is no cron schedule, or names a day that never comes.
    """
    cron = domain.refresh
    if cron is None:
        return
    fault = f"{domain.file}: refresh: {cron!r} is no cron schedule of five fields, such as '0 3 * * *' for 3 o'clock"
    if len(cron.split()) != 5 or not is_valid_cron_string(cron):
        raise SettingsError(fault)
    try:
        next(schedule_execution_time_iterator(time.time(), cron, domain.timezone))
    except ValueError:
        raise SettingsError(f"{domain.file}: refresh: the day that {cron!r} names never comes") from None


def _schedule(domain: Domain) -> dg.ScheduleDefinition:
    check_cron(domain)
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
