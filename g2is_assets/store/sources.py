"""Reading pool sources and domain files: JSONL or Parquet rows in three formats, each fault named by file and row."""

import glob
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from g2is_assets.contracts.instructions import Instruction, Unusable
from g2is_assets.errors import SourceError
from g2is_assets.settings.config import Source
from g2is_assets.settings.redaction import path_of, redacted, scrubbed
from g2is_assets.store.shapes import UnknownShape, instruction_of


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
    name, n_known, unknown = relative_name(file, folder), 0, None
    for line, record in records:
        try:
            row = instruction_of(record, name, line, base)
            n_known += 1
        except UnknownShape as error:
            unknown = unknown or SourceError(f"{file}, line {line}: {error}")
            row = Unusable(name, line, None, str(base.source), str(error))
        yield row
    if unknown and not n_known:
        raise unknown


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
