"""`g2is study`: selectors side by side. Heavy imports happen inside."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from g2is_assets.cli.options import config_option, open_lake, stoppable
from g2is_assets.cli.tables import listing, print_records, print_table
from g2is_assets.errors import G2isError, MissingInputError, SettingsError, StudyPaused, command
from g2is_assets.settings.project import Project, load_project

if TYPE_CHECKING:
    import dagster as dg

    from g2is_assets.reports.terminal import Terminal
    from g2is_assets.stages.stage import Place
    from g2is_assets.stages.studies import Study


@click.group(epilog="Example: g2is study run sample")
def study() -> None:
    """Compare selectors on the same pool, gradients and seeds."""


@study.command(epilog="Example: g2is study run sample --hours 2")
@config_option
@click.argument("name")
@click.option("--domain", "domains", multiple=True, help="Only this domain; may be repeated.")
@click.option("--variant", "variants", multiple=True, help="Only this variant; may be repeated.")
@click.option("--hours", type=click.FloatRange(min=0), help="Begin no further training after so many hours.")
@click.option(
    "--plan", is_flag=True, help="Only say what would be made, trained and scored, and how long that may take."
)
def run(
    config: Path | None, name: str, domains: tuple[str, ...], variants: tuple[str, ...], hours: float | None, plan: bool
) -> None:
    """Make what the study NAME still lacks, then compare.

    That is selecting, training and scoring. Pool, gradients and domains come first, then it says how much is missing
    and how long that may take; with --plan it says so before anything is begun. Stop it at any time: finished trainings
    are kept.
    """
    if plan:
        return _plan(config, name, domains, variants)
    with stoppable("trainings are"):
        from g2is_assets.cli.jobs import open_instance, watch_steps
        from g2is_assets.cli.refresh import span
        from g2is_assets.reports.terminal import Terminal
        from g2is_assets.stages.studies import find_study

        begun, console = time.time(), Terminal()
        project = load_project(config)
        places = _places(find_study(project, name), domains, variants)
        watch_steps()
        with open_instance(project) as instance:
            failed = _run(instance, project, console, places, None if hours is None else begun + 3600 * hours)
        console.print(
            f"Took {span(time.time() - begun)}. The result: {command(f'study show {name}')}",
            markup=False,
            soft_wrap=True,
        )
        if failed:
            raise G2isError("; ".join(failed))


def _plan(config: Path | None, name: str, domains: Sequence[str], variants: Sequence[str]) -> None:
    """Say what a run would do; nothing is made, fetched or written."""
    from g2is_assets.cli.refresh import plan_lines as refresh_lines
    from g2is_assets.cli.study_plan import plan_lines
    from g2is_assets.orchestration.automation import JOBS, REFRESH_POOL, STUDY_JOBS
    from g2is_assets.stages.studies import find_study
    from g2is_assets.stages.workspace import Workspace

    project = load_project(config)
    places = _places(find_study(project, name), domains, variants)
    first = [*JOBS[REFRESH_POOL][1], *STUDY_JOBS["study_domain"][1]] + ["study/embedding"] * _embeds(project, places)
    click.echo(
        f"First what it reads: {' '.join(refresh_lines(project, list({place.domain for place in places}), first))}"
    )
    for line in plan_lines(Workspace(project, looking=True), places):
        click.echo(line)


def _places(study: "Study", domains: Sequence[str], variants: Sequence[str]) -> "list[Place]":
    """What was asked for, domain by domain; a SettingsError if the study has no such domain or variant."""
    from g2is_assets.stages.stage import Place

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


def _embeds(project: Project, places: "Sequence[Place]") -> bool:
    """Whether one of the selectors reads embeddings of the pool."""
    from g2is_assets.stages.frame import stage_of

    return any("study/embedding" in stage_of("study/subset").inputs(project, place) for place in places)


def _run(
    instance: "dg.DagsterInstance", project: Project, console: "Terminal", places: "list[Place]", stop_at: float | None
) -> list[str]:
    """Run everything, one job after the other; returns what failed: a variant that does stops none of the others.

    What all variants read comes first, and then the plan can be told.
    """
    import dagster as dg

    from g2is_assets.cli.jobs import run_job
    from g2is_assets.cli.study_plan import plan_lines
    from g2is_assets.orchestration.assets import STOP_AT
    from g2is_assets.stages.workspace import Workspace

    console.rule("pool")
    run_job(instance, project, "refresh_pool", {})
    if _embeds(project, places):
        run_job(instance, project, "study_embedding", {})
    for domain in dict.fromkeys(place.domain for place in places):
        run_job(instance, project, "study_domain", {"dagster/partition": domain})
    console.rule(f"study {places[0].study.name}")
    for line in plan_lines(Workspace(project), places):
        console.print(line, markup=False, highlight=False)
    failed, tags = [], {} if stop_at is None else {STOP_AT: str(stop_at)}
    for place in places:
        console.print(f"{place.domain}, {place.variant}", markup=False, highlight=False, style="bold")
        keys = {"domain": place.domain, "variant": place.key}
        partition = {f"dagster/partition/{name}": value for name, value in keys.items()}
        partition["dagster/partition"] = str(dg.MultiPartitionKey(keys))
        try:
            run_job(instance, project, "study_variant", tags | partition)
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


@study.command(epilog="Example: g2is study show sample")
@config_option
@click.argument("name")
@click.option(
    "--part",
    type=click.Choice(["development", "final"]),
    default="development",
    show_default=True,
    help="Which test rows; the final ones are shown once the study file says `final = true`.",
)
@click.option("--domain", help="Only this domain; `all` is the mean over domains.")
@listing
def show(config: Path | None, name: str, part: str, domain: str | None, form: str) -> None:
    """Print the leaderboard of the study NAME. The views study_leaderboard... hold the same.

    Differences are followed by their 95 % intervals over rows and seeds; below 0 is better. With two or three seeds
    the intervals are somewhat too narrow.
    """
    from g2is_assets.contracts.study import LEADERBOARD
    from g2is_assets.reports.leaderboard import SEEN_WHEN_ASKED, leaderboard_tables
    from g2is_assets.stages.studies import find_study

    is_open = find_study(load_project(config), name).said.final
    if part == "final" and not is_open:
        raise SettingsError(
            f"the final rows of study '{name}' are not opened; when nothing is to be chosen any more, set `final = "
            f"true` in its file and run {command(f'study run {name}')}"
        )
    wanted = {"study": name, "part": part} | ({"domain": domain} if domain else {})
    _, lake = open_lake(config)
    board = lake.current("study/leaderboard").read(LEADERBOARD).filter(**wanted)
    if board.is_empty():
        raise MissingInputError(f"nothing has been scored yet of {wanted}; run {command(f'study run {name}')}")
    if not print_records(form, board.to_dicts()):
        for title, rows in leaderboard_tables(board):
            print_table(form, rows, right=rows[0].keys() - {"variant"}, extra=SEEN_WHEN_ASKED, title=title)


@study.command("list", epilog="Example: g2is study list")
@config_option
@listing
def list_studies(config: Path | None, form: str) -> None:
    """Name the studies of the project."""
    from g2is_assets.stages.studies import look_at_studies, studies_folder

    project = load_project(config)
    found, faults = look_at_studies(project)
    for fault in faults:
        click.echo(f"left out: {fault}", err=True)
    names = {"title", "budgets", "seeds", "final"}
    records = [
        {"study": name, "domains": one.domains, "variants": list(one.said.variants)}
        | one.said.model_dump(mode="json", include=names)
        for name, one in found.items()
    ]
    if print_records(form, records):
        return
    if not found:
        return click.echo(f"no study in {studies_folder(project)}")
    rows = [
        {"study": record["study"], "title": record["title"] or ""}
        | {name: ", ".join(record[name]) for name in ("domains", "variants")}
        | {name: ", ".join(f"{number:g}" for number in record[name]) for name in ("budgets", "seeds")}
        for record in records
    ]
    print_table(form, rows, extra={"title", "seeds"})
