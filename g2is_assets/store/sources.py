"""Reading pool sources and domain files: JSONL or Parquet rows in three formats, each fault named by file and row."""

import glob
import json
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl

from g2is_assets.contracts.instructions import Instruction, Unusable
from g2is_assets.errors import SourceError
from g2is_assets.settings.config import Source
from g2is_assets.settings.redaction import path_of, redacted, scrubbed

FORMATS: Final = "instruction/input/output, prompt/response, prompt/completion or messages"
ROLES: Final = frozenset({"system", "user", "assistant"})


def find_files(source: Source, folder: Path) -> list[str]:
    """Files of a source, sorted: a path or glob relative to `folder`, or one URI.

    Raises:
        SourceError: Nothing matches, or a folder does.
    """
    if "://" in source.path:
        return [source.path]
    pattern = source.path if Path(source.path).is_absolute() else f"{glob.escape(str(folder))}/{source.path}"
    found = sorted(glob.glob(pattern, recursive=True))
    if any(Path(file).is_dir() for file in found):
        raise SourceError(f"{pattern} is or matches a folder; name the files in it, such as {source.path}/*.jsonl")
    if not found:
        raise SourceError(f"{pattern} does not exist or matches no file; correct `sources` in the settings file")
    return found


def relative_name(file: str, folder: Path) -> str:
    """How tables and manifests name a file: relative to the settings, so that a moved project keeps its versions.

    An address is named without its credentials.
    """
    return redacted(file) if "://" in file else Path(os.path.relpath(file, folder)).as_posix()


def read_rows(file: str, source: Source, folder: Path) -> Iterator[Instruction | Unusable]:
    """Rows of a JSONL or Parquet file or URI, usable or set aside with a reason.

    The source's name and licence serve rows that carry none; rows name their file relative to the folder.

    Raises:
        SourceError: The file is missing, broken or in an unknown format; the message names the line or columns.
    """
    local = Path(file)
    if "://" not in file and not local.is_file():
        raise SourceError(f"{file} does not exist or is no file")
    if path_of(file).endswith(".parquet"):
        records = _table(file, "Parquet", lambda: pl.read_parquet(file, glob="://" in file))
    elif path_of(file).endswith((".jsonl", ".ndjson")):
        records = _table(file, "JSONL", pl.scan_ndjson(file).collect) if "://" in file else _jsonl(local)
    else:
        raise SourceError(f"{redacted(file)}: the name must end in .jsonl or .parquet")
    base = Source(path=file, source=source.source or Path(path_of(file)).stem, license=source.license)
    for line, record in records:
        yield _normalise(record, relative_name(file, folder), line, base)


def find_in_files(
    files: Iterable[tuple[str, Source]], folder: Path, rows: Collection[str]
) -> tuple[dict[str, list[tuple[str, int]]], list[str]]:
    """Where rows stand: file, relative to the folder, and line by row id; and what is wrong with unsearchable files."""
    found: dict[str, list[tuple[str, int]]] = {}
    faults = []
    for file, source in files:
        try:
            for row in read_rows(file, source, folder):
                if isinstance(row, Instruction) and row.row_id in rows:
                    found.setdefault(row.row_id, []).append((row.file, row.line))
        except SourceError as error:
            faults.append(str(error))
    return found, faults


def _jsonl(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:  # not JSON, too deep, or a number beyond bounds
                    raise SourceError(
                        f"{file}, line {number}: not valid JSON ({error}); correct or remove it"
                    ) from None
                if not isinstance(record, dict):
                    raise SourceError(f"{file}, line {number}: a JSON object is needed, not {type(record).__name__}")
                yield number, record
    except UnicodeDecodeError as error:
        raise SourceError(f"{file} is not UTF-8: {error}") from None
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error}") from error


def _table(file: str, kind: str, read: Callable[[], pl.DataFrame]) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        table = read()
    except (Exception, pl.exceptions.PanicException) as error:  # Polars and its cloud readers raise many kinds
        reason = scrubbed((str(error).strip().splitlines() or [type(error).__name__])[0], file)
        # Without the cause, whose text may hold the credentials of an address: Dagster stores causes.
        raise SourceError(f"{redacted(file)} cannot be read as {kind}: {reason}; mend or replace the file") from None
    yield from enumerate(table.iter_rows(named=True), start=1)


def _normalise(record: Mapping[str, Any], file: str, line: int, base: Source) -> Instruction | Unusable:
    source = _text(record.get("source")) or str(base.source)
    identity = _optional(record.get("id"))
    turns = _turns(record, file, line)
    choices = record.get("choices")
    fault = turns if isinstance(turns, str) else _fault(turns)
    if choices is not None and not isinstance(choices, list):
        fault = "`choices` is not a list"
    for name in ("source", "license"):  # else the file's own would stand in for it
        if not isinstance(record.get(name), str | None):
            fault = f"the {name} is not a string"
    if fault or isinstance(turns, str):
        return Unusable(file, line, identity, source, str(fault))
    messages = tuple({"role": turn["role"], "content": _text(turn["content"])} for turn in turns)
    return Instruction(
        messages=messages[:-1],
        response=messages[-1]["content"],
        source=source,
        license=_text(record.get("license")) or base.license or "unknown",
        file=file,
        line=line,
        id=identity,
        answer=_optional(record.get("answer")),
        choices=None if choices is None else tuple(_text(str(choice)) for choice in choices),
    )


def _turns(record: Mapping[str, Any], file: str, line: int) -> list[Any] | str:
    """The row as a list of turns, the response last; or what is wrong with it."""
    if isinstance(record.get("messages"), list):
        return list(record["messages"])
    for prompt, response in (("instruction", "output"), ("prompt", "response"), ("prompt", "completion")):
        if prompt in record and response in record:
            text, extra = record[prompt], record.get("input") if prompt == "instruction" else None
            if extra is not None and not isinstance(extra, str):
                return "the input is not a string"
            if isinstance(text, str) and extra and extra.strip():
                text = f"{text.rstrip()}\n\n{extra}"
            return [{"role": "user", "content": text}, {"role": "assistant", "content": record[response]}]
    if "messages" in record:
        return "`messages` is not a list"
    columns = ", ".join(sorted(map(str, record))) or "none"
    raise SourceError(f"{file}, line {line}: missing columns; needed: {FORMATS}; found: {columns}")


def _fault(turns: list[Any]) -> str | None:
    for turn in turns:
        role = turn.get("role") if isinstance(turn, Mapping) else None
        if not isinstance(role, str) or role not in ROLES:
            return "a message without a role among system, user, assistant"
        if not isinstance(turn.get("content"), str):
            return f"the {role} text is not a string"
        if not _text(turn["content"]):
            return "empty response" if turn is turns[-1] and role == "assistant" else f"empty {role} text"
    if not turns or turns[-1]["role"] != "assistant":
        return "no response: the last message is not the assistant's"
    if all(turn["role"] != "user" for turn in turns):
        return "no prompt: no message is the user's"
    return None


def _optional(value: Any) -> str | None:
    return None if value is None else _text(str(value))


def _text(value: Any) -> str:
    """Trimmed text in Unicode normal form C, so that equal rows get equal ids; lone surrogates are replaced."""
    if not isinstance(value, str):
        return ""
    return unicodedata.normalize("NFC", value.encode("utf-8", "replace").decode("utf-8")).strip()
