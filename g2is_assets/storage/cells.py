"""Cells of a study: what training on some rows was worth, one small JSON file each, found by what it was made from.

A cell is named by the digest of everything that determines it: model, template, rows in their order, settings of the
training, validation and test rows. It does not know which selector chose the rows: selectors that choose alike share
it. The files are few kilobytes and lie where the study says, best under version control, so that a study goes on
where it stood also when the lake is gone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from g2is_assets.errors import StoreError
from g2is_assets.hashing import json_sha256
from g2is_assets.storage.files import write_atomically


@dataclass(frozen=True)
class CellKey:
    """What determines a cell.

    Attributes:
        domain: The target domain.
        model: Digest of the base model.
        template: Digest of the chat template and cut.
        rows: Pool rows in training order; none for the base model.
        finetune: Settings of the training, seed and rate included; none for the base model.
        validation: The domain's validation rows, which choose the epoch.
        test: The rows that are scored.
    """

    domain: str
    model: str
    template: str
    rows: Sequence[str]
    finetune: Mapping[str, Any]
    validation: Sequence[str]
    test: Sequence[str]

    @property
    def digest(self) -> str:
        """SHA-256 of all of it; row ids are hashes of their content."""
        rows = [list(self.rows), sorted(self.validation), sorted(self.test)]
        return json_sha256([self.domain, self.model, self.template, dict(self.finetune), rows])


class Cell(BaseModel):
    """A trained and scored cell.

    Attributes:
        digest: Of its key.
        domain: The target domain.
        n_rows: Pool rows trained on.
        finetune: Settings of the training.
        n_tokens: Tokens that passed through the training.
        best_epoch: Epoch kept; 0 is the untouched base.
        validation_nll: Mean NLL of the validation rows at each epoch, the start first.
        row_id: The scored rows.
        nll: Mean response NLL of each, nats per token.
        n_response_tokens: Response tokens of each.
        correct: Whether the likeliest choice is the answer, where a row has choices; else null.
        seconds: Wall-clock of training and of scoring.
        made: When, by which revision, on which machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    domain: str
    n_rows: int
    finetune: dict[str, Any]
    n_tokens: int
    best_epoch: int
    validation_nll: list[float]
    row_id: list[str]
    nll: list[float]
    n_response_tokens: list[int]
    correct: list[bool | None]
    seconds: dict[str, float]
    made: dict[str, str]

    @model_validator(mode="after")
    def _parallel(self) -> "Cell":
        if len({len(self.row_id), len(self.nll), len(self.n_response_tokens), len(self.correct)}) != 1:
            raise ValueError("row_id, nll, n_response_tokens and correct differ in length")
        return self

    @property
    def best_validation_nll(self) -> float:
        """Of the epoch kept."""
        return self.validation_nll[self.best_epoch]


def find_cell(folder: Path, key: CellKey) -> Cell | None:
    """The cell of a key, if it has been made.

    Raises:
        StoreError: Its file is damaged.
    """
    file = _file(folder, key.domain, key.digest)
    if not file.exists():
        return None
    try:
        cell = Cell.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise StoreError(f"{file} is damaged ({type(error).__name__}); delete it, and it is made again") from error
    if cell.digest != key.digest:
        raise StoreError(f"{file} holds another cell than its name says; delete it, and it is made again")
    return cell


def write_cell(folder: Path, cell: Cell) -> Path:
    """Write a cell's file, whole or not at all."""
    file = _file(folder, cell.domain, cell.digest)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(cell.model_dump(mode="json"), ensure_ascii=False) + "\n")
    return file


def _file(folder: Path, domain: str, digest: str) -> Path:
    return folder / domain / f"{digest[:16]}.json"
