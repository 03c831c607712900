"""SHA-256 of files and of values, in one canonical form; files that look untouched are not read again to be hashed."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_KNOWN: Final[dict[str, list[Any]]] = {}
"""By path: size, modification time in ns, inode and digest, as they were when the file was hashed."""
_LOADED: Final[set[Path]] = set()
_trusting = True


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if _state(before) == _state(os.fstat(file.fileno())):
            _KNOWN[str(path)] = [*_state(before), digest]
    return digest


def known_sha256(path: Path) -> str:
    """The same, read anew only when size, modification time or inode are others than when the file was last hashed."""
    known = _KNOWN.get(str(path)) if _trusting else None
    return known[3] if known and known[:3] == _state(path.stat()) else file_sha256(path)


def looks_untouched(path: Path) -> bool:
    """Whether a file was hashed before and has had the same size, modification time and inode since."""
    known = _KNOWN.get(str(path))
    try:
        return known is not None and known[:3] == _state(path.stat())
    except OSError:
        return False


@contextmanager
def hashed_anew() -> Iterator[None]:
    """Trust nothing: whoever verifies reads every byte."""
    global _trusting
    before, _trusting = _trusting, False
    try:
        yield
    finally:
        _trusting = before


def moved(old: Path, new: Path) -> None:
    """A file that was hashed under one name has another now."""
    if known := _KNOWN.pop(str(old), None):
        _KNOWN[str(new)] = known


def load_known(file: Path) -> None:
    """Take over, once, what an earlier process knew; a file that is not there or damaged tells nothing."""
    if file in _LOADED:
        return
    _LOADED.add(file)
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        for path, known in said.items():
            if len(known) == 4 and isinstance(known[3], str):
                _KNOWN.setdefault(path, known)
    except (OSError, ValueError, AttributeError, TypeError):
        return


def known_json() -> str:
    """What this process knows of files that are still there, for `load_known` of the next."""
    return json.dumps({path: known for path, known in sorted(_KNOWN.items()) if os.path.exists(path)})


def _state(stat: os.stat_result) -> list[int]:
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=str)


def json_sha256(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, as hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
