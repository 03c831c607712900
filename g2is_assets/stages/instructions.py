"""Stage `instructions`: the pool and the domains' rows, normalised."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl

from g2is_assets.contracts import instructions as contracts
from g2is_assets.errors import SourceError, command
from g2is_assets.hashing import json_sha256, known_sha256
from g2is_assets.progress import say
from g2is_assets.reports.words import counted, printable
from g2is_assets.settings.config import Source
from g2is_assets.settings.redaction import redacted
from g2is_assets.stages.stage import MadeFrom, Place, Task, Versions, stage
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.hub import HUB, commit_of
from g2is_assets.store.sources import find_files, is_remote, read_rows, relative_name
from g2is_assets.store.version import Draft
from g2is_assets.store.withholding import count_withheld, pool_withholding, say_withheld, target_withholding

MIN_ROWS: Final = {"pool": 2, "validation": 2, "test": 2}
"""Graph, PCA and intervals need two rows; a domain may do without a test file, but not with an empty one."""

READ_EVERY_RUN: Final = "read again in every run"
"""Stands in for the digest of what lies behind a URI; in a run, the run's id takes its place."""


def pool_files(workspace: Workspace) -> list[tuple[str, Source]]:
    """Every file or URI of the pool, with the source that names it.

    Raises:
        SourceError: A source matches nothing, or a file that another names too.
    """
    folder = workspace.project.path.parent
    sources = workspace.project.settings.instructions.sources
    found = [(file, source) for source in sources for file in find_files(source, folder)]
    require_once(found)
    return found


def require_once(files: Iterable[tuple[str, Source]]) -> None:
    """Refuse a file that two entries of `sources` name: which of them gives its name and licence would be chance."""
    named: dict[str, Source] = {}
    for file, source in files:
        first = named.setdefault(file if is_remote(file) else os.path.realpath(file), source)
        if first is not source:
            one, two = (redacted(str(entry.path or entry.hub)) for entry in (first, source))
            raise SourceError(
                f"{redacted(file)} is named twice in `sources`: by '{one}' and by '{two}'; take one of them out, or "
                "have the pattern match other files only"
            )


def input_name(file: str, folder: Path) -> str:
    """What recipes call a file, URI or data set of the hub."""
    return relative_name(file, folder) if file.startswith(HUB) else f"file:{relative_name(file, folder)}"


def _pinned(file: str, source: Source, task: Task) -> Source:
    """The source as the recipe has it: of a data set the commit for which the version is made, whatever is new now."""
    if not source.hub:
        return source
    return source.model_copy(update={"revision": task.recipe.inputs[file].data_version})


def target_files(workspace: Workspace, domain: str) -> dict[str, tuple[Path, ...]]:
    """A domain's files by split; without a test file there is no test split.

    Raises:
        SourceError: One is not there.
    """
    found = workspace.project.domain(domain)
    splits = {"validation": found.validation} | ({"test": found.test} if found.test else {})
    for file in (file for files in splits.values() for file in files):
        if not file.is_file():
            raise SourceError(
                f"{file} is not there as a file; a domain needs validation.jsonl, or .json, .csv, .parquet"
            )
    return splits


def _pool_from(workspace: Workspace, _: Place, __: Versions) -> MadeFrom:
    said = workspace.project.settings.instructions
    settings = said.model_dump(mode="json") | {"sources": [_as_recorded(source) for source in said.sources]}
    settings |= pool_withholding(workspace.project, workspace.lake).settings
    return MadeFrom(settings, _content(workspace, pool_files(workspace)))


def _as_recorded(source: Source) -> dict[str, Any]:
    """What manifests say of a source, without credentials; the commit of a data set is an input."""
    said = {"source": None, "license": None} | source.model_dump(mode="json", exclude_defaults=True)
    return said | ({"path": redacted(source.path)} if source.path is not None else {})


def _target_from(workspace: Workspace, place: Place, _: Versions) -> MadeFrom:
    return rows_from(workspace, [file for split in target_files(workspace, place.domain).values() for file in split])


def rows_from(workspace: Workspace, files: Sequence[Path]) -> MadeFrom:
    """What determines the rows of a domain that are read from these of its files."""
    settings = workspace.project.settings.instructions.model_dump(
        mode="json", include={"max_length", "system", "turns", "after_turn", "date"}
    )
    settings |= target_withholding(workspace.project, files).settings
    sources = [(str(file), workspace.project.rows_of(file)) for file in files]
    columns = {input_name(file, workspace.project.path.parent): one.columns for file, one in sources}
    named = {name: own.model_dump(exclude_none=True) for name, own in columns.items() if own.model_fields_set}
    return MadeFrom(settings | ({"columns": named} if named else {}), _content(workspace, sources))


