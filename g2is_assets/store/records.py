"""Records of files and addresses, one after the other: JSONL, JSON arrays, CSV, TSV and Parquet, also compressed.

What a record means is no matter of this module. No file is held whole; every fault is named by file and line or row.
"""

import csv
import gzip
import io
import itertools
import json
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, cast

import polars as pl

from g2is_assets.errors import SourceError
from g2is_assets.settings.config import FORMATS, ROWS_FILE
from g2is_assets.settings.redaction import path_of, redacted, scrubbed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Records = Iterator[tuple[int, dict[str, Any] | str]]

HEAD: Final = 4096
"""Bytes from which a format is told."""
CHUNK: Final = 1 << 16
"""Characters of a JSON array that are held at a time, at least."""
BATCH: Final = 4096
"""Rows of Parquet that are held at a time."""
SAMPLE: Final = 1 << 18
"""Bytes from which the number of rows is estimated."""
GZIP: Final = b"\x1f\x8b"
ZSTD: Final = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
PARQUET: Final = b"PAR1"
BOM: Final = b"\xef\xbb\xbf"
MEND: Final = "mend or replace the file"
_DECODER: Final = json.JSONDecoder()
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_WORD: Final = 16
"""Characters, more than the longest word or escape of JSON: a fault nearer to the end of what is held may be none."""
BROKEN: Final = (OSError, EOFError, zlib.error, zstd.ZstdError)
"""What files and what they are compressed with raise."""

csv.field_size_limit(2**31 - 1)  # of the whole process; as it comes, no text of more than 131,072 characters is read


def read_records(file: str, name: str = "", storage: Mapping[str, str] | None = None) -> Records:
    """Records, each with the line where it begins; of JSON arrays and Parquet with the row's number. Both count from 1.

    A text in the place of a record says why that row alone cannot be used.

    Args:
        file: A path, or a URI as Polars takes it.
        name: What errors call it, where that is another.
        storage: Options of a URI, by object_store's names.

    Raises:
        SourceError: It cannot be read, or not to its end; the message names line or row and remedy.
    """
    name, number = name or redacted(file), 0
    try:
        for number, record in _remote(file, name, dict(storage or {})) if "://" in file else _local(file, name):
            yield number, record
    except BROKEN as error:
        raise _unreadable(name, error, f" after row {number}" if number else "") from error


def ending_of(file: Path) -> str:
    """The ending that says what a file holds: its own, or one by its content.

    Raises:
        SourceError: Neither tells, or it cannot be read.
    """
    if known := ROWS_FILE.search(file.name):
        return known[0].lower()
    try:
        with file.open("rb") as raw:
            return f".{_format('', _unpacked(raw).read(HEAD), str(file))}"
    except BROKEN as error:
        raise _unreadable(str(file), error) from error


def about_rows(file: Path) -> int:
    """Rows of a file: of Parquet as it says, else as many as its first bytes let expect.

    Raises:
        SourceError: It cannot be read.
    """
    try:
        with file.open("rb") as raw, _unpacked(raw) as stream:
            start = stream.read(SAMPLE)
            share = raw.tell() / max(file.stat().st_size, 1)
            if start.startswith(PARQUET):
                with _on_disk(str(file), raw, stream) as whole, _polars(str(file), "parquet"):
                    return int(pl.scan_parquet(whole, glob=False).select(pl.len()).collect().item())
            form = _format(str(file), start[:HEAD], str(file))
    except BROKEN as error:
        raise _unreadable(str(file), error) from error
    n = start.count(b"\n") - (form in ("csv", "tsv"))  # whose first line names columns
    if form == "json":  # its lines are no rows
        n = 0
        with suppress(SourceError):  # where the sample ends
            for n, _ in _array(iter([start.removeprefix(BOM).decode(errors="replace")]), ""):  # noqa: B007
                pass
    return round(n / share) if n else int(bool(start.strip()))


def _unreadable(name: str, error: Exception, after: str = "") -> SourceError:
    return SourceError(f"{name} cannot be read{after}: {getattr(error, 'strerror', None) or error}; {MEND}")


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    """A file's bytes as they were before it was compressed, which its first bytes tell."""
    start = raw.read(4)
    raw.seek(0)
    if start.startswith(GZIP):
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    return cast(IO[bytes], zstd.ZstdFile(raw)) if ZSTD.match(start) else raw


