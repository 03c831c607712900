"""Tables of a benchmark, printed and written as Markdown below the command and the machine."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table


class Report:
    """Tables, printed as they come and kept in a Markdown file that is whole after each."""

    def __init__(self, title: str, out: Path | None) -> None:
        self.failures: list[str] = []
        self.out, self.text = out, f"# {title}\n\n" + "\n".join(heading()) + "\n"
        print(self.text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> None:
        """Show one table; the first column is text, the others are numbers."""
        printed = Table(title=title, caption=caption or None)
        for number, column in enumerate(columns):
            printed.add_column(column, justify="right" if number else "left")
        cells = [[str(cell) for cell in row] for row in rows]
        for row in cells:
            printed.add_row(*row)
        Console(width=180).print(printed)
        lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *cells]
        self.text += f"\n## {title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
        self.text += f"\n{caption}\n" if caption else ""
        if self.out:
            self.out.write_text(self.text, encoding="utf-8")


def heading() -> list[str]:
    """Command, machine and versions."""
    revision = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    ).stdout
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    processor = names[0].split(":")[1].strip() if names else platform.processor()
    return [
        f"    python benchmarks/{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}",
        "",
        f"{processor}, {os.cpu_count()} cores, OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'not set')}, load "
        f"{os.getloadavg()[0]:.1f} at the start; Python {platform.python_version()}, numpy {version('numpy')}, torch "
        f"{version('torch')}; revision {revision.strip() or 'unknown'}.",
    ]
