"""What a study still has to train and score, and how long that may take, before anything is begun."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

import polars as pl

from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.contracts.study import SUBSET
from g2is_assets.errors import StoreError
from g2is_assets.reports.words import counted
from g2is_assets.stages.frame import recipe_of
from g2is_assets.stages.instructions import pool_files, read_pool, read_target
from g2is_assets.stages.stage import PROJECT, Place
from g2is_assets.stages.studies import BASE
from g2is_assets.stages.trials import Chosen, DomainTrials, Work
from g2is_assets.stages.variants import chosen_rows, up_to_date
from g2is_assets.stages.workspace import Workspace

TRAINING_TOKENS_PER_S: Final = 250.0
SCORING_TOKENS_PER_S: Final = 400.0
"""Of two quiet CPU cores with the 135M model: assumed as long as no cell says what this machine does."""


def plan_lines(workspace: Workspace, places: Sequence[Place]) -> list[str]:
    """What is missing of these places of one study, and how long it may take; what several need is counted once.

    Where rows are not selected yet, others of the pool's mean length stand for them. Whoever only looks is told of the
    files as they are now: rows that are not in the lake yet are read for the plan, and not kept.
    """
    work, n_guessed, trials, pool = Work(), 0, dict[str, DomainTrials](), _pool(workspace)
    for place in places:
        if place.domain not in trials:
            target = _target(workspace, place.domain)
            trials[place.domain] = DomainTrials(workspace, place.study, place.domain, pool, target)
        chosen = _chosen(workspace, place)
        n_guessed += chosen is None
        trials[place.domain].missing(chosen or _guess(place, len(trials[place.domain].pool)), work)
    cells = places[0].study.measured(workspace.lake.root).all().values()
    training = _rate((cell.n_tokens_passed, cell.seconds) for cell in cells if cell.n_rows)
    scoring = _rate(cell.scoring for cell in cells)
    source = "as those of this study so far took" if training and scoring else "assumed: none has been made yet"
    training, scoring = training or TRAINING_TOKENS_PER_S, scoring or SCORING_TOKENS_PER_S
    minutes = (work.training_tokens / training + work.scoring_tokens / scoring) / 60
    span = f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
    lines = [
        f"{counted(work.n_trainings, 'training')} and {counted(work.n_scorings, 'scoring')} are missing: "
        f"{work.training_tokens:,} and {work.scoring_tokens:,} tokens",
        f"about {span} at {training:.0f} and {scoring:.0f} tokens/s ({source})",
    ]
    if n_guessed:
        lines.append(
            f"{counted(n_guessed, 'subset is', 'subsets are')} not selected yet: rows of mean length stand for its own"
        )
    return lines


def _pool(workspace: Workspace) -> pl.DataFrame:
    key = "instructions/pool"
    if not workspace.looking:
        return workspace.lake.current(key).read(POOL)
    version = up_to_date(workspace, key, PROJECT, partial(recipe_of, workspace))
    return version.read(POOL) if version else read_pool(workspace, pool_files(workspace)).used


def _target(workspace: Workspace, domain: str) -> pl.DataFrame:
    key = "instructions/target"
    if not workspace.looking:
        return workspace.lake.current(key, domain).read(TARGET)
    version = up_to_date(workspace, key, Place(domain), partial(recipe_of, workspace))
    return version.read(TARGET) if version else read_target(workspace, domain).used


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
    pairs = list(spent)
    seconds = sum(took for _, took in pairs)
    return sum(n_tokens for n_tokens, _ in pairs) / seconds if seconds else None
