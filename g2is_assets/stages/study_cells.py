"""The cells that a study needs in one domain: which are missing, and making them by the study's one rule.

At a variant's smallest seed every rate is trained; the one with the lowest validation loss wins (of equals the smaller)
and is scored; the other seeds train and are scored at that rate. Each record is written as soon as it is made: killed
at any moment, at most one training is lost. Nothing here selects rows, and nothing is Dagster's.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import polars as pl

from g2is_assets.contracts.instructions import count_tokens
from g2is_assets.errors import StudyPaused
from g2is_assets.progress import say
from g2is_assets.settings.config import FinetuneSettings
from g2is_assets.stages.studies import Study
from g2is_assets.stages.study_scoring import Scoring
from g2is_assets.stages.trainings import fit, pool_rows
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.measured import Cell, CellKey, Measured, made_now

Chosen = Mapping[float, Mapping[int, Sequence[str]]]
"""Rows in order, by budget and seed, both ascending; the first seed chooses the rate."""


@dataclass(frozen=True)
class Trial:
    """One training of a variant, made or not: no rows and rate 0 are the base model."""

    budget: float
    seed: int
    rate: float
    rows: Sequence[str]


@dataclass(frozen=True)
class Made:
    """A trial with its cell, and whether its rate was chosen."""

    trial: Trial
    cell: Cell
    chosen: bool


@dataclass
class Work:
    """What is still to be done: how many trainings and scorings, and the tokens that pass through the model."""

    n_trainings: int = 0
    n_scorings: int = 0
    training_tokens: int = 0
    scoring_tokens: int = 0

    def add(self, other: "Work") -> None:
        """This and that."""
        for name in ("n_trainings", "n_scorings", "training_tokens", "scoring_tokens"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class DomainCells:
    """All cells of a study in one domain.

    Attributes:
        workspace: The project's resource.
        study: The study.
        domain: The domain.
        pool: Table of `instructions/pool`.
        target: Table of `instructions/target`.
        stop_at: Time, in seconds since the epoch, after which nothing more is begun.
    """

    workspace: Workspace
    study: Study
    domain: str
    pool: pl.DataFrame
    target: pl.DataFrame
    stop_at: float | None = None
    _lengths: dict[str, int] = field(default_factory=dict)

    @cached_property
    def measured(self) -> Measured:
        """Where cells are kept."""
        return self.study.measured(self.workspace.lake.root)

    @cached_property
    def scoring(self) -> Scoring:
        """What a training is worth here."""
        return Scoring(self.workspace, self.study, self.domain, self.pool, self.target, self.measured)

    def key(self, trial: Trial) -> CellKey:
        """What determines a trial's training."""
        return CellKey(
            domain=self.domain,
            model=self.workspace.model.digest,
            template=self.workspace.template_digest,
            rows=trial.rows,
            finetune=self._settings(trial).model_dump(mode="json") if trial.rows else {},
            validation=self._validation["row_id"].to_list(),
        )

    def missing(self, chosen: Chosen, told: set[str] | None = None) -> Work:
        """What `make` would do now; where the winning rate is not known yet, any stands for it.

        Args:
            chosen: A variant's rows.
            told: What was counted before and is not counted again; what is counted now is added.
        """
        work, told = Work(), set() if told is None else told
        for first, others in _by_budget(self.study, chosen):
            cells = [self.measured.find(self.key(trial)) for trial in first]
            known = [(trial, cell) for trial, cell in zip(first, cells, strict=True) if cell]
            best = _best(known) if len(known) == len(first) else first[0]
            for trial in first:
                self._count(work, trial, told, scored=trial is best)
            for trial in others:
                self._count(work, Trial(trial.budget, trial.seed, best.rate, trial.rows), told, scored=True)
        return work

    def settled(self, chosen: Chosen) -> bool:
        """Whether nothing is missing."""
        work = self.missing(chosen)
        return not work.n_trainings and not work.n_scorings

    def make(self, chosen: Chosen, adapters: Path) -> list[Made]:
        """Every trial of a variant with its cell, trained and scored where that is missing.

        Args:
            chosen: The variant's rows.
            adapters: Folder in which the adapters of chosen trials that are trained now are kept, each under the first
                16 digits of its cell.

        Raises:
            StudyPaused: The time is over; what is made is kept.
        """
        made = []
        for first, others in _by_budget(self.study, chosen):
            with tempfile.TemporaryDirectory() as scratch:
                cells = [(trial, self._trained(trial, Path(scratch))) for trial in first]
                best = _best(cells)
                for trial, cell in cells:
                    wins = trial is best
                    made.append(Made(trial, self._scored(trial, cell, Path(scratch)) if wins else cell, wins))
                _keep(Path(scratch), adapters, self.key(best))
            for trial in others:
                at_best = Trial(trial.budget, trial.seed, best.rate, trial.rows)
                cell = self._trained(at_best, adapters)
                made.append(Made(at_best, self._scored(at_best, cell, adapters), True))
        return sorted(made, key=lambda m: (m.trial.budget, m.trial.seed, m.trial.rate))

    def _count(self, work: Work, trial: Trial, told: set[str], *, scored: bool) -> None:
        key = self.key(trial)
        cell = self.measured.find(key)
        unscored = scored and not self.scoring.complete(cell)
        # Without its adapter a training is repeated to be scored.
        repeated = cell is None or (unscored and not self._kept(cell))
        if repeated and key.digest not in told:
            told.add(key.digest)
            passes = self.study.finetune.epochs if trial.rows else 0
            work.n_trainings += bool(trial.rows)
            work.training_tokens += passes * self._n_tokens(trial.rows) + (passes + 1) * count_tokens(self._validation)
        if unscored and f"{key.digest} scored" not in told:
            told.add(f"{key.digest} scored")
            work.n_scorings += 1
            work.scoring_tokens += self.scoring.missing_tokens(None if repeated else cell)

    @property
    def tokens_of_scoring(self) -> int:
        """Tokens that one scoring passes through the model."""
        return self.scoring.missing_tokens(None)

    def tokens_of_training(self, n_rows: int) -> int:
        """Tokens that pass through a training on so many rows of the pool's mean length."""
        mean, epochs = count_tokens(self.pool) / len(self.pool), self.study.finetune.epochs
        return round(epochs * n_rows * mean) + (epochs + 1) * count_tokens(self._validation)

    def _trained(self, trial: Trial, adapters: Path) -> Cell:
        """The trial's cell, as it was measured, also by another study, or made now."""
        cell = self.measured.find(self.key(trial))
        if cell is None:
            return self._train(trial, adapters)
        self.measured.put(cell)
        return cell

    def _train(self, trial: Trial, adapters: Path) -> Cell:
        from g2is_assets.training.fit import trained_on

        self._go_on()
        key, settings, device = self.key(trial), self._settings(trial), self.workspace.project.settings.device
        rows = pool_rows(self.pool, trial.rows, f"study/subset of '{self.study.name}'")
        adapter = adapters / key.digest[:16]
        done = fit(self.workspace, rows, self._validation, settings, adapter, self._label(trial))
        cell = Cell(
            digest=key.digest,
            domain=self.domain,
            n_rows=len(rows),
            finetune=dict(key.finetune),
            n_tokens=done.n_tokens,
            n_tokens_passed=done.n_tokens_passed,
            best_epoch=done.best_epoch,
            validation_nll=done.validation_nll,
            seconds=round(done.seconds, 2),
            made=made_now(trained_on(device)),
        )
        self.measured.put(cell)
        nll = f"validation NLL {cell.best_validation_nll:.4f} at epoch {cell.best_epoch}"
        say(f"{self._label(trial)}: {nll}, {done.seconds:.0f} s, {done.n_tokens_passed} tokens")
        return cell

    def _scored(self, trial: Trial, cell: Cell, adapters: Path) -> Cell:
        """The trial's cell with all scores; without an adapter at hand its training is repeated."""
        if self.scoring.complete(cell):
            return cell
        trained_now = adapters / cell.digest[:16]
        if not trained_now.is_dir():  # else it would be lost
            self._go_on()
        adapter = self._kept(cell, trained_now) if trial.rows else None
        if trial.rows and adapter is None:
            cell, adapter = self._train(trial, adapters), trained_now
        return self.scoring.fill(cell, adapter, self._label(trial))

    def _kept(self, cell: Cell, *made_now: Path) -> Path | None:
        """The cell's adapter, made now or in an earlier version of any variant; None if there is none."""
        earlier = self.workspace.lake.place("study/adapter").glob(f"{self.domain}.*/*/adapters/{cell.digest[:16]}")
        return next((folder for folder in (*made_now, *earlier) if folder.is_dir()), None)

    def _go_on(self) -> None:
        if self.stop_at is not None and time.time() >= self.stop_at:
            raise StudyPaused(
                f"study '{self.study.name}' stopped in domain '{self.domain}', the time given is over; finished cells "
                f"are in {self.measured.file}, and the same command goes on from there"
            )

    def _settings(self, trial: Trial) -> FinetuneSettings:
        from g2is_assets.training.model import pick_compute

        compute = pick_compute(self.study.finetune.compute, self.workspace.project.settings.device)
        cell = {"learning_rate": trial.rate, "seed": trial.seed, "compute": compute}
        return self.study.finetune.model_copy(update=cell)

    def _label(self, trial: Trial) -> str:
        what = f"{len(trial.rows)} rows, rate {trial.rate:g}, seed {trial.seed}" if trial.rows else "base"
        return f"{self.domain}: {what}"

    @cached_property
    def _validation(self) -> pl.DataFrame:
        return self.target.filter(pl.col("split") == "validation")

    def _n_tokens(self, row_ids: Sequence[str]) -> int:
        if not self._lengths:
            counts = self.pool.select("row_id", pl.col("n_prompt_tokens") + pl.col("n_response_tokens"))
            self._lengths = dict(counts.iter_rows())
        return sum(self._lengths.get(row_id, 0) for row_id in row_ids)


def _by_budget(study: Study, chosen: Chosen) -> Iterator[tuple[list[Trial], list[Trial]]]:
    """Per budget: the first seed's trials, one for each rate, and those of the other seeds, their rate still open."""
    for budget, by_seed in chosen.items():
        (seed, rows), *rest = by_seed.items()
        first = [Trial(budget, seed, rate, rows) for rate in (sorted(study.said.rates) if rows else [0.0])]
        yield first, [Trial(budget, other, 0.0, own) for other, own in rest]


def _best(cells: Sequence[tuple[Trial, Cell]]) -> Trial:
    """The trial with the lowest validation loss at its best epoch; of equals the one with the smallest rate."""
    return min(cells, key=lambda pair: (pair[1].best_validation_nll, pair[0].rate))[0]


def _keep(scratch: Path, adapters: Path, key: CellKey) -> None:
    """Move an adapter, if it was trained now, to where adapters are kept."""
    if (scratch / key.digest[:16]).is_dir():
        adapters.mkdir(parents=True, exist_ok=True)
        shutil.move(scratch / key.digest[:16], adapters / key.digest[:16])
