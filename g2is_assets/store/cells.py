"""Cells of a study: what training on some rows was worth, one small JSON file each, found by what it was made from.

A cell is named by the digest of everything that determines the training: model, template, rows in their order,
settings, validation rows. It does not know which selector chose the rows: selectors that choose alike share it. Nor do
the test rows belong to its name: a training is the same whatever it is measured on, and many are never measured. The
files are few kilobytes and lie where the study says, best under version control, so that a study goes on where it
stood also when the lake is gone.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from g2is_assets.errors import StoreError
from g2is_assets.hashing import json_sha256
from g2is_assets.store.files import write_atomically
from g2is_assets.store.manifest import git_revision, library_versions

CELLS_VERSION: Final = "3"
"""Part of a cell's name: raise it when the same rows and settings give another training."""

SCORES_VERSION: Final = "1"
"""Part of the test rows' digest: raise it when the same training gets other scores on the same rows."""


@dataclass(frozen=True)
class CellKey:
    """What determines a training.

    Attributes:
        domain: The target domain.
        model: Digest of the base model.
        template: Digest of the chat template and cut.
        rows: Pool rows in training order; none for the base model.
        finetune: Settings of the training, seed and rate included; none for the base model.
        validation: The domain's validation rows, which choose the epoch.
    """

    domain: str
    model: str
    template: str
    rows: Sequence[str]
    finetune: Mapping[str, Any]
    validation: Sequence[str]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all of it; row ids are hashes of their content."""
        rows = [list(self.rows), sorted(self.validation)]
        return json_sha256([CELLS_VERSION, self.domain, self.model, self.template, dict(self.finetune), rows])


def digest_of_test(test: pl.DataFrame) -> str:
    """SHA-256 of how scores are made and of the test rows scored: id, answer and choices of each, in any order."""
    rows = test.select("row_id", "answer", "choices").iter_rows()
    asked = sorted([row_id, answer, list(choices or [])] for row_id, answer, choices in rows)
    return json_sha256([SCORES_VERSION, asked])


def to_be_answered(test: pl.DataFrame) -> pl.DataFrame:
    """Those of the test rows that have an answer and no choices."""
    return test.filter(pl.col("answer").is_not_null() & (pl.col("choices").list.len().fill_null(0) == 0))


def digest_of_questions(test: pl.DataFrame, max_new_tokens: int) -> str:
    """SHA-256 of how answers are made and judged, and of the test rows to be answered."""
    asked = to_be_answered(test).select("row_id", "answer").iter_rows()
    return json_sha256([SCORES_VERSION, sorted(asked), max_new_tokens])


class CellScores(BaseModel):
    """What a training was worth on test rows.

    Attributes:
        test: `digest_of_test` of the test rows.
        row_id: The rows.
        nll: Mean response NLL of each, nats per token.
        n_response_tokens: Response tokens of each.
        correct: Whether the likeliest choice is the answer, where a row has choices; else null.
        n_tokens: Tokens of all rows, prompts and responses.
        seconds: Wall-clock.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    test: str
    row_id: list[str]
    nll: list[float]
    n_response_tokens: list[int]
    correct: list[bool | None]
    n_tokens: int
    seconds: float

    @model_validator(mode="after")
    def _parallel(self) -> Self:
        if len({len(self.row_id), len(self.nll), len(self.n_response_tokens), len(self.correct)}) != 1:
            raise ValueError("row_id, nll, n_response_tokens and correct differ in length")
        return self


class CellAnswers(BaseModel):
    """Generated answers to test rows that have no choices.

    Attributes:
        asked: `digest_of_questions` of them.
        right: By row, whether the answer was right.
        n_tokens: Tokens of the prompts, and of answers that are never ended.
        seconds: Wall-clock.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: str
    right: dict[str, bool]
    n_tokens: int
    seconds: float


class CellGeneral(BaseModel):
    """Losses on rows of the pool.

    Attributes:
        version: `SCORES_VERSION` they were made with.
        nll: By row, its mean response NLL in nats per token.
        n_tokens: Tokens of these rows, prompts and responses.
        seconds: Wall-clock.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    nll: dict[str, float]
    n_tokens: int
    seconds: float

    @classmethod
    def empty(cls) -> Self:
        """Of no row."""
        return cls(version=SCORES_VERSION, nll={}, n_tokens=0, seconds=0.0)


