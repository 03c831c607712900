"""Schedules, the sensor and retries, by real ticks and real runs on tiny projects."""

import errno
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from g2is_assets.errors import G2isError, SettingsError, SourceError
from g2is_assets.orchestration import runs
from g2is_assets.orchestration.definitions import build_defs
from g2is_assets.orchestration.runs import MAX_RETRIES, UNATTENDED, is_transient, model_turn
from g2is_assets.settings.project import DomainFile
from g2is_assets.store.lake import Lake
from support.rows import arithmetic_row, write_jsonl
from support.runs import computed, run

MakeProject = Callable[..., Path]


class Watcher:
    """Ticks of `watch_files` one after the other, with the definitions as they were loaded at first."""

    def __init__(self, settings: Path, instance: dg.DagsterInstance) -> None:
        self.settings, self.instance, self.cursor = settings, instance, None
        self.definitions = build_defs(settings)
        self.sensor = self.definitions.resolve_sensor_def("watch_files")
        self.keys: list[str | None] = []

    def tick(self) -> list[tuple[str, str | None]]:
        """Jobs and domains that this tick asks for."""
        self.data = self._evaluate()
        self.cursor = self.data.cursor
        requests = list(self.data.run_requests or [])
        self.keys += [request.run_key for request in requests]
        assert bool(requests) != bool(self.data.skip_message)
        return [(str(r.job_name), r.tags.get("dagster/partition")) for r in requests]

    def _evaluate(self) -> Any:
        repository = self.definitions.get_repository_def()
        with dg.build_sensor_context(self.instance, cursor=self.cursor, repository_def=repository) as context:
            return self.sensor.evaluate_tick(context)

    def launch(self, **options: Any) -> None:
        """Do what the last tick asked for."""
        for request in self.data.run_requests:
            domain = request.tags.get("dagster/partition")
            run(self.settings, self.instance, request.job_name, domain, tags=request.tags, **options)


@pytest.fixture
def watcher(built: Path, instance: dg.DagsterInstance) -> Watcher:
    return Watcher(built, instance)


def test_nothing_is_asked_for_where_nothing_changed(watcher: Watcher) -> None:
    assert [watcher.tick() for _ in range(3)] == [[], [], []]
    assert watcher.data.skip_message == "nothing is stale"


def test_a_burst_of_edits_of_a_domain_is_one_run_of_that_domain(watcher: Watcher) -> None:
    rows = watcher.settings.parent / "domains" / "sums" / "test.jsonl"
    for last in (209, 210, 211):
        write_jsonl(rows, [arithmetic_row(n, "sums") for n in range(205, last)])
        assert watcher.tick() == []
        assert "sums has changed" in watcher.data.skip_message
    assert watcher.tick() == [("refresh_domain", "sums")]
    assert not UNATTENDED.isdisjoint(watcher.data.run_requests[0].tags)
    assert watcher.tick() == []  # before the run has begun
    watcher.tick()
    run(watcher.settings, watcher.instance, "refresh_domain", "sums")
    assert [watcher.tick() for _ in range(2)] == [[], []]
    assert watcher.data.skip_message == "nothing is stale"


def test_a_pool_edit_refreshes_the_pool_once_and_then_every_domain_once(watcher: Watcher) -> None:
    write_jsonl(watcher.settings.parent / "pool" / "sums.jsonl", [arithmetic_row(n) for n in range(21)])
    assert watcher.tick() == []
    assert watcher.tick() == [("refresh_pool", None)]
    watcher.launch()
    assert watcher.tick() == []
    assert watcher.tick() == [("refresh_domain", "sums"), ("refresh_domain", "words")]
    watcher.launch()
    assert [watcher.tick() for _ in range(2)] == [[], []]
    assert watcher.data.skip_message == "nothing is stale"


@pytest.mark.parametrize("name", ["refresh_pool", "refresh_pool_and_domain"])
def test_domains_wait_while_the_pool_is_refreshed(watcher: Watcher, name: str) -> None:
    (watcher.settings.parent / "domains" / "words" / "domain.toml").write_text("budget = 0.1\n")
    job = watcher.definitions.resolve_job_def(name)
    at_work = watcher.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert [watcher.tick() for _ in range(3)] == [[], [], []]
    assert watcher.data.skip_message == "the pool is being refreshed"
    watcher.instance.report_run_failed(at_work)
    assert [watcher.tick() for _ in range(2)] == [[], [("refresh_domain", "words")]]


