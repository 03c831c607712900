"""`g2is ui`: Dagster's web server and daemon as child processes, until interrupted."""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from g2is_assets.cli.init import WORKSPACE
from g2is_assets.cli.jobs import open_instance
from g2is_assets.errors import G2isError
from g2is_assets.settings.project import load_project

LOCAL = {"127.0.0.1", "localhost", "::1"}
NO_LOGIN = "Warning: serving on {host}. Dagster's UI has no login: anyone who reaches it can launch runs and read data."


def run_ui(config: Path | None, host: str, port: int) -> None:
    """Serve until interrupted; if one of the two processes ends by itself, the other is ended too."""
    if host not in LOCAL:
        click.echo(NO_LOGIN.format(host=host), err=True)
    with open_instance(load_project(config)) as instance:
        history = instance.root_directory  # now runs that were killed do not show as running, nor hold slots
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Path("workspace.yaml").resolve()
        if not workspace.is_file():  # the project is not the current folder
            workspace = Path(scratch) / workspace.name
            workspace.write_text(WORKSPACE, encoding="utf-8")
        commands = {"dagster-webserver": ["--host", host, "--port", str(port)], "dagster-daemon": ["run"]}
        children = {
            name: subprocess.Popen([Path(sys.executable).with_name(name), *arguments, "--workspace", str(workspace)])
            for name, arguments in commands.items()
        }
        click.echo(f"http://{f'[{host}]' if ':' in host else host}:{port} - history in {history} - stop with Ctrl-C")
        _wait(children)


def _wait(children: dict[str, subprocess.Popen[bytes]]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background commands with it ignored
    try:
        while True:
            for name, child in children.items():
                if (code := child.poll()) is not None:
                    raise G2isError(f"{name} ended with exit code {code}; its lines above say why")
            time.sleep(0.5)
    except KeyboardInterrupt:
        click.echo("stopping")
    finally:
        for child in children.values():
            child.terminate()
        for child in children.values():
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()
