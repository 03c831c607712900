"""What several commands share: options, the project with its lake, JSON, and how those end that are stopped."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from g2is_assets.settings.project import Project, load_project

if TYPE_CHECKING:
    from g2is_assets.store.lake import Lake

config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings file; default: the variable G2IS_CONFIG, else data/g2is.toml.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
json_or_table_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")

STOPPED: Final = 130
"""Exit code after Ctrl-C, as shells have it."""


def open_lake(config: Path | None, domain: str | None = None) -> "tuple[Project, Lake]":
    """The project and its lake; a domain that was named must be one of the project's."""
    from g2is_assets.store.lake import Lake

    project = load_project(config)
    if domain is not None:
        project.domain(domain)
    return project, Lake(project.home / "lake")


def print_json(value: Any) -> None:
    """Print a value as indented JSON, its text as it is where the terminal's encoding has it, else escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    click.echo(text)


@contextmanager
def stoppable(finished: str) -> Iterator[None]:
    """Let Ctrl-C end a command in words: what is finished is kept."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"Stopped. Finished {finished} kept: the same command goes on from there.", err=True)
        sys.exit(STOPPED)
