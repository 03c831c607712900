"""What trainings of studies were worth: one Parquet file per study, a row per training, found by what it was made from.

A training is named by the digest of everything that determines it: model, template, rows in their order, settings,
validation rows. It does not know which selector chose the rows: selectors that choose alike share it. Nor do the test
rows belong to its name: a training is the same whatever it is measured on, and many are never measured. The files lie
where the study says, best under version control, so that a study goes on where it stood also when the lake is gone.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, Self

import polars as pl
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, model_validator

from g2is_assets.contracts.instructions import count_tokens
from g2is_assets.contracts.study import CELLS
from g2is_assets.errors import ContractError, StoreError
from g2is_assets.hashing import canonical_json, json_sha256
from g2is_assets.store.files import replacing, writing
from g2is_assets.store.manifest import git_revision, library_versions

CELLS_VERSION: Final = "3"
"""Part of a cell's name: raise it when the same rows and settings give another training."""

SCORES_VERSION: Final = "1"
"""Part of the test rows' digest: raise it when the same training gets other scores on the same rows."""

ANSWERS_VERSION: Final = "2"
"""Part of the digest of rows to be answered: raise it when answers to them are made or judged otherwise."""

_JSON: Final = ("finetune", "made")
"""Columns of `CELLS` that hold JSON."""


@dataclass(frozen=True)
class CellKey:
    """What determines a training.

    Attributes:
        domain: The target domain.
        model, template: Digests of the base model, and of the chat template and cut.
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


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Part(_Row):
    """Scores of some rows, each list in the order of `row_id`; what the columns mean is said by `CELLS`."""

    row_id: list[str]
    n_tokens: int
    seconds: float

    @model_validator(mode="after")
    def _parallel(self) -> Self:
        lists = {name: values for name, values in self if isinstance(values, list)}
        if len({len(values) for values in lists.values()}) != 1:
            raise ValueError(f"{', '.join(lists)} differ in length")
        return self


class CellScores(_Part):
    """Losses and choices on test rows; `test` is the exam's `test_digest`."""

    test: str
    nll: list[float]
    n_response_tokens: list[int]
    correct: list[bool | None]


class CellAnswers(_Part):
    """Whether generated answers are right; `asked` is the exam's `asked_digest`."""

    asked: str
    right: list[bool]


class CellGeneral(_Part):
    """Losses on rows of the pool; without values, of none."""

    version: str = SCORES_VERSION
    row_id: list[str] = []
    nll: list[float] = []
    n_tokens: int = 0
    seconds: float = 0.0


class Cell(_Row):
    """A training, and its scores where it was scored: a row of `CELLS`, where every column's meaning stands."""

    digest: str
    domain: str
    n_rows: int
    finetune: dict[str, Any]
    n_tokens: int
    n_tokens_passed: int
    best_epoch: int
    validation_nll: list[float]
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


@dataclass(frozen=True)
class Exam:
    """What trainings in a domain are scored on, and what of it a cell lacks.

    Attributes:
        test: The domain's test rows.
        answer_tokens: Most tokens of an answer to those that have an answer and no choices; 0 asks for none.
        general: Rows of the pool, which tell what the model has forgotten, or learned, besides the domain.
    """

    test: pl.DataFrame
    answer_tokens: int
    general: pl.DataFrame

    @cached_property
    def test_digest(self) -> str:
        """SHA-256 of how scores are made and of the test rows: id, answer and choices of each, in any order."""
        asked = pl.col("choices").fill_null(pl.lit([], pl.List(pl.String)))
        return json_sha256([SCORES_VERSION, sorted(self.test.select("row_id", "answer", asked).iter_rows())])

    @cached_property
    def asked(self) -> pl.DataFrame:
        """The test rows to be answered."""
        open_end = pl.col("answer").is_not_null() & (pl.col("choices").list.len().fill_null(0) == 0)
        return self.test.filter(open_end) if self.answer_tokens else self.test.clear()

    @cached_property
    def asked_digest(self) -> str:
        """SHA-256 of how answers are made and judged, and of the rows to be answered."""
        rows = self.asked.select("row_id", "answer").iter_rows()
        return json_sha256([ANSWERS_VERSION, sorted(rows), self.answer_tokens])

    def lacking(self, cell: Cell | None) -> dict[str, pl.DataFrame]:
        """Rows whose scores a cell lacks, by the part of it that is to hold them; None lacks all."""
        rows = {"scores": self.test, "answers": self.asked, "general": self.general}
        if cell and cell.scores_on(self.test_digest):
            del rows["scores"]
        if cell and cell.answers_to(self.asked_digest):
            del rows["answers"]
        if cell and (known := cell.general_now()):
            rows["general"] = self.general.filter(~pl.col("row_id").is_in(known.row_id))
        return {part: table for part, table in rows.items() if len(table)}

    def n_tokens(self, part: str, rows: pl.DataFrame) -> int:
        """Tokens that pass through the model for a part's rows: of answers, those that never end."""
        if part == "answers":
            return int(rows["n_prompt_tokens"].sum()) + len(rows) * self.answer_tokens
        return count_tokens(rows)


