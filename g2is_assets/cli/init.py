"""`g2is init`: a project of one's own, whole or not at all; with the sample data, if they are asked for."""

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click

import g2is_assets
from g2is_assets.errors import SettingsError, command, found_by
from g2is_assets.settings.project import SETTINGS_FILE, fault_of_home, settings_in

WORKSPACE: Final = "load_from:\n  - python_module: g2is_assets.orchestration.definitions\n"
"""What Dagster's own commands read to find the assets."""
TEXTS: Final = {
    SETTINGS_FILE: """\
# Settings of this project: what differs from the defaults. Paths are relative to this file; unknown keys are refused.
# docs/settings.md has every key; `doctor` says where it lies. Domains may differ: domains/<name>/domain.toml.
# model = "smollm2-135m-instruct"   # the default, fetched once per user; or a hub id, or a folder with safetensors
# owner = "team:g2is"               # who answers for assets and domains: `team:` and a name, or an email address

[instructions]
sources = ["pool/*"]                # the rows to choose from: paths, globs, URIs, { path, source, license } or { hub }

# [selection]
# budget = 0.05                     # rows to take for a domain: below 1 a share of the pool, from 1 up their number
""",
    ".gitignore": """\
# What refreshes make, and can make again.
lake/
.dagster/
.withdrawn.jsonl.lock
# What they, and `dagster dev`, leave where they were killed, and domains that were removed.
.writing-*
.exporting-*
.tmp_dagster_home_*
domains/.*
# What an export writes: rows under names of its own, and adapters where you put them into out/.
/*_messages.jsonl
/*_sharegpt.jsonl
/*_alpaca.jsonl
/*.axolotl.yaml
/dataset_info.json
out/
""",
    "workspace.yaml": WORKSPACE,
}
FOLDERS: Final = ("pool", "domains")
SAMPLE: Final = (*FOLDERS, "studies")
"""The folders of the sample data: 582 rows, three domains and a study."""


def run_init(folder: Path, *, sample: bool) -> None:
    """Make a project in a folder, which may exist, and say what comes next."""
    make_project(folder, sample=sample)
    made = folder.resolve() / SETTINGS_FILE
    click.echo(f"Made the project {made}")
    if above := settings_in(*folder.resolve().parents):
        click.echo(f"{above.parent} is a project too, and another: in {made.parent} commands work on this one alone.")
    # Commands find it from its folder, but not where G2IS_CONFIG names another, or from elsewhere.
    found = os.environ.get("G2IS_CONFIG") or settings_in(Path.cwd(), *Path.cwd().parents)
    found_by(None if found and Path(found).resolve() == made else str(folder / SETTINGS_FILE))
    if sample:
        click.echo(f"Next: {command('demo')}")
        return
    click.echo(f"Next: put files of rows into {folder / 'pool'}, or name them in {SETTINGS_FILE} under `sources`;")
    for words in ("domain add NAME --validation rows.jsonl", "doctor", "refresh"):
        click.echo(f"  then {command(words)}")


def make_project(folder: Path, *, sample: bool) -> None:
    """Write a project's files, all of them or, if something is in the way, none.

    Raises:
        SettingsError: Something that would be written is there, or the folder is none that a project can be in.
    """
    target = folder.resolve()
    if fault := fault_of_home(str(target)):
        raise SettingsError(f"{target}: {fault}; name another folder")
    # A pool or domains that people have are theirs to keep.
    folders = SAMPLE if sample else tuple(name for name in FOLDERS if not (target / name).is_dir())
    if (above := settings_in(*target.parents)) and above.parent / "domains" in target.parents:
        raise SettingsError(f"{target} lies among the domains of {above.parent}; name another folder")
    if there := [name for name in (*folders, *TEXTS) if (target / name).exists() or (target / name).is_symlink()]:
        raise SettingsError(f"{target} has {', '.join(there)} already; name another folder, or move that away")
    try:
        is_new = not target.exists()
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".g2is-init-", dir=target) as scratch, ExitStack() as undo:
            if is_new:
                undo.callback(shutil.rmtree, target, ignore_errors=True)
            _draft(Path(scratch), folders, sample=sample)
            for name in (*folders, *reversed(TEXTS)):  # the settings file last: with it, the project is there
                (Path(scratch) / name).rename(target / name)
                undo.callback(_remove, target / name)
            undo.pop_all()
    except (OSError, shutil.Error) as error:
        raise SettingsError(f"{target} cannot be made a project: {error}") from error


def _draft(place: Path, folders: tuple[str, ...], *, sample: bool) -> None:
    for name, text in TEXTS.items():
        (place / name).write_text(text, encoding="utf-8")
    for name in folders:
        if sample:
            shutil.copytree(sample_data() / name, place / name)
        else:
            (place / name).mkdir()


def sample_data() -> Path:
    """The folder of the sample data: in the package if that was built, else beside it, in the repository."""
    return _shipped("sample", "data")


def documents() -> Path:
    """The folder of the documents, likewise."""
    return _shipped("docs", "docs")


def _shipped(built: str, beside: str) -> Path:
    package = Path(g2is_assets.__file__).parent
    return package / built if (package / built).is_dir() else package.parent / beside


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)
