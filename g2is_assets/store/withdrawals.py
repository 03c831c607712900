"""Withdrawn rows: `withdrawn.jsonl` beside the settings, one record per line, to which lines are only ever added.

It belongs to the project, not to the lake: a lake made anew still leaves these rows out.
"""

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from g2is_assets.errors import SettingsError


class Withdrawal(BaseModel):
    """One line: which row may no longer be used, why, since when (UTC) and by whose request."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    row_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    reason: Annotated[str, Field(min_length=1)]
    at: str
    by: Annotated[str, Field(min_length=1)]

    @field_validator("at")
    @classmethod
    def _utc(cls, value: str) -> str:
        moment = datetime.fromisoformat(value)
        if moment.utcoffset() is None or moment.utcoffset():
            raise ValueError("a time in UTC is needed, such as 2026-01-31T12:00:00+00:00")
        return value


def read_withdrawals(file: Path) -> dict[str, Withdrawal]:
    """The withdrawals by row id, in the file's order; of two of the same row the first. None if there is no file.

    Raises:
        SettingsError: A line is no withdrawal; the message names it.
    """
    found: dict[str, Withdrawal] = {}
    for number, line in enumerate(_lines(file), start=1):
        try:
            entry = Withdrawal.model_validate(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise SettingsError(
                f"{file}, line {number}: no withdrawal ({_fault(error)}); restore the line as `g2is withdraw` wrote "
                "it: a withdrawal stands for ever"
            ) from None
        found.setdefault(entry.row_id, entry)
    return found


def add_withdrawals(file: Path, entries: Iterable[Withdrawal]) -> list[Withdrawal]:
    """Append those that are of rows not withdrawn yet, all at once or not at all; returns them.

    Raises:
        SettingsError: The file has a damaged line, or cannot be written.
    """
    try:
        with FileLock(file.with_name(f".{file.name}.lock")):
            known, lines = read_withdrawals(file), _lines(file)
            asked: dict[str, Withdrawal] = {}
            for entry in entries:
                if entry.row_id not in known:
                    asked.setdefault(entry.row_id, entry)
            new = list(asked.values())
            lines += [json.dumps(entry.model_dump(), ensure_ascii=False) for entry in new]
            if new:
                _replace(file, "\n".join(lines) + "\n")
            return new
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {error}; nothing was withdrawn") from error


def require_kept(withdrawals: Mapping[str, Withdrawal], recorded: Iterable[str], file: Path) -> None:
    """Refuse a file that no longer holds what the lake was made with: rows may have been erased on its word.

    Args:
        withdrawals: As read.
        recorded: Row ids that the current pool's manifest records as withdrawn.
        file: For the message.

    Raises:
        SettingsError: A withdrawal is missing.
    """
    missing = sorted(set(recorded) - withdrawals.keys())
    if missing:
        raise SettingsError(
            f"{file}: the withdrawal of {', '.join(missing[:3])}{' and others' if missing[3:] else ''} is missing, "
            "with which the current pool was made; restore the lines: a withdrawal stands for ever"
        )


def _replace(file: Path, text: str) -> None:
    scratch = file.with_name(f".{file.name}-{uuid.uuid4().hex}")
    try:
        with scratch.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())  # a request to withdraw outlives a power cut
        os.replace(scratch, file)
    finally:
        scratch.unlink(missing_ok=True)


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8").removesuffix("\n")
        return text.split("\n") if text else []
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}; restore it from a backup") from error


def _fault(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg'].removeprefix('Value error, ')}"
    return f"not valid JSON: {error}"
