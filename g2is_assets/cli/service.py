"""`g2is service`: a systemd unit of the user that keeps `g2is ui` running, with web server and daemon."""

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Final

import click

from g2is_assets.errors import SettingsError
from g2is_assets.settings.project import Project, load_project
from g2is_assets.store.files import write_atomically, writing

UNIT: Final = """\
[Unit]
Description=G2IS of {home}

[Service]
# Web server and daemon, which belong together: if one ends, however it ends, so does the other, and both are started
# again; `systemctl --user stop` ends them for good. A user's unit cannot wait for the network: where it is not there
# yet for an address of --host, they end, and come with one of the next starts.
ExecStart={command}
{environment}WorkingDirectory={folder}
KillMode=mixed
Restart=always
RestartSec=10

[Install]
WantedBy=default.target
"""
KEPT: Final = ("G2IS_HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "RAY_ADDRESS")
"""Variables that a refresh is steered by: where they are set now, the unit sets them too. None is a secret."""


def run_service(config: Path | None, host: str, port: int, *, install: bool) -> None:
    """Print the unit, or write it to the user's units and say how it is started."""
    project = load_project(config)
    text = unit(project, host, port)
    if not install:
        click.echo(text, nl=False)
        return
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    file = base / "systemd" / "user" / f"g2is-{re.sub(r'[^A-Za-z0-9_.-]', '-', project.home.name)}.service"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        gone = f"systemctl --user disable --now {file.name}; rm {shlex.quote(str(file))}"
        raise SettingsError(f"{file} exists and says otherwise; end and remove it first: {gone}")
    with writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text)
    click.echo(f"Wrote {file}")
    click.echo(f"Next: systemctl --user daemon-reload && systemctl --user enable --now {file.name}")
    click.echo("To have it run while you are not logged in: loginctl enable-linger")


def unit(project: Project, host: str, port: int) -> str:
    """The unit's text."""
    words = [str(Path(sys.executable).with_name("g2is")), "ui", "--config", str(project.path)]
    said = {name: os.environ[name] for name in KEPT if os.environ.get(name)}
    if "G2IS_HOME" in said:
        said["G2IS_HOME"] = str(project.home)
    return UNIT.format(
        home=_specifiers(str(project.home)),
        command=" ".join(_quoted(word).replace("$", "$$") for word in [*words, "--host", host, "--port", str(port)]),
        environment="".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in said.items()),
        folder=_specifiers(str(project.path.parent)),
    )


def _quoted(word: str) -> str:
    """A word as systemd reads it; it would take `%` for the start of a specifier."""
    if word.isprintable() and not re.search(r"[\s\"'\\;]", word):
        return _specifiers(word)
    return '"' + _specifiers(word).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _specifiers(text: str) -> str:
    if not text.isprintable():
        raise SettingsError(f"a unit cannot hold {text!r}: it has characters that no line can; rename the folder")
    return text.replace("%", "%%")