def test_a_run_that_failed_is_not_asked_for_again_until_the_content_is_another(watcher: Watcher) -> None:
    rows = watcher.settings.parent / "domains" / "sums" / "validation.jsonl"
    good = rows.read_text()
    rows.write_text("{")
    assert [watcher.tick() for _ in range(2)] == [[], [("refresh_domain", "sums")]]
    watcher.launch(raise_on_error=False)
    assert [watcher.tick() for _ in range(3)] == [[], [], []]
    watcher.cursor = None  # as if it was reset in the UI
    assert [watcher.tick() for _ in range(3)] == [[], [], []]
    assert "see how it ended" in watcher.data.skip_message
    rows.write_text(good)
    assert watcher.tick() == []
    assert watcher.data.skip_message == "nothing is stale"


def test_going_back_to_earlier_content_is_a_change_like_any_other(watcher: Watcher) -> None:
    file = watcher.settings.parent / "domains" / "sums" / "domain.toml"
    for budget in (0.1, 0.15, 0.1):
        file.write_text(f"budget = {budget}\n")
        assert [watcher.tick() for _ in range(2)] == [[], [("refresh_domain", "sums")]]
        watcher.launch()
    assert len(set(watcher.keys)) == 3


def test_touching_a_file_is_no_change(watcher: Watcher) -> None:
    for file in watcher.settings.parent.glob("*/**/*.jsonl"):
        file.touch()
    assert [watcher.tick() for _ in range(2)] == [[], []]


def test_removed_new_and_broken_domains_do_not_stop_it(watcher: Watcher) -> None:
    domains = watcher.settings.parent / "domains"
    shutil.copytree(domains / "sums", domains / "newcomer")
    shutil.rmtree(domains / "words")
    (domains / "sums" / "validation.jsonl").unlink()
    assert [watcher.tick() for _ in range(2)] == [[], []]
    assert watcher.data.skip_message == "newcomer is new: reload the definitions"
    (domains / "sums" / "domain.toml").write_text("budget = ")
    assert watcher.tick() == []
    assert "nothing is refreshed until this is mended" in watcher.data.skip_message
    write_jsonl(watcher.settings.parent / "pool" / "sums.jsonl", [arithmetic_row(n) for n in range(21)])
    (domains / "sums" / "domain.toml").unlink()
    assert [watcher.tick() for _ in range(2)] == [[], [("refresh_pool", None)]]


def test_every_domain_has_a_schedule_of_its_own(make_project: MakeProject, instance: dg.DagsterInstance) -> None:
    settings = make_project()
    (settings.parent / "domains" / "sums" / "domain.toml").write_text(
        'refresh = "30 6 * * 1-5"\ntimezone = "Europe/Berlin"\nowner = "team:sums"\n'
    )
    definitions = build_defs(settings)
    sums, words = (definitions.resolve_schedule_def(f"refresh_{domain}") for domain in ("sums", "words"))
    assert (sums.cron_schedule, sums.execution_timezone) == ("30 6 * * 1-5", "Europe/Berlin")
    assert (words.cron_schedule, words.execution_timezone) == ("0 3 * * *", "UTC")
    assert sums.default_status == dg.DefaultScheduleStatus.RUNNING
    assert words.default_status == dg.DefaultScheduleStatus.STOPPED
    assert "team:sums" in str(sums.description)
    keys = []
    for hour in (5, 6):
        when = datetime(2026, 3, 2, hour, 30, tzinfo=UTC)
        context = dg.build_schedule_context(
            instance, scheduled_execution_time=when, repository_def=definitions.get_repository_def()
        )
        (request,) = sums.evaluate_tick(context).run_requests or []
        assert (request.tags["dagster/partition"], request.tags["g2is/owner"]) == ("sums", "team:sums")
        keys.append(request.run_key)
    assert len(set(keys)) == 2


def ticks(settings: Path, instance: dg.DagsterInstance, *domains: str) -> list[dg.RunRequest]:
    """What the schedules of these domains ask for at the same second."""
    definitions, found = build_defs(settings), []
    for domain in domains:
        context = dg.build_schedule_context(
            instance,
            scheduled_execution_time=datetime(2026, 3, 2, 3, tzinfo=UTC),
            repository_def=definitions.get_repository_def(),
        )
        found += definitions.resolve_schedule_def(f"refresh_{domain}").evaluate_tick(context).run_requests or []
    return found


