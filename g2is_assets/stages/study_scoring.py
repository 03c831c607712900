"""What a training is worth in a domain: losses, choices and answers on its test rows, and losses on rows of the pool.

The last say what the model has forgotten, or learned, besides the domain. Each part is kept in the cell with what it
was made from, and made only where it is missing.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any, Final

import polars as pl

from g2is_assets.contracts.instructions import count_tokens
from g2is_assets.core.sampling import hash_sample
from g2is_assets.errors import SourceError
from g2is_assets.progress import say, track
from g2is_assets.stages.studies import Study
from g2is_assets.stages.trainings import encoded
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.measured import (
    Cell,
    CellAnswers,
    CellGeneral,
    CellScores,
    Measured,
    digest_of_questions,
    digest_of_test,
    to_be_answered,
)

WIDER: Final = 8
"""Batches that generate are so much wider than those of gradients: a step is one token of each row."""


@dataclass
class Scoring:
    """How a study scores in one domain.

    Attributes:
        workspace: The project's resource.
        study: The study.
        domain: The domain.
        pool: Table of `instructions/pool`.
        target: Table of `instructions/target`.
        measured: Where cells are kept.
    """

    workspace: Workspace
    study: Study
    domain: str
    pool: pl.DataFrame
    target: pl.DataFrame
    measured: Measured

    def complete(self, cell: Cell | None) -> bool:
        """Whether nothing is missing."""
        return not self.missing_tokens(cell)

    def missing_tokens(self, cell: Cell | None) -> int:
        """Tokens that pass through the model for what a cell lacks."""
        n_tokens = 0 if cell and cell.scores_on(self.test_digest) else count_tokens(self.test)
        if not (cell and cell.answers_to(self.asked_digest)):
            n_tokens += self._tokens_of_answers
        return n_tokens + count_tokens(self._missing_general(cell))

    def fill(self, cell: Cell, adapter: Path | None, label: str) -> Cell:
        """The cell with all scores; each part is written as soon as it is made."""
        from g2is_assets.training.fit import load_tuned

        settings = self.workspace.project.settings
        model = load_tuned(self.workspace.model, adapter, device=settings.device)
        for name, part in (("scores", self._scores), ("answers", self._answers), ("general", self._general)):
            if made := part(cell, model, label):
                cell = cell.model_copy(update={name: made})
                self.measured.put(cell)
        return cell

    def _scores(self, cell: Cell, model: Any, label: str) -> CellScores | None:
        from g2is_assets.training.evaluate import nll_and_choices, questions

        if cell.scores_on(self.test_digest):
            return None
        begun = monotonic()
        asked = [question for question in questions(self.test) if question.choices]
        total = len(self.test) + sum(len(question.choices) for question in asked)
        with track(f"scoring {label}", total, "rows and choices") as progress:
            rows = encoded(self.workspace, self.test)
            nll, choices = nll_and_choices(model, self.workspace.template, rows, asked, self._batch_tokens, progress)
        right = {found.row_id: found.right for found in choices}
        say(f"{label}: scored {len(rows)} test rows, {monotonic() - begun:.0f} s")
        return CellScores(
            test=self.test_digest,
            row_id=self.test["row_id"].to_list(),
            nll=nll,
            n_response_tokens=self.test["n_response_tokens"].to_list(),
            correct=[right.get(row.row_id) for row in rows],
            n_tokens=count_tokens(self.test),
            seconds=round(monotonic() - begun, 2),
        )

    def _answers(self, cell: Cell, model: Any, label: str) -> CellAnswers | None:
        from g2is_assets.training.evaluate import answer, questions

        if self._asked.is_empty() or cell.answers_to(self.asked_digest):
            return None
        begun, n_new = monotonic(), self.study.said.answer_tokens
        width = max(WIDER * self._batch_tokens, n_new)
        with track(f"answers of {label}", len(self._asked), "rows") as progress:
            template, asked = self.workspace.template, questions(self._asked)
            found = answer(model, template, asked, width, max_new_tokens=n_new, progress=progress)
        n_right = sum(one.right for one in found)
        say(f"{label}: {n_right} of {len(found)} generated answers are right, {monotonic() - begun:.0f} s")
        return CellAnswers(
            asked=self.asked_digest,
            row_id=[one.row_id for one in found],
            right=[one.right for one in found],
            n_tokens=self._tokens_of_answers,
            seconds=round(monotonic() - begun, 2),
        )

    def _general(self, cell: Cell, model: Any, label: str) -> CellGeneral | None:
        from g2is_assets.training.evaluate import response_nll

        rows = self._missing_general(cell)
        if rows.is_empty():
            return None
        begun, before = monotonic(), cell.general_now() or CellGeneral.empty()
        with track(f"scoring {label}", len(rows), "rows of the pool") as progress:
            tokenizer = self.workspace.model.tokenizer()
            nll = response_nll(model, tokenizer, encoded(self.workspace, rows), self._batch_tokens, progress)
        say(f"{label}: scored {len(rows)} rows of the pool, {monotonic() - begun:.0f} s")
        return before.model_copy(
            update={
                "row_id": before.row_id + rows["row_id"].to_list(),
                "nll": before.nll + list(nll),
                "n_tokens": before.n_tokens + count_tokens(rows),
                "seconds": round(before.seconds + monotonic() - begun, 2),
            }
        )

    @cached_property
    def test(self) -> pl.DataFrame:
        """The domain's test rows.

        Raises:
            SourceError: It has none.
        """
        rows = self.target.filter(pl.col("split") == "test")
        if rows.is_empty():
            raise SourceError(f"domain '{self.domain}' has no test rows, so nothing can be compared; add test.jsonl")
        return rows

    @cached_property
    def test_digest(self) -> str:
        """Of the test rows."""
        return digest_of_test(self.test)

    @cached_property
    def _asked(self) -> pl.DataFrame:
        """The test rows that the model is to answer, if the study wants that."""
        return to_be_answered(self.test) if self.study.said.answer_tokens else self.test.clear()

    @cached_property
    def asked_digest(self) -> str:
        """Of the questions."""
        return digest_of_questions(self.test, self.study.said.answer_tokens)

    @property
    def _tokens_of_answers(self) -> int:
        return int(self._asked["n_prompt_tokens"].sum()) + len(self._asked) * self.study.said.answer_tokens

    @cached_property
    def _general_rows(self) -> pl.DataFrame:
        """The same rows for every study, domain and variant: a pool that grows displaces few of them."""
        ids = self.pool["row_id"].to_list()
        drawn = hash_sample(ids, min(self.study.said.general_rows, len(ids)), "general")
        return self.pool.filter(pl.col("row_id").is_in(drawn))

    def _missing_general(self, cell: Cell | None) -> pl.DataFrame:
        general = cell.general_now() if cell else None
        return self._general_rows.filter(~pl.col("row_id").is_in(general.row_id if general else []))

    @property
    def _batch_tokens(self) -> int:
        return self.workspace.project.settings.gradients.batch_tokens
