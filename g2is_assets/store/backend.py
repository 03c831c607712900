"""Where a lake's files lie: four verbs over keys with slashes. A local folder has them, and an object store could.

What is published never changes its key; what changes is swapped, so that of two writers at once the later one notices.
"""

import errno
import os
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from g2is_assets.hashing import file_sha256
from g2is_assets.store.files import replacing


class Backend(Protocol):
    """The four verbs."""

    def get(self, key: str) -> Path:
        """Where the file or folder with this key can be read; nothing need be there."""

    def put_if_absent(self, key: str, made: Path) -> bool:
        """Move a folder that was made whole to its key; False, and nothing happens, if something is there."""

    def list(self, key: str) -> list[str]:
        """Names of all that lies directly below a key, sorted; none if nothing does."""

    def swap(self, key: str, old: str | None, new: bytes) -> bool:
        """Replace a file's content; False, and nothing happens, if it is not `old`: a SHA-256, None if no file."""


class LocalBackend:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> Path:
        """The path itself."""
        return self.root / key

    def put_if_absent(self, key: str, made: Path) -> bool:
        """By a rename, which a folder with content refuses."""
        try:
            made.rename(self.root / key)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            return False
        return True

    def list(self, key: str) -> list[str]:
        """Of a folder that may not be read, an error: versions unseen would seem to refer to nothing."""
        folder = self.root / key
        return sorted(os.listdir(folder)) if folder.is_dir() else []

    def swap(self, key: str, old: str | None, new: bytes) -> bool:
        """Under a lock for all of the folder, which a killed process lets go."""
        file = self.root / key
        with FileLock(self.root / ".swap.lock"):
            if (file_sha256(file) if file.is_file() else None) != old:
                return False
            with replacing(file) as scratch:
                scratch.write_bytes(new)
        return True
