"""Reading pool sources and domain files: the records of a source as rows, usable or set aside with a reason."""

import difflib
import glob
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from g2is_assets.contracts.instructions import LABELS, MENTION, Instruction, Unusable
from g2is_assets.errors import SourceError, UnknownShape, UnusableRow
from g2is_assets.settings.config import ROWS_FILE, Source
from g2is_assets.settings.redaction import path_of, redacted
from g2is_assets.store.hub import HUB, fetched, name_of
from g2is_assets.store.records import read_records
from g2is_assets.store.shapes import EXTRA, KNOWN, MEDIA, PROMPTS, SYSTEM, TOOLS, instruction_of

READ: Final = frozenset(
    {*KNOWN, *PROMPTS, *EXTRA, *SYSTEM, *TOOLS, *MEDIA, *MENTION, *LABELS.values(), "options"}
    | {"rejected", "history", "label"}
)
"""Every column that some shape of rows reads, or whose meaning it knows."""
SHAPES: Final = (
    "known are instruction/input/output, prompt/response, prompt/completion, question/answer, prompt/chosen, messages "
    "or conversations"
)


def find_files(source: Source, folder: Path) -> list[str]:
    """Files of a source, sorted: a path or glob relative to `folder`; or one URI; or one data set of the hub.

    Raises:
        SourceError: Nothing matches, or a folder does.
    """
    if source.path is None:
        return [name_of(source)]
    if "://" in source.path:
        return [source.path]
    pattern = source.path if Path(source.path).is_absolute() else f"{glob.escape(str(folder))}/{source.path}"
    found = sorted(glob.glob(pattern, recursive=True))
    if any(Path(file).is_dir() for file in found):
        raise SourceError(f"{pattern} is or matches a folder; name the files in it, such as {source.path}/*.jsonl")
    if not found:
        for place in Path(pattern).parents:
            if os.path.isdir(place) and not os.access(place, os.R_OK | os.X_OK):
                raise SourceError(f"{place} may not be read; give its readers the right to, or correct `sources`")
        raise SourceError(f"{pattern} does not exist or matches no file; correct `sources` in the settings file")
    return found


def is_remote(file: str) -> bool:
    """Whether what `find_files` found is a URI or a data set of the hub, and no file."""
    return "://" in file or file.startswith(HUB)


def relative_name(file: str, folder: Path) -> str:
    """How tables and manifests name a file: relative to the settings, so that a moved project keeps its versions.

    An address is named without its credentials.
    """
    return redacted(file) if is_remote(file) else Path(os.path.relpath(file, folder)).as_posix()


def read_rows(
    file: str, source: Source, folder: Path, first: int | None = None, naming: str = ""
) -> Iterator[Instruction | Unusable]:
    """Rows of a file, a URI or a data set of the hub, or its first ones, usable or set aside with a reason.

    The source's name and licence serve rows that carry none; rows name their file relative to the folder. `naming` is
    how columns of other names are told, if not by the settings file or the `domain.toml` beside the file.

    Raises:
        SourceError: The file is missing, broken or in an unknown format; the message names the line or columns.
    """
    if not is_remote(file) and not Path(file).is_file():
        raise SourceError(f"{file} does not exist or is no file")
    if file.startswith(HUB):
        places, stem = fetched(source), str(source.hub)
    else:
        places, stem = [(file, relative_name(file, folder))], ROWS_FILE.sub("", Path(path_of(file)).name)
    base = source.model_copy(update={"source": source.source or stem})
    columns = source.columns.model_dump(exclude_none=True)
    n_known, unknown = 0, None
    for place, name in places:
        records = read_records(place, name if file.startswith(HUB) else "", source.storage)
        for line, found in islice(records, first):
            record = found if isinstance(found, str) or not columns else renamed(found, columns)
            try:
                if isinstance(record, str):
                    raise UnusableRow(record)
                row = instruction_of(record, name, line, base)
                n_known += 1
            except UnusableRow as error:
                reason = str(error)
                if isinstance(error, UnknownShape) and not isinstance(found, str):
                    reason, more = unknown_columns(found), naming or _naming(file, source)
                    unknown = unknown or SourceError(f"{redacted(file)}, line {line}: {reason}; {more}")
                row = Unusable(name, line, None, str(base.source), reason)
            yield row
    if unknown and not n_known:
        raise unknown


def unknown_columns(record: Mapping[str, Any]) -> str:
    """What is said of the columns of a record, as its file has them, that make no known shape."""
    return f"unknown columns: {', '.join(sorted(map(str, record))) or 'none'}; {_nearest(record)}"


def _nearest(record: Mapping[str, Any]) -> str:
    """What the columns might be meant as, and what is known."""
    if asked := [name for name in PROMPTS if name in record]:
        return f"beside `{asked[0]}` stands no response; {SHAPES}"
    for name in record:
        if name in KNOWN:
            return f"beside `{name}` stands no prompt; {SHAPES}"
        if close := difflib.get_close_matches(str(name).lower(), KNOWN, n=1, cutoff=0.8):
            return f"is `{name}` the known `{close[0]}`? {SHAPES}"
    return SHAPES


def _naming(file: str, source: Source) -> str:
    """Which line tells what the columns of a source are called that have none of the usual names, and where it goes."""
    said, path = 'columns = { prompt = "...", response = "..." }', Path(file)
    if source.path == file and ROWS_FILE.sub("", path.name) in ("validation", "test"):
        return f"name others in {path.with_name('domain.toml')}: `{said}`"
    place = f'hub = "{source.hub}"' if source.hub else f'path = "{redacted(str(source.path))}"'
    return f"name others in the settings, below [instructions]: `sources = [{{ {place}, {said} }}]`"


def unread_columns(file: str, source: Source, first: int) -> list[str]:
    """Columns of a file's first records that no shape of rows reads, and that no setting names."""
    known = READ | set(source.columns.model_dump(exclude_none=True).values())
    records = (record for _, record in islice(read_records(file), first) if not isinstance(record, str))
    return list(dict.fromkeys(str(name) for record in records for name in record if name not in known))


def renamed(record: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any] | str:
    """A record under the usual names of columns; or which column it lacks.

    Args:
        record: As it was read.
        columns: The record's own names by usual name; where one is for turns, other columns give none.
    """
    if missing := sorted(set(columns.values()) - record.keys()):
        return f"no column {missing[0]!r}, which `columns` names; found: {', '.join(sorted(record)) or 'none'}"
    kept = record.keys() - columns.values()
    if columns.keys() & {"prompt", "messages"}:
        kept &= {"answer", "choices", *SYSTEM, *TOOLS, *MEDIA, *LABELS, *LABELS.values()}
    return {name: record[name] for name in kept} | {name: record[own] for name, own in columns.items()}


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
