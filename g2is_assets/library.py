"""Use from a notebook or a program: a selection without Dagster, by the project's own stages, in a folder of its own.

What is here is declared: it is in the package's `__all__`, and what it takes and gives changes only with a note in the
change log. No stage, no mathematics.
"""

import fcntl
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import polars as pl

from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.errors import SettingsError, SourceError
from g2is_assets.progress import shown_on
from g2is_assets.reports.terminal import Terminal
from g2is_assets.reports.why import taken_lines
from g2is_assets.settings.config import EMBEDDED_MODEL
from g2is_assets.settings.parsing import to_toml
from g2is_assets.settings.project import SETTINGS_FILE, load_project
from g2is_assets.stages.catalog import refreshed
from g2is_assets.stages.frame import make
from g2is_assets.stages.instructions import require_rows
from g2is_assets.stages.stage import PROJECT, Place
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.records import ending_of

Rows = str | Path | Iterable[Mapping[str, Any]] | pl.DataFrame
"""Rows as people have them: a file, dictionaries, or a frame of Polars or of another library that speaks Arrow."""
Pool = Rows | Mapping[str, Any]
"""Such rows, or a source as `sources` in `g2is.toml` has it, such as `{"hub": "owner/name"}`."""
Own = Rows | Mapping[str, Any]
"""Such rows, or a file of columns with other names: `{"path": "my.csv", "columns": {"prompt": "Question"}}`."""
DOMAIN: Final = "domain"
"""The name of the one domain."""
PASSING: Final = "g2is-select-"
SETTLED_S: Final = 60.0
"""A folder that is younger may not be locked yet."""


def select(
    pool: Pool,
    domain: Own,
    *,
    model: str | Path = EMBEDDED_MODEL,
    budget: float | None = None,
    test: Rows | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> pl.DataFrame:
    """Choose rows of a pool for a domain, and say of each why.

    The same stages run as in a refresh, up to the subset: pool, warmup, gradients, graph, walk. Nothing is trained on
    what was chosen. All rows of files on this machine are read, and refused, before a model is fetched. With a `folder`
    they stand in a project there, which the command line goes on with, and a second call computes only what is new;
    `select` alone writes its rows and settings. Without one all of it is gone in the end, but for the model, which the
    user's cache keeps.

    Args:
        pool: The rows to choose from; a path may be a glob, a mapping is a source as in `g2is.toml`.
        domain: A few dozen rows that steer the selection, at least two; their file may be a mapping with `path` and
            `columns`, the names that its columns have.
        model: The embedded default, a Hugging Face id, or a folder with safetensors.
        budget: Rows to take: below 1 a share of the pool, from 1 up their number; by default 0.05.
        test: Rows of the domain that nothing may be chosen for repeating them; their columns are those of `domain`.
        folder: Where to keep the project; it must not hold another one.
        progress: Whether to show it as a refresh does, on stderr; else it goes to the log `g2is_assets` alone.
        settings: Other keys of `g2is.toml`, a section as a mapping: `warmup={"share": 0.2}, device="cpu"`.

    Returns:
        The rows taken, the first one first: `order` from 1, `row_id`, `reason` in words, `prompt`, `response`, then the
        other columns of the tables `selection_subset` and `instructions_pool`.

    Raises:
        SettingsError: A setting is wrong, or the folder holds another project.
        SourceError: Rows cannot be read, or too few of them can be used.
        ModelError: The model cannot be loaded, or not do what the settings ask of it.
    """
    with ExitStack() as stack:
        place = Path(folder or stack.enter_context(_passing_folder())).resolve()
        selection = dict(settings.pop("selection", {})) | ({} if budget is None else {"budget": budget})
        instructions = {**settings.pop("instructions", {}), "sources": [_pool(pool, place)]}
        model = str(Path(model).resolve()) if Path(model).is_dir() else str(model)
        sections = {"instructions": instructions, "selection": selection or None}
        _claim(place, to_toml({"model": model, **settings, **sections}))
        own, columns = _named(domain)
        for split, rows in (("validation", own), ("test", test)):
            _write_split(place / "domains" / DOMAIN, split, rows)
        said = place / "domains" / DOMAIN / "domain.toml"
        said.write_text(to_toml({"columns": columns}), encoding="utf-8") if columns else said.unlink(missing_ok=True)
        # G2IS_HOME moves the lake of a project, which must not become that of a notebook's.
        workspace = Workspace(load_project(place / SETTINGS_FILE).model_copy(update={"home": place}))
        require_rows(workspace, DOMAIN)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", FutureWarning)  # of transformers and peft, to each other
        if progress:
            stack.enter_context(shown_on(Terminal(sys.stderr)))
        return _selected(workspace)


@contextmanager
def _passing_folder() -> Iterator[Path]:
    """A folder for one call; what one that was killed left behind, which nobody locks any more, goes with the next."""
    for left in Path(tempfile.gettempdir()).glob(f"{PASSING}*"):
        with suppress(OSError):  # of a young one the lock is not even tried: its owner is about to take it
            if time.time() - left.stat().st_mtime > SETTLED_S:
                with _locked(left):
                    shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=PASSING) as name, _locked(Path(name)):
        yield Path(name)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which the system gives back when the process ends; an OSError if another one holds it."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)


