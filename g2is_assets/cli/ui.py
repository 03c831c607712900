"""`g2is ui`: Dagster's web server and daemon as child processes, until interrupted."""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from g2is_assets.cli.guard import EVERYWHERE, LOCAL, hosts_served
from g2is_assets.cli.init import WORKSPACE
from g2is_assets.cli.jobs import open_instance
from g2is_assets.errors import G2isError
from g2is_assets.settings.project import load_project

NO_LOGIN = (
    "Warning: serving on {host}. Dagster's UI has no login: anyone who reaches it can launch runs and read data.\n"
    "Browsers are answered at: {hosts}. Name others with --allow-host."
)


def run_ui(config: Path | None, host: str, port: int, allowed: tuple[str, ...]) -> None:
    """Serve until interrupted, behind the guard; if one of the two processes ends by itself, the other is ended too."""
    hosts = sorted(hosts_served(host, port, allowed))
    if host not in LOCAL:
        click.echo(NO_LOGIN.format(host=host, hosts=", ".join(hosts)), err=True)
    with open_instance(load_project(config)) as instance:
        history = instance.root_directory  # now runs that were killed do not show as running, nor hold slots
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Path("workspace.yaml").resolve()
        if not workspace.is_file():  # the project is not the current folder
            workspace = Path(scratch) / workspace.name
            workspace.write_text(WORKSPACE, encoding="utf-8")
        guarded = [sys.executable, "-P", "-m", "g2is_assets.cli.guard", ",".join(hosts)]
        commands: dict[str, list[str | Path]] = {
            "dagster-webserver": [*guarded, "--host", host, "--port", str(port)],
            "dagster-daemon": [Path(sys.executable).with_name("dagster-daemon"), "run"],
        }
        children = {name: subprocess.Popen([*words, "--workspace", str(workspace)]) for name, words in commands.items()}
        shown = "localhost" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
        click.echo(f"http://{shown}:{port} - history in {history} - stop with Ctrl-C")
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