def launched(settings: Path, instance: dg.DagsterInstance, request: dg.RunRequest) -> dict[str, bool]:
    """What the run that a schedule asked for computed."""
    domain, wanted = request.tags["dagster/partition"], request.asset_selection
    return computed(
        run(settings, instance, "refresh_pool_and_domain", domain, tags=request.tags, asset_selection=wanted)
    )


def test_schedules_that_tick_at_once_refresh_a_stale_pool_first_and_only_once(
    built: Path, instance: dg.DagsterInstance
) -> None:
    (built.parent / "domains" / "words" / "domain.toml").write_text("refresh_pool = false\n")
    write_jsonl(built.parent / "pool" / "sums.jsonl", [arithmetic_row(n) for n in range(21)])
    alone = ticks(built, instance, "words")[0]
    assert dg.AssetKey(["instructions", "pool"]) not in (alone.asset_selection or [])
    (built.parent / "domains" / "words" / "domain.toml").unlink()
    sums, words = ticks(built, instance, "sums", "words")
    assert not UNATTENDED.isdisjoint(sums.tags)
    first, second = launched(built, instance, sums), launched(built, instance, words)
    shared = ["graph/neighbors", "gradients/pool", "instructions/pool"]
    assert [first[name] for name in shared] == [True] * 3
    assert [second[name] for name in shared] == [False] * 3
    assert first["selection/subset[sums]"]
    assert second["selection/subset[words]"]
    events = instance.fetch_materializations(dg.AssetKey(["gradients", "pool"]), limit=9).records
    assert [event.partition_key for event in events] == [None, None]
    rest = ticks(built, instance, "sums")[0]
    assert dg.AssetKey(["instructions", "pool"]) not in (rest.asset_selection or [])
    assert not any(launched(built, instance, rest).values())


def test_a_schedule_whose_pool_cannot_be_told_runs_and_the_run_says_why(
    built: Path, instance: dg.DagsterInstance
) -> None:
    settings = built.read_text()
    definitions = build_defs(built)
    built.write_text(settings.replace("[warmup]", "[warmup"))
    context = dg.build_schedule_context(
        instance,
        scheduled_execution_time=datetime(2026, 3, 2, tzinfo=UTC),
        repository_def=definitions.get_repository_def(),
    )
    (request,) = definitions.resolve_schedule_def("refresh_sums").evaluate_tick(context).run_requests or []
    assert request.tags["dagster/partition"] == "sums"


def test_the_sensor_is_on_where_the_settings_say_so(make_project: MakeProject) -> None:
    settings = make_project()
    assert build_defs(settings).resolve_sensor_def("watch_files").default_status == dg.DefaultSensorStatus.STOPPED
    settings.write_text("watch = true\n" + settings.read_text())
    assert build_defs(settings).resolve_sensor_def("watch_files").default_status == dg.DefaultSensorStatus.RUNNING


def test_domains_named_like_jobs_do_not_collide_with_them(make_project: MakeProject) -> None:
    settings = make_project()
    for name in ("pool", "domain"):
        shutil.copytree(settings.parent / "domains" / "sums", settings.parent / "domains" / name)
    definitions = build_defs(settings)
    assert definitions.resolve_schedule_def("refresh_pool").job_name == "refresh_pool_and_domain"
    assert definitions.resolve_job_def("refresh_pool").name == "refresh_pool"


