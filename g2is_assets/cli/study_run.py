"""`g2is study run`: what is still missing and how long that may take, then one job after the other, in this process."""

import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl
from rich.console import Console

from g2is_assets.cli.instance import open_instance, prepare_instance
from g2is_assets.cli.jobs import run_job, watch_steps
from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.contracts.study import SUBSET
from g2is_assets.errors import G2isError, MissingInputError, SettingsError, StoreError, StudyPaused
from g2is_assets.settings.project import Project, load_project
from g2is_assets.stages.frame import recipe_of, stage_of
from g2is_assets.stages.stage import Place
from g2is_assets.stages.studies import BASE, Study, find_study
from g2is_assets.stages.trials import Chosen, DomainTrials, Work
from g2is_assets.stages.variants import chosen_rows, places_of, up_to_date
from g2is_assets.stages.workspace import Workspace

if TYPE_CHECKING:
    import dagster as dg

TRAINING_TOKENS_PER_S: Final = 200.0
SCORING_TOKENS_PER_S: Final = 400.0
"""Of two quiet CPU cores with the 135M model: assumed as long as no cell says what this machine does."""


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
        place
        for place in places_of([study])
        if place.domain in (domains or study.domains) and place.variant in (variants or study.said.variants)
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
    for line in plan_lines(Workspace(project), places):
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


def plan_lines(workspace: Workspace, places: Sequence[Place]) -> list[str]:
    """What is missing of these places of one study, and how long it may take; what several need is counted once.

    Where rows are not selected yet, others of the pool's mean length stand for them.
    """
    work, n_guessed, trials = Work(), 0, dict[str, DomainTrials]()
    for place in places:
        if place.domain not in trials:
            pool = workspace.lake.current("instructions/pool").read(POOL)
            target = workspace.lake.current("instructions/target", place.domain).read(TARGET)
            trials[place.domain] = DomainTrials(workspace, place.study, place.domain, pool, target)
        chosen = _chosen(workspace, place)
        n_guessed += chosen is None
        trials[place.domain].missing(chosen or _guess(place, len(trials[place.domain].pool)), work)
    cells = places[0].study.measured(workspace.lake.root).all().values()
    training = _rate((cell.n_tokens_passed, cell.seconds) for cell in cells if cell.n_rows)
    scoring = _rate(cell.scoring for cell in cells)
    source = "as the cells so far took" if training and scoring else "assumed: no cell has been made yet"
    training, scoring = training or TRAINING_TOKENS_PER_S, scoring or SCORING_TOKENS_PER_S
    hours = (work.training_tokens / training + work.scoring_tokens / scoring) / 3600
    lines = [
        f"{work.n_trainings} trainings and {work.n_scorings} scorings are missing: {work.training_tokens:,} and "
        f"{work.scoring_tokens:,} tokens",
        f"about {hours:.1f} hours at {training:.0f} and {scoring:.0f} tokens/s ({source})",
    ]
    if n_guessed:
        lines.append(f"{n_guessed} subsets are not selected yet; their rows are guessed to be of mean length")
    return lines


def _chosen(workspace: Workspace, place: Place) -> Chosen | None:
    """A place's rows; None if they are not selected yet, or were by other settings."""
    if place.said.selector == BASE:
        return chosen_rows(place, pl.DataFrame(schema=SUBSET.schema))
    try:
        version = up_to_date(workspace, "study/subset", place, partial(recipe_of, workspace))
        return chosen_rows(place, version.read(SUBSET)) if version else None
    except StoreError:
        return None


def _guess(place: Place, n_pool: int) -> Chosen:
    """As many rows as a place is to have; they are none of the pool's."""
    chosen = {}
    for budget in place.study.budgets(place.variant):
        n_rows = max(1, round(budget * n_pool)) if budget < 1 else int(budget)
        numbers = range(n_pool if place.said.selector == "full" else n_rows)
        seeds = place.study.seeds(place.variant)
        chosen[budget] = {seed: [f"{place.key} {budget} {seed} {n}" for n in numbers] for seed in seeds}
    return chosen


def _rate(spent: Iterable[tuple[int, float]]) -> float | None:
    """Tokens per second; None if nothing was done."""
    n_tokens, seconds = (sum(column) for column in zip((0, 0.0), *spent, strict=True))
    return n_tokens / seconds if seconds else None