def _format(file: str, head: bytes, name: str) -> str:
    """The format by the name's ending, else by the first bytes."""
    if head.startswith(PARQUET):
        return "parquet"
    known = ROWS_FILE.search(path_of(file))
    if known and known[1].lower() != "json":
        return known[1].lower()
    first = head.removeprefix(BOM).lstrip()[:1]
    if first in (b"[", b"{") or known or not first:
        return "json" if first == b"[" else "jsonl"
    endings = ", ".join(f".{ending}" for ending in FORMATS)
    raise SourceError(f"{name}: neither name nor content say what it holds; let the name end in one of {endings}")


def _local(file: str, name: str) -> Records:
    with open(file, "rb") as raw, _unpacked(raw) as stream:
        head = stream.read(HEAD)
        form = _format(file, head, name)
        if form == "parquet":
            with _on_disk(file, raw, stream) as whole:
                yield from _parquet(whole, name)
            return
        stream.seek(len(BOM) if head.startswith(BOM) else 0)
        # Bytes that are not UTF-8 become lone surrogates, which UTF-8 never gives, so that their line can be named.
        text = io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="")
        yield from READERS[form](iter(lambda: text.read(CHUNK), "") if form == "json" else text, name)


@contextmanager
def _on_disk(file: str, raw: IO[bytes], stream: IO[bytes]) -> Iterator[str]:
    """The path of a file whose end is read first: its own, or that of an unpacked copy."""
    if stream is raw:
        yield file
        return
    with tempfile.NamedTemporaryFile() as plain:
        stream.seek(0)
        shutil.copyfileobj(stream, plain)
        plain.flush()
        yield plain.name


def _remote(file: str, name: str, storage: dict[str, str]) -> Records:
    """Records behind a URI: Parquet as Polars reads it, else those in the lines that Polars fetches and unpacks."""
    known = ROWS_FILE.search(path_of(file))
    form = known[1].lower() if known else "lines of text"
    if known and known[2] and form == "parquet":
        raise SourceError(f"{name}: packed Parquet is read from local files alone; unpack it")
    if form == "parquet":
        yield from _parquet(file, name, storage)
        return
    lines = _remote_lines(file, form, storage)
    first = next(lines, "")
    yield from READERS[_format(file, first.encode()[:HEAD], name)](itertools.chain([first], lines), name)


def _remote_lines(file: str, form: str, storage: dict[str, str]) -> Iterator[str]:
    with _polars(file, form):
        for batch in pl.scan_lines(file, storage_options=storage).collect_batches():
            yield from (f"{line}\n" for line in batch["line"])


def _parquet(file: str, name: str, storage: dict[str, str] | None = None) -> Records:
    with _polars(file, "parquet", name):
        parts = pl.scan_parquet(file, glob="://" in file, storage_options=storage).collect_batches(chunk_size=BATCH)
        yield from enumerate((row for batch in parts for row in batch.iter_rows(named=True)), start=1)


@contextmanager
def _polars(file: str, form: str, name: str = "") -> Iterator[None]:
    """What Polars and its cloud readers raise, which is of many kinds, as one error without credentials."""
    try:
        yield
    except (Exception, pl.exceptions.PanicException) as error:
        reason = scrubbed((str(error).strip().splitlines() or [type(error).__name__])[0], file)
        kind = "Parquet" if form == "parquet" else form.upper() if form in FORMATS else form
        # Without the cause, whose text may hold the credentials of an address: Dagster stores causes.
        raise SourceError(f"{name or redacted(file)} cannot be read as {kind}: {reason}; {MEND}") from None


def _lines(lines: Iterable[str], name: str) -> Records:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        _require_utf8(line, f"{name}, line {number}")
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # not JSON, too deep, or a number beyond bounds
            begun = "; a JSON array is read from a file named .json" if line[0] == "[" else ""
            begun = "; an object of several lines is read from a JSON array" if line.strip() == "{" else begun
            hint = begun if number == 1 else ""
            raise SourceError(f"{name}, line {number}: not valid JSON ({error}); correct or remove it{hint}") from None
        yield number, _object(record)


