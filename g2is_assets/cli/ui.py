"""`g2is ui`: Dagster's web server and daemon as child processes, until interrupted."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from codecs import getincrementaldecoder
from pathlib import Path
from threading import Thread

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
        where, pipe = ("--workspace", str(workspace)), subprocess.PIPE
        children = {
            name: subprocess.Popen([*words, *where], stdout=pipe, stderr=subprocess.STDOUT)
            for name, words in commands.items()
        }
        for child in children.values():
            assert child.stdout is not None
            Thread(target=show, args=(child.stdout.fileno(),), daemon=True).start()
        shown = "localhost" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
        _wait(children, (host, port), f"http://{shown}:{port} - history in {history} - stop with Ctrl-C")


def show(pipe: int) -> None:
    """Print what a process and those that it starts log: rows may be quoted in it, and the stream cleans them."""
    decoder = getincrementaldecoder("utf-8")("replace")
    while chunk := os.read(pipe, 1 << 16):
        click.echo(decoder.decode(chunk), err=True, nl=False)


def _answers(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, timeout=1).close()
    except OSError:
        return False
    return True


def _wait(children: dict[str, subprocess.Popen[bytes]], place: tuple[str, int], address: str) -> None:
    """Until interrupted; the address is printed once somebody answers there."""
    is_said = False
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background commands with it ignored
    try:
        while True:
            if not is_said and (is_said := _answers(place)):
                click.echo(address)
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
        click.echo("stopped")
