"""Jobs, schedules and the sensor: what is refreshed together, and when.

The job `refresh_domain` never writes an asset that others share. A schedule refreshes a stale pool first: what two of
them are to make at once is made by one, for which the other waits, and serves both. The sensor `watch_files` refreshes
what edits of files and settings have made stale, each content once: staleness says whether there is work; a digest of
the content behind it says whether this work was asked for before.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg
import polars as pl

from g2is_assets.errors import G2isError, SettingsError
from g2is_assets.hashing import json_sha256, known_sha256
from g2is_assets.orchestration.runs import end_dead_runs
from g2is_assets.settings.project import Domain, Project, load_project
from g2is_assets.stages.catalog import STAGES, refreshed
from g2is_assets.stages.frame import recipe_of
from g2is_assets.stages.gradients import VECTORS_VERSION
from g2is_assets.stages.instructions import READ_EVERY_RUN
from g2is_assets.stages.screen import screened_by
from g2is_assets.stages.stage import MadeFrom, Place
from g2is_assets.stages.staleness import staleness
from g2is_assets.stages.workspace import Workspace

REFRESH_POOL: Final = "refresh_pool"
REFRESH_DOMAIN: Final = "refresh_domain"
REFRESH_BOTH: Final = "refresh_pool_and_domain"
JOBS: Final[dict[str, tuple[str, list[str]]]] = {
    REFRESH_POOL: (
        "Bring pool, checkpoint, pool gradients and graph up to date; skip what has not changed.",
        [stage.key for stage in refreshed("project")],
    ),
    REFRESH_DOMAIN: (
        "Bring one domain up to date, from its rows to the evaluated adapter; skip the unchanged.",
        [stage.key for stage in refreshed("domain")],
    ),
    REFRESH_BOTH: (
        "Bring the pool up to date, then one domain: what schedules launch.",
        [stage.key for kind in ("project", "domain") for stage in refreshed(kind)],
    ),
}
"""What all domains share, one domain's partition, and both: description and assets by the job's name."""
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
INTERVAL_S: Final = 30
CONTENT_TAG: Final = "g2is/content"
"""Tag of a run that the sensor asked for: digest of the content that it was asked for."""
POOL: Final = ""
"""What `refresh_pool` refreshes, where a domain's name stands for its partition."""
UNDER_WAY: Final = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
UNFINISHED: Final = [status for status in dg.DagsterRunStatus if status not in ENDED]


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
    return [_schedule_of(project, domain) for domain in project.domains.values()]


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
        dg.ScheduleDefinition(name="one", job_name="one", cron_schedule=cron, execution_timezone=domain.timezone)
    except (ValueError, dg.DagsterInvalidDefinitionError):
        raise SettingsError(
            f"{domain.file}: refresh: {cron!r} is no cron schedule of five fields, such as '0 3 * * *' for 3 o'clock"
        ) from None
    try:
        found.get_next_partition_window(datetime.now(UTC))
    except ValueError:
        raise SettingsError(f"{domain.file}: refresh: the day that {cron!r} names never comes") from None


