"""`g2is study run`: the plan, then one job after the other, in this process."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from g2is_assets.cli.instance import open_instance, prepare_instance
from g2is_assets.cli.jobs import run_job, watch_steps
from g2is_assets.errors import G2isError, MissingInputError, SettingsError, StudyPaused
from g2is_assets.settings.project import Project, load_project
from g2is_assets.stages.frame import stage_of
from g2is_assets.stages.stage import Place
from g2is_assets.stages.studies import Study, find_study
from g2is_assets.stages.study_plan import plan_study
from g2is_assets.stages.workspace import Workspace

if TYPE_CHECKING:
    import dagster as dg


def run_study(
    config: Path | None, name: str, domains: Sequence[str], variants: Sequence[str], hours: float | None
) -> None:
    """Bring a study up to date, domain by domain, and compare what has been scored.

    What fails in one variant does not stop the others.

    Raises:
        G2isError: The study is wrong, or something failed; the message says what.
    """
    begun = time.time()
    project = load_project(config)
    study = find_study(project, name)
    places = _places(study, domains, variants)
    folder, console = prepare_instance(project), Console()
    watch_steps()
    stop_at = None if hours is None else begun + 3600 * hours
    with open_instance(folder) as instance:
        failed = _run(instance, project, console, places, stop_at)
    console.print(f"Took {time.time() - begun:.0f} s. The result: g2is study show {name}", markup=False)
    if failed:
        raise G2isError("; ".join(failed))


def _places(study: Study, domains: Sequence[str], variants: Sequence[str]) -> list[Place]:
    """What was asked for, domain by domain.

    Raises:
        SettingsError: The study has no such domain or variant.
    """
    for kind, asked, known in (("domain", domains, study.domains), ("variant", variants, study.said.variants)):
        if unknown := [name for name in asked if name not in known]:
            raise SettingsError(f"{study.file} has no {kind} '{unknown[0]}'; it has {', '.join(known)}")
    return [
        Place(domain, study, variant)
        for domain in study.domains
        if not domains or domain in domains
        for variant in study.said.variants
        if not variants or variant in variants
    ]


def _run(
    instance: "dg.DagsterInstance", project: Project, console: Console, places: list[Place], stop_at: float | None
) -> list[str]:
    """Run everything; returns what failed. What all variants read comes first, and then the plan can be told."""
    from g2is_assets.orchestration.assets import STOP_AT

    console.rule("pool")
    run_job(instance, project, "refresh_pool", {})
    if any("study/embedding" in stage_of("study/subset").inputs(project, place) for place in places):
        run_job(instance, project, "study_embedding", {})
    for domain in dict.fromkeys(place.domain for place in places):
        run_job(instance, project, "study_domain", {"dagster/partition": domain})
    console.rule(f"study {places[0].study.name}")
    for line in plan_study(Workspace(project), places).lines:
        console.print(line, markup=False, highlight=False)
    failed, tags = [], {} if stop_at is None else {STOP_AT: str(stop_at)}
    for place in places:
        console.print(f"{place.domain}, {place.variant}", markup=False, highlight=False, style="bold")
        try:
            run_job(instance, project, "study_variant", tags | _partition_tags(place))
        except StudyPaused as paused:
            console.print(str(paused), markup=False, soft_wrap=True)
            break
        except G2isError as error:
            failed.append(f"{place.variant} in domain '{place.domain}' failed: {error}")
    try:
        run_job(instance, project, "study_leaderboard", {})
    except MissingInputError as error:  # stopped before the first was scored
        console.print(str(error), markup=False, soft_wrap=True)
    return failed


def _partition_tags(place: Place) -> dict[str, str]:
    """How a run names a partition of two dimensions."""
    import dagster as dg

    keys = {"domain": place.domain, "variant": place.key}
    parts = {f"dagster/partition/{name}": value for name, value in keys.items()}
    return {"dagster/partition": str(dg.MultiPartitionKey(keys)), **parts}
