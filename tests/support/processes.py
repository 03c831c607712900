"""The command line in processes of its own that can be killed at an exact moment, and what must hold afterwards.

Importing torch, transformers and Dagster takes seconds, so a server process imports them once and forks a child per
command. A child is a real process with real files; what kills it is a real SIGKILL.
"""

import gc
import json
import multiprocessing
import os
import pty
import re
import resource
import select
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import duckdb
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from g2is_assets.stages.catalog import refreshed
from g2is_assets.store.manifest import describe_files, read_manifest
from support.shared import open_histories_quickly, render_nothing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "g2is_assets.cli.demo",
        "g2is_assets.orchestration.definitions",
        "g2is_assets.orchestration.runs",
        "g2is_assets.training.warmup",
        "g2is_assets.training.gradients",
        "g2is_assets.training.fit",
        "g2is_assets.training.evaluate",
        "transformers.trainer",
        "transformers.models.llama.modeling_llama",
        "peft",
        "matplotlib.backends.backend_agg",
    ]
)

POOL_KEYS = [stage.key for stage in refreshed("project")]
DOMAIN_KEYS = [stage.key for stage in refreshed("domain")]


@dataclass(frozen=True)
class Moment:
    """A file operation before which a child kills itself: an audit event of Python whose path matches.

    Attributes:
        event: `open` (for writing), `os.mkdir`, `os.rename`, `os.remove` or `os.rmdir`; empty for any of them.
        path: Regular expression for one of the operation's paths.
        count: At which such operation.
    """

    event: str
    path: str
    count: int = 1


@dataclass
class Child:
    """A running or ended command."""

    process: BaseProcess
    log: Path

    def wait(self, timeout: float = 300) -> int:
        """Exit code; minus the signal's number if one ended it."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"still running after {timeout} s: {self.shown}"
        return self.process.exitcode

    def kill(self) -> None:
        """SIGKILL, to the whole process group."""
        assert self.process.pid is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL

    @property
    def shown(self) -> str:
        """Its output and error lines so far."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""


@dataclass
class Commands:
    """Starts children whose logs lie in one folder."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    children: list[Child] = field(default_factory=list)

    def start(self, function: Callable[..., None], *arguments: Any, die_at: Moment | None = None) -> Child:
        """Call a function of a module in a child."""
        log = self.folder / f"child-{len(self.children)}.log"
        child = Child(FORKS.Process(target=_in_child, args=(function, arguments, log, self.environment, die_at)), log)
        child.process.start()
        self.children.append(child)
        return child

    def g2is(self, *arguments: str | Path, die_at: Moment | None = None) -> Child:
        """Start the command line."""
        return self.start(command_line, *map(str, arguments), die_at=die_at)

    def shown_in_terminal(self, *called: Sequence[str], **environment: str) -> str:
        """What command lines show with a pseudo-terminal for both streams, one after the other in one child."""
        master, terminal = pty.openpty()
        child = self.start(in_terminal, os.ttyname(terminal), called, environment)
        shown = b""
        while True:
            if select.select([master], [], [], 0.2)[0]:
                shown += os.read(master, 65536)
            elif child.process.exitcode is not None:
                break
        os.close(terminal)
        os.close(master)
        assert child.wait() == 0, shown
        return shown.decode()

    def demo(self, settings: Path, domain: str = "sums", die_at: Moment | None = None) -> Child:
        """Start a refresh of the pool and a domain."""
        return self.g2is("demo", "--domain", domain, "--config", settings, die_at=die_at)

    def refresh(self, settings: Path, domain: str = "sums") -> str:
        """A refresh that must succeed without waiting for anybody; returns what it said."""
        child = self.demo(settings, domain)
        assert child.wait() == 0, child.shown
        assert "waits for the pool" not in child.shown
        return child.shown

    def refused(self, settings: Path, *arguments: str) -> str:
        """A command that must end with exit code 1 and one message, without a traceback; returns the message."""
        child = self.g2is(*(arguments or ("demo", "--domain", "sums")), "--config", settings)
        assert child.wait() == 1, child.shown
        assert "Traceback" not in child.shown
        (message,) = re.findall(r"^Error: .*", child.shown, flags=re.M | re.S)
        return str(message).replace("\n", " ")

    def end(self) -> None:
        """Kill what still runs."""
        for child in self.children:
            if child.process.is_alive():
                child.process.kill()
            child.process.join()


def command_line(*arguments: str) -> None:
    """Run `g2is` with these arguments."""
    from g2is_assets.cli import main

    main(list(arguments))


def in_terminal(name: str, called: Sequence[Sequence[str]], environment: dict[str, str]) -> None:
    """Run command lines with both streams on a terminal; one alone ends as it ends, of several each may be refused."""
    from g2is_assets.cli import main

    terminal = os.open(name, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(terminal, stream)
    os.environ |= environment
    for words in called:
        try:
            main(list(words))
        except SystemExit:
            sys.stdout.flush()
            if len(called) == 1:
                raise


def _in_child(
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    log: Path,
    environment: dict[str, str],
    die_at: Moment | None,
) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(written, stream)
    gc.freeze()
    FigureCanvasAgg.draw = render_nothing
    open_histories_quickly(pytest.MonkeyPatch())
    os.environ.update({"COLUMNS": "1000"} | environment)
    if die_at:
        sys.addaudithook(killer(die_at))
    function(*arguments)


def killer(moment: Moment) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that ends its process by SIGKILL at that moment."""
    matches, seen = re.compile(moment.path).search, 0
    changes = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            if not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
                return
        elif event not in changes:
            return
        if moment.event in ("", event) and any(matches(str(part)) for part in arguments[:2]):
            seen += 1
            if seen == moment.count:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


def place_of(settings: Path, key: str, domain: str = "sums") -> Path:
    """Folder of an asset's versions."""
    place = settings.parent / "lake" / key
    return place / domain if key in DOMAIN_KEYS else place


def assert_all_that_is_current_is_whole(lake: Path) -> list[str]:
    """Whatever a reader may follow has all bytes of its manifest, and the views can be queried; returns the places."""
    places = []
    for pointer in sorted(lake.rglob("current.json")):
        folder = pointer.parent / json.loads(pointer.read_text())["version"]
        assert describe_files(folder) == read_manifest(folder).files, folder
        places.append(str(pointer.parent.relative_to(lake)))
    for manifest in lake.glob("vectors/shard/*/[!.]*/manifest.json"):
        whole = describe_files(manifest.parent) == read_manifest(manifest.parent).files
        assert whole or (manifest.parent / "pruned.json").exists(), manifest
    if (lake / "g2is.duckdb").exists():
        with duckdb.connect(str(lake / "g2is.duckdb"), read_only=True) as connection:
            names = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
            for (name,) in names:
                connection.execute(f'SELECT count(*) FROM "{name}"')
    return places
