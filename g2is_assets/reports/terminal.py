"""What reaches a terminal: text that commands nothing there, whoever wrote it, and the program's own style.

All that a command prints goes through the two standard streams, and there through one filter. Consoles write past it,
after they have cleaned the text that they style.
"""

import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from g2is_assets.reports.words import readable


@contextmanager
def cleaned_streams() -> Iterator[None]:
    """Clean what is written to the standard streams; characters that an encoding lacks are printed as escapes."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    for stream in streams:
        with suppress(OSError):  # of a file that became a terminal meanwhile
            stream.reconfigure(errors="backslashreplace")
        vars(stream)["write"] = _cleaning(stream)
    try:
        yield
    finally:
        for stream in streams:
            vars(stream).pop("write", None)


def _cleaning(stream: io.TextIOWrapper) -> Any:
    return lambda text: PastTheFilter(stream).write(readable(text))


class PastTheFilter:
    """A stream as it is: for data in a file, and for consoles, which clean text themselves."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text as it stands."""
        return type(self.stream).write(self.stream, text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Terminal(Console):
    """A console that styles text and lets none style itself."""

    def __init__(self, file: IO[str] | None = None, width: int | None = None) -> None:
        super().__init__(file=PastTheFilter(file or sys.stdout), width=width)  # type: ignore[arg-type]

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is to be shown, their text cleaned."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(readable(segment.text), segment.style)
