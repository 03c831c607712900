"""Progress of long steps: a rich bar with time left in a terminal, a plain log line every few seconds elsewhere.

The layers that do the work call `track`; they neither print nor know who watches.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LONGEST_STEP_S: Final = 1800.0
"""Time over which the speed of a step is taken, in seconds."""
LOG_EVERY_S: Final = 20.0
"""Longest silence of a long step in a log, in seconds."""

log = logging.getLogger("g2is_assets")
_console: Console | None = None


def show_on(console: Console) -> None:
    """Draw bars and print lines on this console.

    A step that runs inside Dagster has its standard streams captured; a console made before that, on a copy of the
    stream, still reaches the terminal.
    """
    global _console
    _console = console
    handler = _ConsoleHandler(console)
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


@contextmanager
def shown_on(console: Console) -> Iterator[None]:
    """The same for a while; afterwards progress goes where it went before."""
    global _console
    before, handlers, level, propagate = _console, log.handlers, log.level, log.propagate
    show_on(console)
    try:
        yield
    finally:
        _console, log.handlers, log.propagate = before, handlers, propagate
        log.setLevel(level)


class _ConsoleHandler(logging.Handler):
    """Prints log lines above the bar, if there is one."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        self.console.print(f"  {record.getMessage()}", markup=False, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """One plain line for whoever watches: the terminal, or the run's log."""
    log.info(message)


@contextmanager
def track(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show progress of `total` units; yields a function that takes the number of units just done."""
    console = _console
    if console is None or not console.is_terminal:
        yield _lines(label, total, unit)
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=12),
        TextColumn(f"{{task.completed:,.0f}}/{{task.total:,.0f}} {unit}"),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    quiet: dict[str, Any] = {"transient": True, "redirect_stdout": False, "redirect_stderr": False}
    # Steps may be minutes apart, and an estimate is wanted then most.
    with Progress(*columns, console=console, speed_estimate_period=LONGEST_STEP_S, **quiet) as bar:
        task = bar.add_task(label, total=total)
        yield lambda n: bar.advance(task, n)


def _lines(label: str, total: int, unit: str) -> Callable[[int], None]:
    begun = shown = time.monotonic()
    done = 0

    def advance(n: int) -> None:
        nonlocal done, shown
        done += n
        now = time.monotonic()
        if now - shown >= LOG_EVERY_S or (done >= total and now - begun >= LOG_EVERY_S):
            shown = now
            rate = done / (now - begun)
            left = max(total - done, 0) / rate if rate else float("inf")
            log.info("%s: %d of %d %s, %.1f %s/s, about %.0f s left", label, done, total, unit, rate, unit, left)

    return advance
