"""What several commands share: options, the project with its lake, JSON, and how those end that are stopped."""

import json
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from g2is_assets.errors import SettingsError, found_by
from g2is_assets.reports.words import COMMANDS, folded
from g2is_assets.settings.project import SETTINGS_FILE, Project, load_project, settings_path

if TYPE_CHECKING:
    from g2is_assets.store.lake import Lake


def _repeat(context: click.Context, _: click.Parameter, given: Path | None) -> Path | None:
    """Have the command's hints repeat `--config`, as it was given, where the project is not found without it."""
    context.call_on_close(partial(found_by, None))
    try:
        found_by(None if given is None or settings_path() == settings_path(given) else str(given))
    except SettingsError:  # nothing is found without it
        found_by(str(given))
    return given


config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_repeat,
    help=f"Settings file; default: the variable G2IS_CONFIG, else {SETTINGS_FILE} in the current folder or above it.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

host_option = click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on.")
port_option = click.option(
    "--port", default=3000, show_default=True, type=click.IntRange(1, 65535), help="Port of the web server."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Change nothing, only say what would change.")

STOPPED: Final = 130
"""Exit code after Ctrl-C, as shells have it."""


def open_lake(config: Path | None, domain: str | None = None) -> "tuple[Project, Lake]":
    """The project and its lake; a domain that was named must be one of the project's."""
    from g2is_assets.store.lake import Lake

    project = load_project(config)
    if domain is not None:
        project.domain(domain)
    return project, Lake(project.home / "lake")


def print_lines(lines: Iterable[str]) -> None:
    """Print lines, in a terminal folded to its width."""
    click.echo("\n".join(folded(lines, shutil.get_terminal_size().columns) if sys.stdout.isatty() else lines))


def print_json(value: Any) -> None:
    """Print a value as indented JSON, its text as it is where the terminal's encoding has it, else escaped."""
    text = COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, indent=2, ensure_ascii=False))
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    click.echo(text)


@contextmanager
def stoppable(finished: str) -> Iterator[None]:
    """Let Ctrl-C, or SIGTERM, end a command in words: what is finished is kept."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"Stopped. Finished {finished} kept: the same command goes on from there.", err=True)
        sys.exit(STOPPED)
    finally:
        signal.signal(signal.SIGTERM, before)
