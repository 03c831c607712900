"""Single files: written whole or not at all, Parquet read, and what to say when the machine refuses."""

import errno
import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import polars as pl

from g2is_assets.errors import G2isError, StoreError

REFUSALS: Final = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.EMFILE,
    errno.ENAMETOOLONG,
)
_SQLITE: Final = ("disk is full", "disk I/O error", "readonly database", "unable to open database file")
_FULL: Final = re.compile(r"\d+ requested and \d+ written|.*Invalid thrift: transport error")
"""What numpy and Polars say, without a number, of an array or of a file's end of which a full disk took a part."""
WRITING: Final = ".writing-"
EXPORTING: Final = ".exporting-"
MEND: Final = "free space, make it writable, or set G2IS_HOME to another place"
MEND_OUT: Final = "free space, make it writable, or name another place"
"""The same for a place that was named on the command line."""


@contextmanager
def writing(place: Path, note: str = "", mend: str = MEND) -> Iterator[None]:
    """Turn a full disk, a read-only folder and the like into one error that names the place and the remedy.

    Raises:
        StoreError: The machine refused; other errors pass.
    """
    try:
        yield
    except G2isError:
        raise
    except Exception as error:  # each library has its own
        if not is_refusal(error):
            raise
        reason, file = _reason(error), getattr(error, "filename", None)
        own = place if place.is_dir() else place.parent
        if isinstance(file, str) and not Path(file).is_relative_to(own):  # such as the system's scratch folder
            raise StoreError(f"{file} cannot be used: {reason}; {mend}{note}") from error
        raise StoreError(f"{place} cannot be written: {reason}; {mend}{note}") from error


def is_refusal(error: Exception) -> bool:
    """Whether the machine refused to write. Libraries in Rust and C++ give no error number, only its text."""
    if getattr(error, "errno", None) is not None:
        return getattr(error, "errno", None) in REFUSALS
    if _FULL.fullmatch(str(error)):
        return True
    said = [*_SQLITE, *(f"(os error {n})" for n in REFUSALS), *map(os.strerror, REFUSALS)]
    return any(text in str(error) for text in said)


def refusal(error: Exception) -> str | None:
    """What the machine refused, in one line, wherever it came up; None of any other error."""
    mend = "let this user read and write there, free space, or name another place"
    return f"{_reason(error)}; {mend}" if is_refusal(error) else None


def _reason(error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return f"{os.strerror(errno.ENOSPC)} ({reason})" if _FULL.fullmatch(reason) else reason


@contextmanager
def replacing(path: Path, beside: Path | None = None, mend: str = MEND, prefix: str = WRITING) -> Iterator[Path]:
    """A scratch path that becomes a file or folder when the block ends: readers see the old one or the new, never half.

    Args:
        path: What it becomes. A folder that is there must be empty.
        beside: Where the scratch path lies, if not beside it: inside a version it would belong to its payload.
        mend: The remedy to name.
        prefix: Of the scratch path's name, by which it is known if the process is killed.

    Raises:
        StoreError: The machine refused; what was there stands, and nothing else is left.
    """
    scratch = (beside or path).with_name(f"{prefix}{uuid.uuid4().hex}")
    with writing(path, mend=mend):
        try:
            yield scratch
            os.replace(scratch, path)
        finally:
            for left in (scratch, scratch.with_name(f"{scratch.name}.wal")):  # DuckDB keeps a log beside its file
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)


def open_as_umask(folder: Path) -> None:
    """Give every file below a new folder the mode that the folder's own says: some writers keep theirs to the owner."""
    mode = folder.stat().st_mode & 0o666
    for file in folder.rglob("*"):
        if file.is_file() and file.stat().st_mode & 0o777 != mode:
            file.chmod(mode)


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON with its text as it is, but for what only some take for the end of a line, which is escaped.

    So a record without indentation is one line to every reader; read, it is the same value.
    """
    return json.dumps(value, ensure_ascii=False, indent=indent).translate(_SEPARATORS)


_SEPARATORS: Final = {ord(c): f"\\u{ord(c):04x}" for c in "\u0085\u2028\u2029"}


def write_atomically(path: Path, text: str) -> None:
    """Write a small file, whole or not at all."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


@contextmanager
def exported(path: Path) -> Iterator[Path]:
    """A scratch path that becomes an exported file or folder when the block ends; after an error nothing of it is left.

    One export at a time works in a folder, and takes away what one left there that was killed.

    Raises:
        StoreError: The machine refused.
    """
    with writing(path, mend=MEND_OUT), ExitStack() as stack:
        path.parent.mkdir(parents=True, exist_ok=True)
        for place in [path.parent, *([path] if path.is_dir() else [])]:
            opened = os.open(place, os.O_RDONLY)
            stack.callback(os.close, opened)
            with suppress(OSError):  # a file system without locks
                fcntl.flock(opened, fcntl.LOCK_EX)
            for left in place.glob(f"{EXPORTING}*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        with replacing(path, mend=MEND_OUT, prefix=EXPORTING) as scratch:
            yield scratch


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """A scratch folder that becomes `folder` when the block ends, as `exported` has it.

    Raises:
        StoreError: The folder exists and is not empty, or the machine refused.
    """
    with exported(folder) as scratch:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise StoreError(f"{folder} exists and is not an empty folder; name a new one, or remove it")
        scratch.mkdir()
        yield scratch
        open_as_umask(scratch)


def write_into(folder: Path, name: str, content: bytes) -> None:
    """Write a file of a version, whole or not at all."""
    with replacing(folder / name, beside=folder) as scratch:
        scratch.write_bytes(content)


def read_parquet(path: Path, columns: list[str] | None = None, n_rows: int | None = None) -> pl.DataFrame:
    """Read one of the lake's Parquet files.

    Raises:
        StoreError: It is missing, truncated or not Parquet.
    """
    try:
        return pl.read_parquet(path, columns=columns, n_rows=n_rows, glob=False, memory_map=False)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise StoreError(f"{path} is missing or damaged: {reason}; materialise the asset again") from error