def made_now(on: Mapping[str, str]) -> dict[str, str]:
    """What a cell says of its making: when, by which revision and libraries, and on which device with how many threads.

    On a CPU its numbers are repeated to the digit on such a machine with as many threads.
    """
    libraries = {name: library_versions()[name] for name in ("python", "torch", "transformers", "peft")}
    made = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "revision": git_revision()}
    return {**made, "machine": platform.machine(), **on, **libraries}


class Measured:
    """The measurements of a study: its own file, and for reading those of other studies beside it.

    Whatever reads a damaged file raises a StoreError that names it.
    """

    def __init__(self, folder: Path, study: str) -> None:
        self.folder, self.file = folder, folder / f"{study}.parquet"

    def find(self, key: CellKey) -> Cell | None:
        """The cell of a key, if it has been made; this study's own before another's."""
        for file in self._files():
            if cell := _cells_of(file).get(key.digest):
                if (cell.domain, cell.n_rows, cell.finetune) != (key.domain, len(key.rows), dict(key.finetune)):
                    raise StoreError(f"{file}: {key.digest[:16]} is another training than its digest says; restore it")
                return cell
        return None

    def all(self) -> dict[str, Cell]:
        """Every cell by digest."""
        return {digest: cell for file in reversed(self._files()) for digest, cell in _cells_of(file).items()}

    def put(self, cell: Cell) -> None:
        """Write a cell into the study's own file, which is replaced whole; one writer at a time."""
        if _cells_of(self.file).get(cell.digest) == cell:
            return
        with writing(self.file):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f".{self.file.name}.lock"):
                cells = {**_cells_of(self.file), cell.digest: cell}
                records = [
                    one.model_dump(mode="json") | {name: canonical_json(getattr(one, name)) for name in _JSON}
                    for one in sorted(cells.values(), key=lambda one: (one.domain, one.digest))
                ]
                with replacing(self.file) as scratch:
                    pl.DataFrame(records, schema=CELLS.schema).write_parquet(scratch, compression="zstd")

    def _files(self) -> list[Path]:
        """Its own first."""
        return [self.file, *sorted(set(self.folder.glob("[!.]*.parquet")) - {self.file})]


def _cells_of(file: Path) -> Mapping[str, Cell]:
    """A file's cells by digest; none where there is no file."""
    try:
        stat = file.stat()
    except FileNotFoundError:
        return {}
    return _read(file, (stat.st_size, stat.st_mtime_ns, stat.st_ino))


@lru_cache(maxsize=64)
def _read(file: Path, _state: tuple[int, ...]) -> Mapping[str, Cell]:
    try:
        rows = CELLS.validate(pl.read_parquet(file, glob=False, memory_map=False), str(file)).iter_rows(named=True)
        cells = [Cell(**row | {name: json.loads(row[name]) for name in _JSON}) for row in rows]
        return {cell.digest: cell for cell in cells}
    except (OSError, ValueError, ContractError, pl.exceptions.PolarsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreError(f"{file} is damaged ({reason}); restore it, or delete it, and it is made again") from error
