"""What a study still has to train and score, and how long that may take, before anything is begun."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

import polars as pl

from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.contracts.study import SUBSET
from g2is_assets.errors import StoreError
from g2is_assets.stages.frame import recipe_of
from g2is_assets.stages.stage import Place
from g2is_assets.stages.studies import BASE
from g2is_assets.stages.trials import Chosen, DomainTrials, Work
from g2is_assets.stages.variants import chosen_rows, up_to_date
from g2is_assets.stages.workspace import Workspace

TRAINING_TOKENS_PER_S: Final = 200.0
SCORING_TOKENS_PER_S: Final = 400.0
"""Of two quiet CPU cores with the 135M model: assumed as long as no cell says what this machine does."""


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
    pairs = list(spent)
    seconds = sum(took for _, took in pairs)
    return sum(n_tokens for n_tokens, _ in pairs) / seconds if seconds else None
