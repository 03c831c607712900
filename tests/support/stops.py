"""Stopping a program before any of its changes of the file system, as a kill would."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class Stop(BaseException):
    """What ends it before its next change."""


def stopping(monkeypatch: pytest.MonkeyPatch, n_changes: int) -> None:
    """Let so many changes of the file system happen, then stop."""
    left = iter(range(n_changes))

    def wrap(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any, **more: Any) -> Any:
            if next(left, None) is None:
                raise Stop
            return change(*arguments, **more)

        return changed

    for owner, name in ((os, "replace"), (os, "unlink"), (os, "rmdir"), (Path, "write_bytes"), (Path, "write_text")):
        monkeypatch.setattr(owner, name, wrap(getattr(owner, name)))