def _array(parts: Iterator[str], name: str) -> Records:
    """Elements of a JSON array, one after the other."""
    text, number = _Window(parts, name), 0

    def fault(reason: object) -> SourceError:
        return SourceError(f"{name}, row {number}: not a valid JSON array ({reason}); {MEND}")

    before = text.peek()  # [ or , before an element, ] after the last
    if before != "[":
        raise fault("it does not begin with [")
    while before != "]":
        text.at += 1
        if text.peek() == "]" and not number:
            break
        number += 1
        try:
            value = text.element()
        except (ValueError, RecursionError) as error:
            raise fault(getattr(error, "msg", error)) from None
        yield number, _object(value)
        before = text.peek()
        if before not in (",", "]"):
            raise fault("no comma after it" if before else "the file ends in the middle")
    text.at += 1
    if text.peek():
        raise fault("something stands behind it")


class _Window:
    """What is held of a long JSON text: it grows only to hold the longest element."""

    def __init__(self, parts: Iterator[str], name: str) -> None:
        self.parts, self.name = parts, name
        self.buffer, self.at = "", 0

    def grow(self) -> bool:
        """Whether there was more; as much again as is held, so that a long element is not decoded too often."""
        more = [self.buffer[self.at :]]
        wanted = max(CHUNK, len(more[0]))
        while wanted > 0 and (part := next(self.parts, "")):
            _require_utf8(part, self.name)
            more.append(part)
            wanted -= len(part)
        self.buffer, self.at = "".join(more), 0
        return len(more) > 1

    def peek(self) -> str:
        """The next character that is no space, to which it goes; none at the end."""
        while True:
            self.at = _SPACE.match(self.buffer, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self.grow():
                return ""

    def element(self) -> Any:
        """The value that begins here; goes to its end."""
        while True:
            begins = self.at
            try:
                value, end = _DECODER.raw_decode(self.buffer, begins)
            except json.JSONDecodeError as error:
                final = error.pos < len(self.buffer) - _WORD and not error.msg.startswith("Unterminated string")
                if final or not self.grow():
                    raise
                continue
            if end < len(self.buffer) - _WORD or not self.grow():  # else a number may go on
                self.at += end - begins
                return value


def _csv(lines: Iterable[str], name: str, delimiters: str = ",;\t") -> Records:
    """Rows under a header that names the columns; of the delimiters, that counts which the header has most."""
    rest = iter(lines)
    first = next(rest, "")
    told = re.fullmatch(r'sep=([^"\r\n])[\r\n]*', first, re.IGNORECASE)  # a line for Excel alone
    delimiter = told[1] if told else max(delimiters, key=first.count)
    rows = csv.reader(_utf8_lines(itertools.chain([first], rest), name), delimiter=delimiter, strict=True)
    try:
        header = [column.strip() for column in next(itertools.islice(rows, int(told is not None), None), [])]
        if not any(header):
            raise SourceError(f"{name}, line 1: no header; let the first line name the columns")
        if twice := {column for column in header if header.count(column) > 1}:
            raise SourceError(f"{name}, line 1: several columns are named {sorted(twice)}; rename all but one")
        begins = rows.line_num + 1
        for row in rows:
            number, begins = begins, rows.line_num + 1
            if len(row) == len(header):
                # Nothing between two commas says nothing, as null does.
                yield number, {column: value or None for column, value in zip(header, row, strict=True)}
            elif row:
                yield number, f"the header names {len(header)} columns, and this row has {len(row)}"
    except csv.Error as error:
        raise SourceError(
            f"{name}, line {rows.line_num}: not valid CSV ({error}); put a field with quotes, commas or line "
            'breaks in quotes, and double the quotes in it ("")'
        ) from None


def _utf8_lines(lines: Iterable[str], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        _require_utf8(line, f"{name}, line {number}")
        yield line


def _require_utf8(text: str, where: str) -> None:
    try:
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) & 0xFF
        raise SourceError(f"{where}: not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8") from None


def _object(value: Any) -> dict[str, Any] | str:
    return value if isinstance(value, dict) else f"a JSON object is needed, not {type(value).__name__}"


READERS: Final[dict[str, Callable[[Any, str], Records]]] = {
    "jsonl": _lines,
    "ndjson": _lines,
    "json": _array,
    "csv": _csv,
    "tsv": partial(_csv, delimiters="\t"),
}
