"""The commands of the program, in this process, and the example that each shows in its help."""

import json
import shlex
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result

from g2is_assets.cli import main


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    below = command.commands.items() if isinstance(command, click.Group) else ()
    return [path, *(found for name, sub in below for found in every_command(sub, (*path, name)))]


def example_of(path: tuple[str, ...]) -> list[str]:
    """The example in a command's help, as a shell splits it, without `g2is`."""
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    program, *words = shlex.split(str(command.epilog).removeprefix("Example: "))
    assert program == "g2is"
    return words


def g2is(settings: Path, *arguments: str, **environment: str) -> Result:
    """Call `g2is` for a project; what it raises is an exit, or an error of the test."""
    runner = CliRunner(env={"COLUMNS": "200"} | environment)
    result = runner.invoke(main, [*arguments, "--config", str(settings)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def answer(settings: Path, *arguments: str) -> Any:
    """What a command says as JSON, when it succeeds."""
    result = g2is(settings, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
