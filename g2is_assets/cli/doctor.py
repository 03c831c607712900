"""`g2is doctor`: is everything there that a refresh needs? One line per check, and what to do; nothing is changed."""

import importlib.metadata
import os
import platform
import shutil
import socket
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from rich.text import Text

from g2is_assets.cli import checkup
from g2is_assets.cli.checkup import EMBEDDED_PARAMETERS, Finding, Model, PoolSize, readable_version, standing
from g2is_assets.cli.init import documents
from g2is_assets.cli.options import print_json
from g2is_assets.core.codes import SLOW, kernel_is_exact
from g2is_assets.errors import ModelError, SettingsError, command
from g2is_assets.reports.terminal import Terminal
from g2is_assets.reports.words import counted, folded
from g2is_assets.settings.project import Project, load_project
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.vectors import STORED

COLOURS: Final = {"ok": "green", "warning": "yellow", "problem": "red"}


def run_doctor(config: Path | None, port: int, as_json: bool, try_model: bool) -> None:
    """Look, try the model's gradients if asked to, print what was found, and exit with 1 if there is a problem."""
    findings: list[Finding] = []
    _add(findings, "python", check_python())
    try:
        project = load_project(config)
    except SettingsError as error:
        findings.append(Finding("settings", "problem", str(error)))
        _add(findings, "torch", check_torch(None))
        _add(findings, "memory", check_memory(None))
    else:
        findings.append(Finding("settings", "ok", f"{project.path}, {counted(len(project.domains), 'domain')}"))
        _add(findings, "torch", check_torch(project))
        model = _add(findings, "model", checkup.check_model(project)) or checkup.Model()
        _add(findings, "memory", check_memory(model.parameters))
        if try_model and model.workspace:
            _add(findings, "gradients", check_gradients(project, model.workspace))
        pool = _add(findings, "pool", checkup.check_pool(project, model.workspace)) or checkup.PoolSize()
        _add(findings, "warmup", checkup.check_warmup(project))
        _add(findings, "domains", checkup.check_domains(project, model.workspace, pool))
        _add(findings, "template", checkup.check_template(project, model.workspace))
        _add(findings, "studies", checkup.check_studies(project))
        _add(findings, "disk", check_disk(project, pool, model))
        _add(findings, "dagster", check_dagster(project, port))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        console = Terminal()
        for finding in findings:
            said = f"{finding.said}{f'; {finding.remedy}' if finding.remedy else ''}"
            room = max(30, console.width - MARGIN) if console.is_terminal else len(said)
            first, *more = folded([said], room)
            below = "".join(f"\n{' ' * MARGIN}{line.strip()}" for line in more)
            label = f" {finding.check:<10} {first}{below}"
            console.print(Text.assemble((f"{finding.state:<8}", COLOURS[finding.state]), label), soft_wrap=True)
    sys.exit(1 if any(finding.state == "problem" for finding in findings) else 0)


def _add(findings: list[Finding], name: str, check: Iterator[Finding]) -> Any:
    """Add what a check finds, and return what it returns. One that breaks is a finding too, and stops no other."""
    try:
        while True:
            findings.append(next(check))
    except StopIteration as ended:
        return ended.value
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        findings.append(Finding(name, "problem", f"could not be looked at: {type(error).__name__}: {reason}"))
        return None


MARGIN: Final = 20
"""Characters before what a check says."""
BESIDES_WEIGHTS: Final = 3.2e9
"""Bytes that a refresh takes besides the weights: what the demo was measured to take, less its weights."""
ALIVE_S: Final = 120.0
"""A daemon whose last heartbeat is older is taken for gone; it gives one every 30 s."""
EDGE: Final = 40
"""Bytes of a stored edge of the graph."""
PICTURES: Final = 3_000_000
"""Bytes of what is drawn and written for people of the pool, and of each domain."""


