"""The commands of the program, in this process, and the example that each shows in its help."""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from subprocess import CompletedProcess, run
from typing import Any

import click
import pytest
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


def powerless(settings: Path, *arguments: str, cwd: Path | None = None, **environment: str) -> CompletedProcess[str]:
    """Call `g2is` in a process that may read and write no more than modes say, also where the tests run as root."""
    prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner"] if os.geteuid() == 0 else []
    if prefix and (shutil.which("setpriv") is None or run([*prefix, "true"], check=False).returncode):
        pytest.skip("needs a user without root's rights, or setpriv and the right to give rights up")
    code = "from g2is_assets.cli import main; main()"
    words = [*prefix, sys.executable, "-c", code, *arguments, "--config", str(settings)]
    done = run(words, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done
