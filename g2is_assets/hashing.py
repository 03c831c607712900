"""SHA-256 of files and of values, in one canonical form."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sha256_once(path: Path) -> str:
    """The same, taken anew in this process only when the file's size, times or inode are others."""
    stat = path.stat()
    return _sha256_of_state(path, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))


@lru_cache(maxsize=4096)
def _sha256_of_state(path: Path, _state: tuple[int, ...]) -> str:
    return file_sha256(path)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=str)


def json_sha256(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, as hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