def check_python() -> Iterator[Finding]:
    """Python, and whether the installed libraries are those that this package asks for."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in importlib.metadata.requires("g2is_assets") or ()]
    except importlib.metadata.PackageNotFoundError:
        yield Finding("python", "warning", "g2is_assets is not installed as a package", "pip install -e .")
        return
    faults = []
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = "missing"
        if version == "missing" or not requirement.specifier.contains(version, prereleases=True):
            faults.append(f"{requirement.name} {version} where {requirement.specifier} is needed")
    if faults:
        yield Finding("python", "problem", "; ".join(faults), "pip install -c constraints.txt -e .")
    else:
        said = f"Python {platform.python_version()}, its libraries as asked for; documents: {documents()}"
        yield Finding("python", "ok", said)


def check_torch(project: Project | None) -> Iterator[Finding]:
    """torch, the device that the settings ask for, or that is found, and whether it computes in bfloat16."""
    import torch

    from g2is_assets.training.model import bf16_instructions, pick_device

    try:
        device = pick_device(project.settings.device if project else "auto")
    except ModelError as error:
        yield Finding("torch", "problem", str(error))
        return
    if device.startswith("cuda"):
        has_bf16, name = torch.cuda.is_bf16_supported(), torch.cuda.get_device_name(device)
    else:
        has, name = bf16_instructions(), f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
        has_bf16 = None if has is None else bool(has)
    known = {True: "with bfloat16 instructions", False: "without bfloat16 instructions", None: "bfloat16 unknown"}
    said = f"torch {torch.__version__} on {device} ({name}, {known[has_bf16]})"
    asked = {project.settings.gradients.compute} if project else set()
    asked |= {domain.finetune.compute for domain in project.domains.values()} if project else set()
    if has_bf16 is False and "bfloat16" in asked:
        yield Finding("torch", "warning", said, 'compute = "bfloat16" is slow here; set compute = "float32"')
    else:
        yield Finding("torch", "ok", said)
    if not kernel_is_exact("cpu"):
        yield Finding("products", "warning", SLOW)


def check_gradients(project: Project, workspace: Workspace) -> Iterator[Finding]:
    """Whether a row's gradient by this model, on this device, depends on the rows beside it, at its checkpoint.

    Where there is none yet, one is trained for the trial, on rows of no meaning, and thrown away.
    """
    from g2is_assets.training.gradients import INDEPENDENT, GradientWorker, smallest_cosine
    from g2is_assets.training.text import Example
    from g2is_assets.training.usable import ROWS
    from g2is_assets.training.warmup import train_warmup

    settings, before = project.settings, readable_version(project, "warmup/checkpoint")
    ids = [[token % len(workspace.template.tokenizer) for token in row] for row in ROWS]
    rows = [Example(str(n), row, 1) for n, row in enumerate([*ids, 4 * ids[0], ids[1] + 2 * ids[0]])]
    with TemporaryDirectory() as scratch:
        folder = before.folder if before else Path(scratch)
        if not before:
            train_warmup(workspace.model, rows, settings.warmup, folder, device=settings.device)
        worker = GradientWorker(workspace.model, folder, ["sgd"], settings.gradients, settings.device)
    cosine, bound = smallest_cosine(worker, rows), INDEPENDENT[worker.compute]
    how = f"{'packed' if worker.packs else 'padded'}, {worker.compute} on {worker.device}"
    said = f"a row's gradient alone and beside others: cosine {cosine:.7f} at least ({how})"
    if cosine >= bound:
        yield Finding("gradients", "ok", said)
    else:
        remedy = 'rows would not be told apart: set another `model`, or [gradients] compute = "float32"'
        yield Finding("gradients", "problem", f"{said}, where rounding leaves {bound}", remedy)


def check_memory(weights: int | None) -> Iterator[Finding]:
    """Free memory, beside what a refresh takes with a model of so many parameters."""
    import psutil

    free, total = psutil.virtual_memory().available, psutil.virtual_memory().total
    limit = _cgroup_limit()
    if limit is not None:
        free, total = min(free, limit - _cgroup_used()), min(total, limit)
    need = BESIDES_WEIGHTS + 4 * (weights or EMBEDDED_PARAMETERS)
    said = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free, about {need / 1e9:.1f} GB needed"
    if total < need:
        yield Finding("memory", "problem", said, "take a smaller model or a larger machine")
    elif free < need:
        yield Finding("memory", "warning", said, "end other programs first")
    else:
        yield Finding("memory", "ok", said)


def _cgroup_limit() -> int | None:
    """The memory that a container may use, where it has a limit."""
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):  # none, or `max`
        return None


def _cgroup_used() -> int:
    """What its processes hold; files kept in memory make room when it is needed."""
    try:
        lines = Path("/sys/fs/cgroup/memory.stat").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("anon "))
    except (OSError, ValueError, StopIteration):
        return 0


def bytes_needed(project: Project, pool: PoolSize, model: Model) -> dict[str, int]:
    """What a refresh of everything will write that is not there yet, by what it is for."""
    from g2is_assets.core.edges import N_SPARE

    settings = project.settings
    stored = readable_version(project, "gradients/pool")
    n_new = max(0, pool.n_rows - (stored.manifest.n_rows.get("index", 0) if stored else 0))
    has_pool, has_warmup = (readable_version(project, key) for key in ("instructions/pool", "warmup/checkpoint"))
    return {
        # Codes, and a byte for each of them in the copy that graph and walk read.
        "gradients": int((1 + STORED * settings.gradients.bits / 8) * settings.gradients.sketch_dim)
        * len(settings.gradients.kinds)
        * settings.warmup.checkpoints
        * n_new,
        "graph": EDGE * (settings.graph.n_neighbors + settings.graph.n_conflicts + 2 * N_SPARE) * n_new,
        "text": 0 if has_pool else pool.n_bytes,
        "adapters": model.adapter_bytes + (0 if has_warmup else model.warmup_bytes),
        "pictures and reports": PICTURES * (1 + len(project.domains)),
    }


def check_disk(project: Project, pool: PoolSize, model: Model) -> Iterator[Finding]:
    """Free space at the project's home, and where the model goes, beside what will be written; and whether it can."""
    from g2is_assets.store.files import MEND
    from g2is_assets.training.packaged import MEND_CACHE, PACKAGED, models_folder

    needed, lake, models = bytes_needed(project, pool, model), project.home / "lake", models_folder()
    if (said := PACKAGED.get(project.settings.model)) and not (models / project.settings.model).is_dir():
        new = {"model": 2 * 4 * said.n_parameters}  # while it is converted
        if _can_write(models) and standing(models).stat().st_dev == standing(lake).stat().st_dev:
            needed |= new
        else:
            yield from _look_at_disk(models, new, MEND_CACHE)
    yield from _look_at_disk(lake, needed, MEND)


