"""The errors that a person can mend: each names the file, row or setting and what to do.

Nothing else belongs here but the one way in which they, and all other hints, name a command that helps. A programming
error stays a plain Python exception with its traceback.
"""

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

REDRAW: Final = "refresh --all --redraw-warmup"
"""What ends all faults of the warmup sample."""
_config: list[str] = []
"""Words that commands need to find the project from the current folder; none where they find it by themselves."""


def command(words: str) -> str:
    """`g2is WORDS`, so that a person can paste it: with `--config` where the project is not found without.

    It is called as it was called, `.venv/bin/g2is`, where the shell would find none by its name, or another.
    """
    called, found = Path(sys.argv[0]), shutil.which("g2is")
    elsewhere = called.name == "g2is" and called.exists() and not (found and called.samefile(found))
    return f"`{' '.join((shlex.quote(str(called)) if elsewhere else 'g2is', words, *_config))}`"


def found_by(config: str | None) -> None:
    """Have commands named from here on find the project by this settings file; with None they find it themselves."""
    _config[:] = [f"--config {shlex.quote(config)}"] if config else []


class G2isError(Exception):
    """Base of all errors caused by input, settings or the machine; the command line prints them without traceback."""


class SettingsError(G2isError):
    """A settings file, domain file or command-line value is wrong."""


class NoProjectError(SettingsError):
    """There is no project here: no settings file was named, and none is found."""


class SourceError(G2isError):
    """A pool source or domain file cannot be used."""


class ModelError(G2isError):
    """A model, tokenizer or adapter cannot be loaded or does not fit its settings."""


class ContractError(G2isError):
    """A table does not keep its contract; raised before anything is written and again on reading."""


class MissingInputError(G2isError):
    """An upstream asset has not been materialised, or its files are gone."""


class StoreError(G2isError):
    """The lake is damaged, or cannot be written."""


class StudyPaused(G2isError):
    """A study's time is over; what is finished is kept, and the same command goes on from there."""


class UnusableRow(G2isError):
    """Why a row is set aside, and by the fault of which columns, by their usual names, as far as that is known."""

    def __init__(self, said: str, *columns: str) -> None:
        super().__init__(said)
        self.columns = columns

    def told(self, own: Mapping[str, str]) -> str:
        """The reason, with the names of columns that a person gave to usual ones."""
        said, names = str(self), [own[name] for name in self.columns if name in own]
        for name in self.columns:
            said = said.replace(f"`{name}`", f"`{own.get(name, name)}`")
        return said if not names or any(f"`{name}`" in said for name in names) else f"{said} (in `{names[0]}`)"


class InColumn:
    """Has the fault of a row that comes up within be that of a column."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, UnusableRow):
            error.columns += (self.name,)


class UnknownShape(UnusableRow):
    """A row has the columns of no shape."""