def _schedule_of(project: Project, domain: Domain) -> dg.ScheduleDefinition:
    def request(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        """A run of this domain's partition, once per tick; of the pool too where that is stale."""
        tick = context.scheduled_execution_time.isoformat()
        kinds = ("project", "domain") if domain.refresh_pool and _pool_is_due(project) else ("domain",)
        wanted = [dg.AssetKey(stage.key.split("/")) for kind in kinds for stage in refreshed(kind)]
        tags = {OWNER_TAG: domain.owner}
        return dg.RunRequest(run_key=tick, partition_key=domain.name, tags=tags, asset_selection=wanted)

    return dg.ScheduleDefinition(
        name=f"refresh_{domain.name}",
        job_name=REFRESH_BOTH,
        cron_schedule=domain.refresh or NIGHTLY,
        execution_timezone=domain.timezone,
        execution_fn=request,
        default_status=dg.DefaultScheduleStatus.RUNNING if domain.refresh else dg.DefaultScheduleStatus.STOPPED,
        description=f"Refresh the domain {domain.name} ({domain.title})"
        f"{', the pool first where it is stale' if domain.refresh_pool else ' alone'}. Owner: {domain.owner}.",
    )


def _pool_is_due(project: Project) -> bool:
    """Whether what domains share is stale, or is only told by a run because it lies behind an address."""
    try:
        table = staleness(Workspace(load_project(project.path), looking=True)).filter(pl.col("domain").is_null())
    except (G2isError, OSError):  # the run will say what is wrong, and fail where somebody looks
        return False
    return bool((table["stale"] | table["reason"].fill_null("").str.contains(READ_EVERY_RUN, literal=True)).any())


def build_sensor(project: Project, jobs: Sequence[Any]) -> dg.SensorDefinition:
    """`watch_files` for a project and its jobs, off unless the settings say `watch` or it is switched on."""

    def watch(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            now = load_project(project.path)
        except SettingsError as error:  # no run could start either
            return dg.SkipReason(f"nothing is refreshed until this is mended: {error}")
        tick = _Tick(Workspace(now, looking=True), context.instance, project.domains, context.cursor)
        tick.look()
        reason = "; ".join(tick.notes) or "nothing is stale"
        skip = None if tick.requests else dg.SkipReason(reason)
        return dg.SensorResult(run_requests=tick.requests, skip_reason=skip, cursor=tick.cursor)

    return dg.SensorDefinition(
        name="watch_files",
        evaluation_fn=watch,
        jobs=jobs,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING if project.settings.watch else dg.DefaultSensorStatus.STOPPED,
        description="Refresh the pool, then the domains, that edited files or settings have made stale. An edit counts "
        "when two looks in a row see the same content; a run that failed is not repeated for the same content.",
    )


class _Tick:
    """One look: what is due, and of it what is asked for now."""

    def __init__(
        self, workspace: Workspace, instance: dg.DagsterInstance, partitions: Collection[str], before: str | None
    ) -> None:
        self.workspace, self.instance, self.partitions = workspace, instance, partitions
        memory: dict[str, dict[str, str]] = json.loads(before or "{}")
        self.seen_before, self.asked = memory.get("seen", {}), memory.get("asked", {})
        self.seen: dict[str, str] = {}
        self.requests: list[dg.RunRequest] = []
        self.notes: list[str] = []

    @property
    def cursor(self) -> str:
        """What the next look has to know: content seen now, and content last asked for."""
        return json.dumps({"seen": self.seen, "asked": self.asked}, sort_keys=True)

    def look(self) -> None:
        """Ask for the pool where it is due; else, and only while the pool is at rest, for the domains that are."""
        self.busy = self.in_flight()  # first: what ends meanwhile is not taken for stale and at rest
        due = staleness(self.workspace).filter("direct")
        pool = due.filter(pl.col("domain").is_null())
        if POOL in self.busy:
            self.notes.append("the pool is being refreshed")
        elif len(pool) and self.consider(POOL):
            pass  # what the domains need is not known yet
        elif (pool["state"] == "missing").any():
            self.notes.append("the domains wait for the pool")
        else:
            for domain in due["domain"].drop_nulls().unique(maintain_order=True):
                self.consider(domain)

    def consider(self, scope: str) -> bool:
        """Ask for a run if the content is at rest and new; whether one was asked for, or may be in the next look."""
        name, domain = (scope, scope) if scope else ("the pool", None)
        if scope and scope not in self.partitions:
            self.notes.append(f"{name} is new: reload the definitions")
            return False
        if scope in self.busy:
            self.notes.append(f"{name} is being refreshed")
            return False
        try:
            content = _content(self.workspace, domain)
        except (G2isError, OSError) as error:
            self.notes.append(f"{name}: {error}")
            return False
        self.seen[scope] = content
        runs = self.instance.get_runs(dg.RunsFilter(tags={CONTENT_TAG: content}))
        if self.asked.get(scope) == content or (runs and not runs[0].is_success):
            self.notes.append(f"{name}: a run was asked for with this content; see how it ended")
            return False
        if self.seen_before.get(scope) != content:
            self.notes.append(f"{name} has changed; it is refreshed if the next look sees the same")
            return True
        job = REFRESH_DOMAIN if domain else REFRESH_POOL
        owner = {OWNER_TAG: self.workspace.project.domain(domain).owner} if domain else {}
        key = f"{job}/{scope}/{content}/{len(runs)}"  # runs with this content, before this one, make the key a new one
        request = dg.RunRequest(key, job_name=job, partition_key=domain, tags={CONTENT_TAG: content} | owner)
        self.requests.append(request)
        self.asked[scope] = content
        return True

    def in_flight(self) -> set[str]:
        """What is being refreshed, or will be, by a process that is alive."""
        wanted = dg.RunsFilter(statuses=UNFINISHED)
        if self.instance.is_persistent and self.instance.get_runs(wanted, limit=1):
            end_dead_runs(self.instance)
        runs = [run for run in self.instance.get_runs(wanted) if run.job_name in JOBS]
        shared = dg.AssetKey(["instructions", "pool"])
        of_both = [run for run in runs if run.job_name == REFRESH_BOTH]
        pool = [POOL for run in of_both if run.asset_selection is None or shared in run.asset_selection]
        return {*pool, *(run.tags.get("dagster/partition", POOL) for run in runs)}


def _content(workspace: Workspace, domain: str | None) -> str:
    """Digest of all that people can edit and that a refresh of the pool, or of a domain, may depend on.

    Raises:
        G2isError: A source or the model is not there.
    """
    settings = workspace.project.settings
    if domain is None:
        stages = {"warmup", "gradients", "graph", "model", "revision", "device"}
        said: Any = settings.model_dump(mode="json", include=stages)
        behind: Any = [VECTORS_VERSION, screened_by(workspace, MadeFrom({})).settings]
    else:
        project = workspace.project
        said = project.domain(domain).model_dump(mode="json", include={"knowledge", "selection", "finetune"})
        # audit/lineage records the settings files themselves.
        said["files"] = [known_sha256(f) for f in (project.path, project.domain(domain).file) if f.exists()]
        found = {stage.key: workspace.lake.find(stage.key) for stage in refreshed("project")}
        behind = {key: version and version.manifest.data_version for key, version in found.items()}
    recipe = recipe_of(workspace, "instructions/target" if domain else "instructions/pool", Place(domain or ""))
    code = {stage.key: stage.code_version for stage in refreshed("domain" if domain else "project")}
    return json_sha256([recipe.input_digest, said, behind, code])