def _content(workspace: Workspace, files: Sequence[tuple[str, Source]]) -> dict[str, str]:
    """Content digests of files, by path relative to the settings, and of what turns text into tokens.

    A data set of the hub is identified by its commit.
    """
    folder = workspace.project.path.parent

    def digest(file: str, source: Source) -> str:
        try:
            if source.hub:
                return commit_of(source)
            return READ_EVERY_RUN if is_remote(file) else known_sha256(Path(file))
        except OSError as error:
            raise SourceError(f"{file} cannot be read: {error.strerror}; put it back, or correct `sources`") from error

    digests = {input_name(file, folder): digest(file, source) for file, source in files}
    return digests | {"tokenizer": json_sha256([workspace.model.digest, workspace.template_digest])}


def count_rows(workspace: Workspace, domain: str) -> dict[str, int]:
    """Usable rows of a domain by split, as far as that can be told without a model.

    Raises:
        SourceError: A file is broken or not there, or rows are too few.
    """
    project, counts = workspace.project, {}
    for split, files in target_files(workspace, domain).items():
        pairs = [(str(file), project.rows_of(file)) for file in files]
        n, why = _count(pairs, project.path.parent)
        if n < MIN_ROWS[split]:
            what = f"{counted(n, f'usable {split} row')}, at least {MIN_ROWS[split]} distinct ones are needed"
            raise SourceError(f"{', '.join(map(str, files))}: {what}{why}")
        counts[split] = n
    return counts


def require_rows(workspace: Workspace, domain: str) -> None:
    """Refuse rows of the pool and of a domain that cannot be read, without a model; what lies behind an address waits.

    Raises:
        SourceError: A file is broken or not there, or rows are too few.
    """
    count_rows(workspace, domain)
    files = pool_files(workspace)
    local = [(file, source) for file, source in files if not is_remote(file)]
    n, why = _count(local, workspace.project.path.parent)
    if n < MIN_ROWS["pool"] and len(local) == len(files):
        names = ", ".join(file for file, _ in local)
        raise SourceError(
            f"the pool has {counted(n, 'usable row')}, at least {MIN_ROWS['pool']} are needed: {names}{why}"
        )


def _count(files: Iterable[tuple[str, Source]], folder: Path) -> tuple[int, str]:
    """How many distinct rows are usable, and why others are not, by the first few."""
    used, aside = set[str](), list[str]()
    for file, source in files:
        for row in read_rows(file, source, folder):
            if isinstance(row, contracts.Instruction):
                used.add(row.row_id)
            elif len(aside) < 3:
                aside.append(printable(f"{row.file}, line {row.line}: {row.reason}"))
    return len(used), f" (set aside, among others: {'; '.join(aside)})" if aside else ""


class Read(NamedTuple):
    """Rows as they were read: those to be used, and those that cannot or may not be, each with its reason."""

    used: pl.DataFrame
    rejected: pl.DataFrame
    withheld: pl.DataFrame


def read_pool(workspace: Workspace, files: Sequence[tuple[str, Source]], first: int | None = None) -> Read:
    """The pool's rows, or so many of the first of each file.

    Raises:
        SourceError: A file is broken, or they are too few to be a pool.
        ModelError: The model's template cannot render rows.
    """
    from g2is_assets.training.text import normalise

    folder, limit = workspace.project.path.parent, workspace.project.settings.instructions.limit
    rows = (row for file, source in files for row in read_rows(file, source, folder, first))
    found = normalise(rows, workspace.template, limit)
    used, withheld = pool_withholding(workspace.project, workspace.lake).part(found.rows)
    if len(used) < MIN_ROWS["pool"]:
        names = ", ".join(redacted(file) for file, _ in files)
        count = "no usable row" if used.is_empty() else "only one usable row"
        raise _too_few(f"the pool is empty: {count} in {names}", found.rejected, withheld)
    return Read(used, found.rejected, withheld)