@pytest.mark.parametrize(
    "cron", ["daily", "@daily", "61 * * * *", "0 3 * *", "0 0 3 * * *", "0 0 30 2 *", "0 0 31 4 *"]
)
def test_a_schedule_that_cannot_be_kept_is_refused_when_the_definitions_load(
    make_project: MakeProject, cron: str
) -> None:
    settings = make_project()
    file = settings.parent / "domains" / "sums" / "domain.toml"
    file.write_text(f'refresh = "{cron}"\n')
    with pytest.raises(SettingsError, match="refresh") as refused:
        build_defs(settings)
    assert str(file) in str(refused.value)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (OSError(errno.ESTALE, "stale"), True),
        (OSError(errno.EAGAIN, "again"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (FileNotFoundError(errno.ENOENT, "gone"), False),
        (OSError(errno.ENOSPC, "full"), False),
        (SourceError("bad row"), False),
        (G2isError("stale"), False),
        (ValueError("bug"), False),
    ],
)
def test_only_faults_that_pass_by_themselves_are_transient(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient


def test_a_lost_ray_worker_is_transient_but_not_one_that_cannot_start() -> None:
    exceptions = pytest.importorskip("ray.exceptions", reason="Ray is not installed: pip install 'g2is_assets[ray]'")
    assert is_transient(exceptions.ActorDiedError())
    assert is_transient(exceptions.WorkerCrashedError())
    assert not is_transient(exceptions.RayActorError(actor_init_failed=True))
    assert not is_transient(exceptions.OutOfMemoryError("too much"))


class Faulty:
    """Makes the first calls of `Lake.make` for the checkpoint fail."""

    def __init__(self, error: Exception, times: int, seen: Callable[[], None]) -> None:
        self.error, self.times, self.seen, self.make = error, times, seen, Lake.make

    def __call__(self, lake: Lake, recipe: Any, *arguments: Any, **options: Any) -> Any:
        if recipe.asset == "warmup/checkpoint" and self.times:
            self.times -= 1
            self.seen()
            raise self.error
        return self.make(lake, recipe, *arguments, **options)


def patched(monkeypatch: pytest.MonkeyPatch, faulty: Faulty, delay_s: float = 0.01) -> None:
    monkeypatch.setattr(Lake, "make", lambda *arguments, **options: faulty(*arguments, **options))
    monkeypatch.setattr(runs, "FIRST_DELAY_S", delay_s)


def test_a_passing_fault_is_tried_again_and_keeps_nobody_from_the_model_meanwhile(
    built: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_a_turn() -> None:
        with model_turn(built.parent / "lake", "run other in finetune/adapter") as waited:
            assert not waited

    patched(monkeypatch, Faulty(OSError(errno.ESTALE, "stale"), 2, take_a_turn))
    result = run(built, instance, "refresh_pool")
    again = [event.step_key for event in result.all_events if event.is_step_up_for_retry]
    assert again == ["warmup__checkpoint"] * 2


def test_a_fault_that_stays_fails_after_a_few_attempts_with_its_own_error(
    built: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[None] = []
    patched(monkeypatch, Faulty(OSError(errno.ESTALE, "stale"), 99, lambda: attempts.append(None)))
    with pytest.raises(OSError, match="stale"):
        run(built, instance, "refresh_pool")
    assert len(attempts) == 1 + MAX_RETRIES


def test_a_permanent_error_is_not_tried_again(
    built: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[None] = []
    patched(monkeypatch, Faulty(SourceError("bad"), 99, lambda: attempts.append(None)))
    with pytest.raises(SourceError, match="bad"):
        run(built, instance, "refresh_pool")
    assert len(attempts) == 1


def accepts(owner: str) -> bool:
    try:
        DomainFile(owner=owner)
    except ValueError:
        return False
    return True


LIKE_OWNERS = st.from_regex(r"[a-z0-9_%.+ ]{0,4}@?[a-z.-]{0,6}\.?[a-zA-Z|]{0,9}\n?", fullmatch=True)


@given(owner=LIKE_OWNERS | st.text() | st.text().map("team:".__add__))
@example("team:")
@example("team:data platform")
@example("ada@example.org")
@example("ada@localhost")
@example("%ada@example.org")
@example("ada@example.o|")
def test_an_owner_is_what_dagster_takes_for_one(owner: str) -> None:
    try:
        dg.AssetSpec("asset", owners=[owner])
    except dg.DagsterInvalidDefinitionError:
        assert not accepts(owner)
    else:
        assert accepts(owner)


def test_an_owner_that_dagster_refuses_is_refused_by_file_and_key(make_project: MakeProject) -> None:
    settings = make_project()
    file = settings.parent / "domains" / "sums" / "domain.toml"
    file.write_text('owner = "ada@localhost"\n')
    with pytest.raises(SettingsError, match=r"domain\.toml: owner: an owner is an email address, or `team:`"):
        build_defs(settings)
    file.unlink()
    settings.write_text('owner = "ada"\n' + settings.read_text())
    with pytest.raises(SettingsError, match=r"g2is\.toml: owner: an owner is an email address"):
        build_defs(settings)