def _selected(workspace: Workspace) -> pl.DataFrame:
    run = f"select-{uuid.uuid4().hex}"
    for stage in refreshed("project"):
        make(workspace, stage.key, PROJECT, run)
    for stage in refreshed("domain"):
        version = make(workspace, stage.key, Place(DOMAIN), run).version
        if stage.key == "selection/subset":
            break
    pool = workspace.lake.current("instructions/pool").read(POOL)
    own = workspace.lake.current("instructions/target", DOMAIN).read(TARGET)
    prompts = dict(pl.concat([rows.select("row_id", "prompt") for rows in (own, pool)]).iter_rows())
    taken = version.read(SUBSET).drop("domain").join(pool, on="row_id", maintain_order="left")
    reasons = [" ".join(taken_lines(row, version.manifest, prompts)) for row in taken.iter_rows(named=True)]
    first = ["order", "row_id", "reason", "prompt", "response"]
    told = taken.with_columns(pl.col("order") + 1, pl.Series("reason", reasons, pl.String))
    return told.select(*first, pl.exclude(*first))


def _claim(place: Path, text: str) -> None:
    """Write the settings, into a folder that holds none but such as an earlier call wrote."""
    mark, file = "# Written by g2is_assets.select, and again by its next call for this folder.\n", place / SETTINGS_FILE
    if file.exists() and not file.read_text(encoding="utf-8").startswith(mark):
        raise SettingsError(f"{file} is another project's; name a folder of its own")
    place.mkdir(parents=True, exist_ok=True)
    file.write_text(mark + text, encoding="utf-8")


def _pool(rows: Pool, place: Path) -> str | Mapping[str, Any]:
    """The pool as a source: what was named, or the file that the rows were written to."""
    if isinstance(rows, Mapping):
        return rows
    if isinstance(rows, str | Path):
        return str(rows) if "://" in str(rows) else str(Path(rows).absolute())
    return _write(rows, place / "pool" / "rows").relative_to(place).as_posix()


def _named(rows: Own) -> tuple[Rows, Mapping[str, str] | None]:
    """The rows of a domain, and the names of its file's columns where they are given."""
    if not isinstance(rows, Mapping):
        return rows, None
    if set(rows) != {"path", "columns"}:
        raise SettingsError(f"`domain` as a mapping has `path` and `columns`, not {', '.join(map(str, rows))}")
    return rows["path"], rows["columns"]


def _write_split(folder: Path, split: str, rows: Rows | None) -> None:
    for old in folder.glob(f"{split}.*"):
        old.unlink()
    if isinstance(rows, str | Path):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(rows, folder / f"{split}{ending_of(Path(rows))}")
    elif rows is not None:
        _write(rows, folder / split)


def _write(rows: Any, stem: Path) -> Path:
    """Rows in a file of their own: JSONL of dictionaries, Parquet of frames."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    for old in stem.parent.glob(f"{stem.name}.*"):
        old.unlink()
    if isinstance(rows, pl.DataFrame) or hasattr(rows, "__arrow_c_stream__"):
        file = stem.with_suffix(".parquet")
        pl.DataFrame(rows).write_parquet(file)
        return file
    file = stem.with_suffix(".jsonl")
    try:
        file.write_text("".join(json.dumps(dict(row)) + "\n" for row in rows), encoding="utf-8")
    except (TypeError, ValueError) as error:
        raise SourceError(f"{stem.name}: rows are mappings of what JSON can hold: {error}") from error
    return file