class Cell(BaseModel):
    """A training, and its scores where it was scored.

    Attributes:
        digest: Of its key.
        domain: The target domain.
        n_rows: Pool rows trained on.
        finetune: Settings of the training.
        n_tokens: Tokens of these rows times epochs.
        n_tokens_passed: Tokens that passed through the model, those of validation included.
        best_epoch: Epoch kept; 0 is the untouched base.
        validation_nll: Mean NLL of the validation rows at each epoch, the start first.
        seconds: Wall-clock of the training.
        made: When, by which revision, with which libraries, on what.
        scores: Of the test rows.
        answers: To those that have an answer and no choices.
        general: Of rows of the pool.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    domain: str
    n_rows: int
    finetune: dict[str, Any]
    n_tokens: int
    n_tokens_passed: int
    best_epoch: int
    validation_nll: list[float] = Field(min_length=1)
    seconds: float
    made: dict[str, str]
    scores: CellScores | None = None
    answers: CellAnswers | None = None
    general: CellGeneral | None = None

    @model_validator(mode="after")
    def _kept_epoch_exists(self) -> Self:
        if not 0 <= self.best_epoch < len(self.validation_nll):
            raise ValueError("best_epoch has no validation NLL")
        return self

    @property
    def best_validation_nll(self) -> float:
        """Of the epoch kept."""
        return self.validation_nll[self.best_epoch]

    def scores_on(self, test: str) -> CellScores | None:
        """The scores, if they are of these test rows."""
        return self.scores if self.scores and self.scores.test == test else None

    def answers_to(self, asked: str) -> CellAnswers | None:
        """The answers, if they are to these questions."""
        return self.answers if self.answers and self.answers.asked == asked else None

    def general_now(self) -> CellGeneral | None:
        """Losses on rows of the pool, if they were made as they are now."""
        return self.general if self.general and self.general.version == SCORES_VERSION else None

    @property
    def scoring(self) -> tuple[int, float]:
        """Tokens and seconds of all scores."""
        parts = [part for part in (self.scores, self.answers, self.general) if part]
        return sum(part.n_tokens for part in parts), sum(part.seconds for part in parts)


def made_now(on: Mapping[str, str]) -> dict[str, str]:
    """What a cell says of its making: when, by which revision and libraries, and on which device with how many threads.

    On a CPU its numbers are repeated to the digit on such a machine with as many threads.
    """
    libraries = {name: library_versions()[name] for name in ("python", "torch", "transformers", "peft")}
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": git_revision(),
        "machine": platform.machine(),
        **on,
        **libraries,
    }


def find_cell(folder: Path, key: CellKey) -> Cell | None:
    """The cell of a key, if it has been made.

    Raises:
        StoreError: Its file is damaged.
    """
    file = _file(folder, key.domain, key.digest)
    if not file.exists():
        return None
    cell = _read(file)
    said = (cell.digest, cell.domain, cell.n_rows, cell.finetune)
    if said != (key.digest, key.domain, len(key.rows), dict(key.finetune)):
        raise StoreError(f"{file} holds another cell than its name says; delete it, and it is made again")
    return cell


def all_cells(folder: Path) -> list[Cell]:
    """Every cell of a folder that can be read: what past trainings took."""
    found = []
    for file in sorted(folder.glob("*/*.json")):
        try:
            found.append(_read(file))
        except StoreError:
            continue  # whoever needs that one is told
    return found


def write_cell(folder: Path, cell: Cell) -> Path:
    """Write a cell's file, whole or not at all."""
    file = _file(folder, cell.domain, cell.digest)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(cell.model_dump(mode="json"), ensure_ascii=False) + "\n")
    return file


def _read(file: Path) -> Cell:
    try:
        return Cell.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise StoreError(f"{file} is damaged ({type(error).__name__}); delete it, and it is made again") from error


def _file(folder: Path, domain: str, digest: str) -> Path:
    return folder / domain / f"{digest[:16]}.json"
