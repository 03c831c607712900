"""Options that several commands share, and how those end that are stopped."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings file; default: the variable G2IS_CONFIG, else data/g2is.toml.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

STOPPED: Final = 130
"""Exit code after Ctrl-C, as shells have it."""


@contextmanager
def stoppable(finished: str) -> Iterator[None]:
    """Let Ctrl-C end a command in words: what is finished is kept."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"Stopped. Finished {finished} kept: the same command goes on from there.", err=True)
        sys.exit(STOPPED)
