"""Stage `instructions`: the pool and the domains' rows, normalised."""

from pathlib import Path
from typing import Any, Final

import dagster as dg
import polars as pl

from g2is_assets.assets.publish import publish
from g2is_assets.config import Source
from g2is_assets.contracts import instructions as contracts
from g2is_assets.errors import SourceError
from g2is_assets.hashing import file_sha256, json_sha256
from g2is_assets.redaction import redacted
from g2is_assets.resources import Workspace
from g2is_assets.storage.lake import Draft
from g2is_assets.storage.sources import find_files, read_rows, relative_name

MIN_ROWS: Final = {"pool": 2, "validation": 2, "test": 2}
"""Graph, PCA and intervals need two rows; a domain may do without a test file, but not with an empty one."""


@dg.asset(key=["instructions", "pool"], group_name="instructions", kinds={"polars", "parquet"}, code_version="1")
def pool(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The general instruction pool: one normalised row per distinct instruction.

    Rows come from every source in the settings file. Equal rows are merged with all their sources and licences; rows
    that cannot be used are kept beside it with their reason. A row's id is a hash of its content, so the same row has
    the same id in every pool.
    """
    from g2is_assets.training.instructions import count_tokens, normalise

    settings = workspace.project.settings.instructions
    folder = workspace.project.path.parent
    files = [(file, source) for source in settings.sources for file in find_files(source, folder)]

    def write(draft: Draft) -> None:
        found = normalise(
            (row for file in files for row in read_rows(*file, folder)), workspace.template, settings.limit
        )
        if len(found.rows) < MIN_ROWS["pool"]:
            names = ", ".join(redacted(file) for file, _ in files)
            count = "no usable row" if not found.rows else "only one usable row"
            raise SourceError(f"the pool is empty: {count} in {names}{_reasons(found.rejected)}")
        table = found.table(contracts.POOL.schema)
        draft.table("pool", contracts.POOL, table)
        draft.table("rejected", contracts.REJECTED, found.rejected)
        draft.metric(n_merged=found.n_merged, n_rejected=len(found.rejected), n_tokens=count_tokens(table))
        draft.metric(n_sources=table["sources"].explode().n_unique(), n_truncated=int(table["truncated"].sum()))

    return publish(
        context,
        workspace,
        write,
        settings=_without_credentials(settings.model_dump(mode="json")),
        inputs=_content(context, workspace, [file for file, _ in files]),
        contract=contracts.POOL,
    )


@dg.asset(key=["instructions", "target"], group_name="instructions", kinds={"polars", "parquet"}, code_version="1")
def target(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """A target domain's own rows: validation rows steer the selection, test rows only measure its result.

    A joint domain has the rows of all its members.
    """
    domain = workspace.project.domain(context.partition_key)
    settings = workspace.project.settings.instructions
    splits = {"validation": domain.validation} | ({"test": domain.test} if domain.test else {})
    files = [file for split in splits.values() for file in split]
    for file in files:
        if not file.is_file():
            raise SourceError(f"{file} is not there as a file; a domain needs validation.jsonl or validation.parquet")
    return publish(
        context,
        workspace,
        lambda draft: _write_target(draft, workspace, domain.name, splits),
        settings={"max_length": settings.max_length, "system": settings.system},
        inputs=_content(context, workspace, [str(file) for file in files]),
        contract=contracts.TARGET,
    )


def _write_target(draft: Draft, workspace: Workspace, domain: str, splits: dict[str, tuple[Path, ...]]) -> None:
    from g2is_assets.training.instructions import normalise

    folder = workspace.project.path.parent
    rows, rejected, n_merged = [], [], 0
    for split, files in splits.items():
        read_all = (row for file in files for row in read_rows(str(file), Source(path=file.name), folder))
        found = normalise(read_all, workspace.template)
        if len(found.rows) < MIN_ROWS[split]:
            least = f"at least {MIN_ROWS[split]} distinct ones are needed"
            names = ", ".join(map(str, files))
            raise SourceError(f"{names}: {len(found.rows)} usable {split} rows, {least}{_reasons(found.rejected)}")
        rows += [{**row, "domain": domain, "split": split} for row in found.rows]
        rejected.append(found.rejected)
        n_merged += found.n_merged
    schema = contracts.TARGET.schema
    table = pl.DataFrame([{name: row[name] for name in schema} for row in rows], schema=schema)
    table = table.sort("split", "row_id")
    both = table.filter(pl.col("row_id").is_duplicated())
    if len(both):
        raise SourceError(
            f"domain '{domain}': {both['row_id'].n_unique()} rows are both validation and test, such as "
            f"{both['prompt'][0][:60]!r}; test rows must be others"
        )
    draft.table("target", contracts.TARGET, table)
    draft.table("rejected", contracts.REJECTED, pl.concat(rejected))
    counts = {f"n_{split}": int((table["split"] == split).sum()) for split in ("validation", "test")}
    draft.metric(**counts, n_merged=n_merged, n_rejected=sum(map(len, rejected)))


def _reasons(rejected: pl.DataFrame) -> str:
    """Why rows were set aside, by the first few."""
    said = [f"{row['file']}, line {row['line']}: {row['reason']}" for row in rejected.head(3).iter_rows(named=True)]
    return f" ({len(rejected)} set aside; {'; '.join(said)})" if said else ""


def _without_credentials(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with every source's address as manifests may say it."""
    sources = [source | {"path": redacted(source["path"])} for source in settings["sources"]]
    return settings | {"sources": sources}


def _content(context: dg.AssetExecutionContext, workspace: Workspace, files: list[str]) -> dict[str, str]:
    """Content digests of the files, by path relative to the settings, and of what turns text into tokens.

    What lies behind a URI is read again in every run: the run's id stands in for its digest.
    """
    folder = workspace.project.path.parent
    digests = {
        f"file:{relative_name(file, folder)}": context.run.run_id if "://" in file else _digest(file) for file in files
    }
    return digests | {"tokenizer": json_sha256([workspace.model.digest, workspace.template.digest])}


def _digest(file: str) -> str:
    try:
        return file_sha256(Path(file))
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror}; put it back, or correct `sources`") from error
