"""Whether a table that a command prints fits a terminal: no line too long, no word broken, no number cut."""

import re
from pathlib import Path

from rich.cells import cell_len

from support.commands import g2is

LINES = str.maketrans("│┃", "  ")


def fits(settings: Path, *arguments: str, width: int) -> str:
    """Look at what a command prints in a terminal so wide, beside all of it; returns what it prints."""
    narrow, whole = (g2is(settings, *arguments, *more, COLUMNS=str(width)) for more in ((), ("--wide",)))
    assert narrow.exit_code == whole.exit_code == 0, narrow.output + whole.output
    lines = narrow.stdout.splitlines()
    assert max(map(cell_len, lines)) <= width, narrow.stdout
    table = narrow.stdout.split("Too narrow for ")[0]
    shown, known = (set(text.translate(LINES).split()) for text in (table, whole.stdout))
    shown = {word for word in shown if re.search(r"\w", word)}
    cut = {word for word in shown if word.endswith("…")}
    assert shown - cut <= known, shown - cut - known
    for beginning in cut:
        words = {word for word in known if word.startswith(beginning[:-1])}
        assert words, beginning
        assert not any(re.fullmatch(r"[-+\d.,%]+", word) for word in words), beginning
    return str(narrow.stdout)
