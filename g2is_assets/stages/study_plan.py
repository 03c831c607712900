"""What a study still has to train and score, and how long that may take, before anything is begun."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import polars as pl

from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.contracts.study import SUBSET
from g2is_assets.errors import MissingInputError, StoreError
from g2is_assets.stages.frame import recipe_of
from g2is_assets.stages.stage import Place
from g2is_assets.stages.studies import BASE
from g2is_assets.stages.study_cells import DomainCells, Work
from g2is_assets.stages.study_tables import chosen_rows
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.measured import Cell

TRAINING_TOKENS_PER_S: Final = 200.0
SCORING_TOKENS_PER_S: Final = 400.0
"""Of two quiet CPU cores with the 135M model: assumed as long as no cell says what this machine does."""


@dataclass(frozen=True)
class Plan:
    """What is missing.

    Attributes:
        work: Trainings, scorings and their tokens.
        n_guessed: Places whose rows are not selected yet, or of which a cell is damaged: guessed from mean lengths.
        training_rate, scoring_rate: Tokens per second.
        measured: Whether these rates are those of cells, not assumed.
    """

    work: Work
    n_guessed: int
    training_rate: float
    scoring_rate: float
    measured: bool

    @property
    def hours(self) -> float:
        """Estimate; selection and embeddings not counted."""
        seconds = self.work.training_tokens / self.training_rate + self.work.scoring_tokens / self.scoring_rate
        return seconds / 3600

    @property
    def lines(self) -> list[str]:
        """For people."""
        work = self.work
        source = "as the cells so far took" if self.measured else "assumed: no cell has been made yet"
        lines = [
            f"{work.n_trainings} trainings and {work.n_scorings} scorings are missing: {work.training_tokens:,} and "
            f"{work.scoring_tokens:,} tokens",
            f"about {self.hours:.1f} hours at {self.training_rate:.0f} and {self.scoring_rate:.0f} tokens/s ({source})",
        ]
        if self.n_guessed:
            lines.append(f"{self.n_guessed} subsets are not selected yet; their rows are guessed to be of mean length")
        return lines


def plan_study(workspace: Workspace, places: Iterable[Place]) -> Plan:
    """What `g2is study run` would do for these places of one study; cells that several need are counted once."""
    work, n_guessed, told = Work(), 0, set[str]()
    cells: dict[str, DomainCells | None] = {}
    made: list[Cell] = []
    for place in places:
        if place.domain not in cells:
            cells[place.domain] = _cells(workspace, place)
            made = made or _measured(workspace, place)
        of_domain, rows = cells[place.domain], _subset(workspace, place)
        known = _missing(of_domain, place, rows, told)
        n_guessed += known is None
        work.add(known or _guess(place, of_domain))
    training = _rate([(cell.n_tokens_passed, cell.seconds) for cell in made if cell.n_rows])
    scoring = _rate([cell.scoring for cell in made])
    measured = training is not None and scoring is not None
    return Plan(work, n_guessed, training or TRAINING_TOKENS_PER_S, scoring or SCORING_TOKENS_PER_S, measured)


def _measured(workspace: Workspace, place: Place) -> list[Cell]:
    """Every cell there is: what past trainings took; none where a file is damaged, as whoever needs it is told."""
    try:
        return list(place.study.measured(workspace.lake.root).all().values())
    except StoreError:
        return []


def _cells(workspace: Workspace, place: Place) -> DomainCells | None:
    """The cells of the place's domain; None if its rows or the pool's are not there yet."""
    try:
        pool = workspace.lake.current("instructions/pool").read(POOL)
        target = workspace.lake.current("instructions/target", place.domain).read(TARGET)
    except (MissingInputError, StoreError):
        return None
    return DomainCells(workspace, place.study, place.domain, pool, target)


def _subset(workspace: Workspace, place: Place) -> pl.DataFrame | None:
    """The place's rows; none for the base model; None if they are not selected yet, or were by other settings."""
    if place.said.selector == BASE:
        return pl.DataFrame(schema=SUBSET.schema)
    try:
        version = workspace.lake.find("study/subset", place.partition)
        if version is None or version.manifest.input_digest != recipe_of(workspace, "study/subset", place).input_digest:
            return None
        return version.read(SUBSET)
    except (MissingInputError, StoreError):
        return None


def _missing(cells: DomainCells | None, place: Place, rows: pl.DataFrame | None, told: set[str]) -> Work | None:
    """What these rows need; None if they, or a cell of theirs, cannot be read."""
    if cells is None or rows is None:
        return None
    try:
        return cells.missing(chosen_rows(place, rows), told)
    except StoreError:
        return None


def _guess(place: Place, cells: DomainCells | None) -> Work:
    """All of a place's work, its rows being of the pool's mean length."""
    n_seeds, n_budgets = len(place.study.seeds(place.variant)), len(place.study.budgets(place.variant))
    n_trainings = 0 if place.said.selector == BASE else len(place.study.said.rates) + n_seeds - 1
    work = Work(n_budgets * n_trainings, n_budgets * n_seeds)
    if cells:
        for budget in place.study.budgets(place.variant):
            n_rows = max(1, round(budget * len(cells.pool))) if budget < 1 else int(budget)
            n_rows = len(cells.pool) if place.said.selector == "full" else n_rows
            work.training_tokens += n_trainings * cells.tokens_of_training(n_rows)
            work.scoring_tokens += n_seeds * cells.tokens_of_scoring
    return work


def _rate(spent: list[tuple[int, float]]) -> float | None:
    seconds = sum(took for _, took in spent)
    return sum(n_tokens for n_tokens, _ in spent) / seconds if seconds else None