def read_target(workspace: Workspace, domain: str) -> Read:
    """A domain's rows, with the contract's columns.

    Raises:
        SourceError: A file is broken or not there, rows are too few, or some are both validation and test.
        ModelError: The model's template cannot render rows.
    """
    from g2is_assets.training.text import normalise

    splits = target_files(workspace, domain)
    withholding = target_withholding(workspace.project, [file for files in splits.values() for file in files])
    folder = workspace.project.path.parent
    rows: list[pl.DataFrame] = []
    rejected, withheld = [], []
    for split, files in splits.items():
        read_all = (row for file in files for row in read_rows(str(file), workspace.project.rows_of(file), folder))
        found = normalise(read_all, workspace.template)
        used, kept_out = withholding.part(found.rows)
        if len(used) < MIN_ROWS[split]:
            what = f"{counted(len(used), f'usable {split} row')}, at least {MIN_ROWS[split]} distinct ones are needed"
            raise _too_few(f"{', '.join(map(str, files))}: {what}", found.rejected, kept_out)
        rows.append(used.with_columns(pl.lit(domain).alias("domain"), pl.lit(split).alias("split")))
        rejected.append(found.rejected)
        withheld.append(kept_out)
    table = pl.concat(rows).select(*contracts.TARGET.columns).sort("split", "row_id")
    both = table.filter(pl.col("row_id").is_duplicated())
    if len(both):
        raise SourceError(
            f"domain '{domain}': {counted(both['row_id'].n_unique(), 'row is', 'rows are')} both validation and "
            f"test, such as {both['prompt'][0][:60]!r}; test rows must be others"
        )
    return Read(table, pl.concat(rejected), pl.concat(withheld).unique("row_id").sort("row_id"))


@stage("instructions/pool", "project", "3", {"polars", "parquet"}, made_from=_pool_from)
def pool(draft: Draft, task: Task) -> None:
    """The general instruction pool: one normalised row per distinct instruction.

    Rows come from every source in the settings file. Equal rows are merged with all their sources and licences; rows
    that cannot be used, and rows that may not be (withdrawn, or under a denied licence), are listed beside it with
    their reason. A row's id is a hash of its content, so the same row has the same id in every pool.
    """
    files = [(file, _pinned(file, source, task)) for file, source in pool_files(task.workspace)]
    found = read_pool(task.workspace, files)
    draft.write(contracts.POOL, found.used)
    n_sources = found.used["sources"].explode().n_unique()
    draft.metric(n_tokens=contracts.count_tokens(found.used), n_sources=n_sources)
    _write_unused(draft, "instructions/pool", found)


@stage("instructions/target", "domain", "3", {"polars", "parquet"}, made_from=_target_from)
def target(draft: Draft, task: Task) -> None:
    """A target domain's own rows: validation rows steer the selection, test rows only measure its result.

    A joint domain has the rows of all its members. Withdrawn rows are listed beside it.
    """
    found = read_target(task.workspace, task.domain)
    draft.write(contracts.TARGET, found.used)
    draft.metric(**{f"n_{split}": int((found.used["split"] == split).sum()) for split in ("validation", "test")})
    _write_unused(draft, "instructions/target", found)


def _write_unused(draft: Draft, asset: str, found: Read) -> None:
    """Write the rows that cannot or may not be used, count them, and say what of the others is not as it was read."""
    table, rejected, withheld = found
    draft.write(contracts.REJECTED, rejected)
    draft.write(contracts.WITHHELD, withheld)
    counts = {f"n_{name}": int(table[name].sum()) for name in ("truncated", "preferred")}
    counts["n_thoughts"] = int((table["n_thoughts"] > 0).sum())
    lost = contracts.count_lost(table)
    n_lost = int((table["lost"].list.len() > 0).sum())
    draft.metric(**count_withheld(withheld), **counts, n_rejected=len(rejected), n_lost=n_lost)
    draft.metric(n_merged=int(table["n_merged"].sum()) - len(table))
    if counts["n_preferred"]:
        pairs = counted(counts["n_preferred"], "row is a preference pair", "rows are preference pairs")
        say(f"{asset}: {pairs}, of which `chosen` is used")
    if counts["n_truncated"]:
        say(f"{asset}: rows that lost their end to max_length: {counts['n_truncated']}")
    if lost:
        kinds = ", ".join(f"{what} ({counted(n, 'row')})" for what, n in lost.items())
        say(f"{asset}: the model's tokenizer and chat template do not keep all of some rows: {kinds}")
    for first in _reasons(rejected.head(1)):
        listed = command(f"sql 'FROM {asset.replace('/', '_')}_rejected'")
        say(f"{asset}: {counted(len(rejected), 'row')} set aside, the first: {first}; see {listed}")


def _reasons(rejected: pl.DataFrame) -> list[str]:
    return [printable(f"{row['file']}, line {row['line']}: {row['reason']}") for row in rejected.iter_rows(named=True)]


def _too_few(what: str, rejected: pl.DataFrame, withheld: pl.DataFrame) -> SourceError:
    """What is lacking, and why rows were set aside or withheld, by the first few."""
    said = "; ".join(_reasons(rejected.head(3)))
    why = f" ({len(rejected)} set aside; {said})" if said else ""
    return SourceError(f"{what}{why}{say_withheld(withheld)}")
