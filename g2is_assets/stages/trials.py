"""The trials of a study in one domain: which are missing, and making them by the study's one rule.

At a variant's smallest seed every rate is trained; the one with the lowest validation loss wins (of equals the smaller)
and is scored; the other seeds train and are scored at that rate. Each record, and each part of its scores, is written
as soon as it is made: killed at any moment, at most one training is lost. Nothing here selects rows.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import polars as pl

from g2is_assets.contracts.instructions import count_tokens
from g2is_assets.contracts.study import TRAINING
from g2is_assets.core.sampling import hash_sample
from g2is_assets.errors import SourceError, StudyPaused
from g2is_assets.progress import say, track
from g2is_assets.reports.words import counted
from g2is_assets.settings.config import FinetuneSettings
from g2is_assets.stages.studies import Study
from g2is_assets.stages.trainings import fit, pool_rows, score, tuned
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.measured import (
    CELLS_VERSION,
    Cell,
    CellAnswers,
    CellGeneral,
    CellKey,
    CellScores,
    Exam,
    Measured,
    made_now,
)
from g2is_assets.store.version import Draft, Recipe, Version

ADAPTER_FOLDER: Final = "adapter"
"""Of a kept training."""

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
    """What is still to be done: how many trainings and scorings, and the tokens that pass through the model.

    What several variants need is counted once: `counted` says of which cells.
    """

    n_trainings: int = 0
    n_scorings: int = 0
    training_tokens: int = 0
    scoring_tokens: int = 0
    counted: set[str] = field(default_factory=set)


@dataclass
class DomainTrials:
    """All trials of a study in one domain, of the tables of `instructions/pool` and `instructions/target`.

    After `stop_at`, in seconds since the epoch, nothing more is begun.
    """

    workspace: Workspace
    study: Study
    domain: str
    pool: pl.DataFrame
    target: pl.DataFrame
    stop_at: float | None = None

    @cached_property
    def measured(self) -> Measured:
        """Where cells are kept."""
        return self.study.measured(self.workspace.lake.root)

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

    def missing(self, chosen: Chosen, work: Work | None = None) -> Work:
        """What `make` would do now, added to other work; where the winning rate is not known yet, any stands for it."""
        work = work or Work()
        for first, others in self._by_budget(chosen):
            cells = [self.measured.find(self.key(trial)) for trial in first]
            known = [(trial, cell) for trial, cell in zip(first, cells, strict=True) if cell]
            best = _best(known) if len(known) == len(first) else first[0]
            for trial in first:
                self._count(work, trial, scored=trial is best)
            for trial in others:
                self._count(work, replace(trial, rate=best.rate), scored=True)
        return work

    def make(self, chosen: Chosen, adapters: Path) -> list[Made]:
        """Every trial of a variant with its cell, trained and scored where that is missing, by budget, seed and rate.

        Adapters of chosen trials that are trained now are kept in a folder, under the first 16 digits of their cell.

        Raises:
            StudyPaused: The time is over; what is made is kept.
        """
        made = []
        for first, others in self._by_budget(chosen):
            with tempfile.TemporaryDirectory() as scratch:
                cells = [(trial, self._trained(trial, Path(scratch))) for trial in first]
                best = _best(cells)
                for trial, cell in cells:
                    wins = trial is best
                    made.append(Made(trial, self._scored(trial, cell, Path(scratch)) if wins else cell, wins))
                trained_now = Path(scratch) / self.key(best).digest[:16]
                if trained_now.is_dir():
                    adapters.mkdir(parents=True, exist_ok=True)
                    shutil.move(trained_now, adapters / trained_now.name)
            for trial in others:
                at_best = replace(trial, rate=best.rate)
                cell = self._trained(at_best, adapters)
                made.append(Made(at_best, self._scored(at_best, cell, adapters), True))
        return made

    def tokens_of_scoring(self, cell: Cell | None = None) -> int:
        """Tokens that pass through the model for the scores that a cell lacks; None has none yet."""
        return sum(self.exam.n_tokens(part, rows) for part, rows in self.exam.lacking(cell).items())

    @cached_property
    def exam(self) -> Exam:
        """What trainings are scored on: of the pool the same rows for every study, domain and variant."""
        test, ids = self.target.filter(pl.col("split") == "test"), self.pool["row_id"].to_list()
        if test.is_empty():
            raise SourceError(f"domain '{self.domain}' has no test rows, so nothing can be compared; add test.jsonl")
        drawn = hash_sample(ids, min(self.study.said.general_rows, len(ids)), "general")
        return Exam(test, self.study.said.answer_tokens, self.pool.filter(pl.col("row_id").is_in(drawn)))

    def _by_budget(self, chosen: Chosen) -> Iterator[tuple[list[Trial], list[Trial]]]:
        """Per budget: the first seed's trials, one for each rate, and the other seeds', their rate still open."""
        for budget, by_seed in chosen.items():
            (seed, rows), *rest = by_seed.items()
            rates = sorted(self.study.said.rates) if rows else [0.0]
            first = [Trial(budget, seed, rate, rows) for rate in rates]
            yield first, [Trial(budget, other, 0.0, own) for other, own in rest]

    def _count(self, work: Work, trial: Trial, *, scored: bool) -> None:
        key = self.key(trial)
        cell = self.measured.find(key)
        unscored = scored and bool(self.exam.lacking(cell))
        # Without its adapter a training is repeated to be scored.
        repeated = cell is None or (unscored and not self._kept(cell))
        if repeated and key.digest not in work.counted:
            work.counted.add(key.digest)
            work.n_trainings += bool(trial.rows)
            work.training_tokens += self._tokens_of_training(trial.rows)
        if unscored and f"{key.digest} scored" not in work.counted:
            work.counted.add(f"{key.digest} scored")
            work.n_scorings += 1
            work.scoring_tokens += self.tokens_of_scoring(None if repeated else cell)

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
        key, label = self.key(trial), self._label(trial)
        rows = pool_rows(self.pool, trial.rows, f"study/subset of '{self.study.name}'")
        adapter = adapters / key.digest[:16]
        done = fit(self.workspace, rows, self._validation, self._settings(trial), adapter, label)
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
            made=made_now(trained_on(self.workspace.project.settings.device)),
        )
        self.measured.put(cell)
        nll = f"validation NLL {cell.best_validation_nll:.4f} at epoch {cell.best_epoch}"
        say(f"{label}: {nll}, {done.seconds:.0f} s, {done.n_tokens_passed} tokens")
        return cell

    def _scored(self, trial: Trial, cell: Cell, adapters: Path) -> Cell:
        """The trial's cell with all scores; without an adapter at hand its training is repeated."""
        if not self.exam.lacking(cell):
            return cell
        trained_now = adapters / cell.digest[:16]
        if not trained_now.is_dir():  # else it would be lost
            self._go_on()
        adapter = self._kept(cell, trained_now) if trial.rows else None
        if trial.rows and adapter is None:
            cell, adapter = self._train(trial, adapters), trained_now
        model, label = tuned(self.workspace, adapter), self._label(trial)
        score_part = {"scores": self._scores, "answers": self._answers, "general": self._general}
        for part, rows in self.exam.lacking(cell).items():
            cell = cell.model_copy(update={part: score_part[part](rows, model, label, cell)})
            self.measured.put(cell)
        return cell

    def _kept(self, cell: Cell, made_now: Path | None = None) -> Path | None:
        """The cell's adapter, made now or for any variant before; None if there is none."""
        if made_now and made_now.is_dir():
            return made_now
        part = self.workspace.lake.find_made(self._recipe(cell))
        return part.folder / ADAPTER_FOLDER if part else None

    def keep(self, made: Sequence[Made], adapters: Path, run_id: str) -> list[Version]:
        """The chosen trainings as versions that others may be made of: those made now, from a folder, and earlier ones.

        A training whose adapter is nowhere, since it was made on another machine or is long ago, has none.
        """
        lake, parts = self.workspace.lake, []
        for one in made:
            if one.chosen and one.trial.rows:
                recipe, folder = self._recipe(one.cell), adapters / one.cell.digest[:16]
                write = partial(_write_training, one.trial.rows, folder)
                part = lake.make(recipe, run_id, write)[0] if folder.is_dir() else lake.find_made(recipe)
                parts += [part] if part else []
        return parts

    def _recipe(self, cell: Cell) -> Recipe:
        settings = {"cell": cell.digest, "finetune": cell.finetune}
        return Recipe(TRAINING.assets[0], self.domain, CELLS_VERSION, settings)

    def _scores(self, rows: pl.DataFrame, model: Any, label: str, _: Cell) -> CellScores:
        n_choices = int(rows.filter(pl.col("answer").is_not_null())["choices"].list.len().sum())
        with track(f"scoring {label}", len(rows) + n_choices, "rows and choices") as progress:
            found = score(self.workspace, model, rows, choices=True, progress=progress)
        say(f"{label}: scored {counted(len(rows), 'test row')}, {found.seconds:.0f} s")
        return CellScores(
            test=self.exam.test_digest,
            row_id=rows["row_id"].to_list(),
            nll=found.nll,
            n_response_tokens=rows["n_response_tokens"].to_list(),
            correct=found.right,
            n_tokens=self.exam.n_tokens("scores", rows),
            seconds=round(found.seconds, 2),
        )

    def _answers(self, rows: pl.DataFrame, model: Any, label: str, _: Cell) -> CellAnswers:
        n_new = self.exam.answer_tokens
        with track(f"answers of {label}", len(rows), "rows") as progress:
            found = score(self.workspace, model, rows, answer_tokens=n_new, progress=progress)
        right = [bool(one) for one in found.right]
        say(f"{label}: {sum(right)} of {len(right)} generated answers are right, {found.seconds:.0f} s")
        return CellAnswers(
            asked=self.exam.asked_digest,
            row_id=rows["row_id"].to_list(),
            right=right,
            n_tokens=self.exam.n_tokens("answers", rows),
            seconds=round(found.seconds, 2),
        )

    def _general(self, rows: pl.DataFrame, model: Any, label: str, cell: Cell) -> CellGeneral:
        """Those that were scored before stay."""
        before = cell.general_now() or CellGeneral()
        with track(f"scoring {label}", len(rows), "rows of the pool") as progress:
            found = score(self.workspace, model, rows, progress=progress)
        say(f"{label}: scored {counted(len(rows), 'row')} of the pool, {found.seconds:.0f} s")
        return CellGeneral(
            row_id=before.row_id + rows["row_id"].to_list(),
            nll=before.nll + found.nll,
            n_tokens=before.n_tokens + self.exam.n_tokens("general", rows),
            seconds=round(before.seconds + found.seconds, 2),
        )

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
        what = f"{counted(len(trial.rows), 'row')}, rate {trial.rate:g}, seed {trial.seed}" if trial.rows else "base"
        return f"{self.domain}: {what}"

    @cached_property
    def _validation(self) -> pl.DataFrame:
        return self.target.filter(pl.col("split") == "validation")

    def _tokens_of_training(self, rows: Sequence[str]) -> int:
        """Those of validation too, before it and after each epoch; rows that the pool lacks are of mean length."""
        lengths, mean = self._lengths, count_tokens(self.pool) / len(self.pool)
        epochs = self.study.finetune.epochs if rows else 0
        n_tokens = sum(lengths.get(row_id, mean) for row_id in rows)
        return round(epochs * n_tokens) + (epochs + 1) * count_tokens(self._validation)

    @cached_property
    def _lengths(self) -> dict[str, int]:
        """Tokens of every row of the pool."""
        return dict(self.pool.select("row_id", pl.col("n_prompt_tokens") + pl.col("n_response_tokens")).iter_rows())


def _best(cells: Sequence[tuple[Trial, Cell]]) -> Trial:
    """The trial with the lowest validation loss at its best epoch; of equals the one with the smallest rate."""
    return min(cells, key=lambda pair: (pair[1].best_validation_nll, pair[0].rate))[0]


def _write_training(rows: Sequence[str], adapter: Path, draft: Draft) -> None:
    shutil.copytree(adapter, draft.folder / ADAPTER_FOLDER)
    draft.write(TRAINING, pl.DataFrame({"order": range(len(rows)), "row_id": list(rows)}, schema=TRAINING.schema))
