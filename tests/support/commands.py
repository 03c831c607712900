"""The commands of the program, and the example that each shows in its help."""

import shlex

import click

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