def _can_write(place: Path) -> bool:
    return os.access(standing(place), os.W_OK | os.X_OK)


def _look_at_disk(place: Path, parts: Mapping[str, int], mend: str) -> Iterator[Finding]:
    there = standing(place)
    if not _can_write(there):
        yield Finding("disk", "problem", f"{there} cannot be written", mend)
    need, free = sum(parts.values()), shutil.disk_usage(there).free
    # In MB, so that parts and sum are rounded alike; what is less than one adds nothing that would be seen.
    in_mb = {name: round(n / 1e6) for name, n in parts.items() if n >= 5e5}
    what = ", ".join(f"{name} {n:,}" for name, n in in_mb.items())
    said = f"{free / 1e9:,.1f} GB free at {place}, about {sum(in_mb.values()):,} MB needed{f': {what}' if what else ''}"
    if free < need:
        yield Finding("disk", "problem", said, mend)
    elif free < 2 * need + 1e9:
        yield Finding("disk", "warning", said, f"free space soon; {command('gc --dry-run')} says what could go")
    else:
        yield Finding("disk", "ok", said)


def check_dagster(project: Project, port: int) -> Iterator[Finding]:
    """The instance, the port of the UI, and whether somebody looks after schedules."""
    folder, heartbeat = project.home / ".dagster", None
    there = standing(folder)
    if not _can_write(there):
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
    yield Finding("dagster", "ok", f"{counted(n_runs, 'run')} in {folder}")
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
