"""Stage `instructions`: the pool and the domains' rows, normalised."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import dagster as dg
import polars as pl

from g2is_assets.contracts import instructions as contracts
from g2is_assets.errors import SourceError
from g2is_assets.progress import say
from g2is_assets.settings.config import Source
from g2is_assets.settings.redaction import redacted
from g2is_assets.stages.publish import publish, recipe_here
from g2is_assets.stages.recipes import CODE_VERSIONS, pool_files, target_files
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Draft
from g2is_assets.store.sources import read_rows
from g2is_assets.store.withholding import (
    Withholding,
    count_withheld,
    pool_withholding,
    say_withheld,
    target_withholding,
)

MIN_ROWS: Final = {"pool": 2, "validation": 2, "test": 2}
"""Graph, PCA and intervals need two rows; a domain may do without a test file, but not with an empty one."""


@dg.asset(
    key=["instructions", "pool"],
    group_name="instructions",
    kinds={"polars", "parquet"},
    code_version=CODE_VERSIONS["instructions/pool"],
)
def pool(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The general instruction pool: one normalised row per distinct instruction.

    Rows come from every source in the settings file. Equal rows are merged with all their sources and licences; rows
    that cannot be used, and rows that may not be (withdrawn, or under a denied licence), are listed beside it with
    their reason. A row's id is a hash of its content, so the same row has the same id in every pool.
    """
    from g2is_assets.training.instructions import normalise

    settings = workspace.project.settings.instructions
    folder = workspace.project.path.parent
    recipe, files = recipe_here(context, workspace), pool_files(workspace)
    withholding = pool_withholding(workspace.project, workspace.lake)

    def write(draft: Draft) -> None:
        found = normalise(
            (row for file in files for row in read_rows(*file, folder)), workspace.template, settings.limit
        )
        used, withheld = withholding.part(found.rows)
        if len(used) < MIN_ROWS["pool"]:
            names = ", ".join(redacted(file) for file, _ in files)
            count = "no usable row" if not used else "only one usable row"
            why = _reasons(found.rejected) + say_withheld(withheld)
            raise SourceError(f"the pool is empty: {count} in {names}{why}")
        table = replace(found, rows=used).table(contracts.POOL.schema)
        draft.table("pool", contracts.POOL, table)
        draft.table("rejected", contracts.REJECTED, found.rejected)
        _say_rejected("instructions/pool", found.rejected)
        draft.table("withheld", contracts.WITHHELD, withheld)
        draft.metric(**count_withheld(withheld))
        draft.metric(n_merged=found.n_merged, n_rejected=len(found.rejected), n_tokens=contracts.count_tokens(table))
        draft.metric(n_sources=table["sources"].explode().n_unique(), n_truncated=int(table["truncated"].sum()))

    return publish(context, workspace, recipe, write)


@dg.asset(
    key=["instructions", "target"],
    group_name="instructions",
    kinds={"polars", "parquet"},
    code_version=CODE_VERSIONS["instructions/target"],
)
def target(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """A target domain's own rows: validation rows steer the selection, test rows only measure its result.

    A joint domain has the rows of all its members. Withdrawn rows are listed beside it.
    """
    domain = context.partition_key
    recipe, splits = recipe_here(context, workspace), target_files(workspace, domain)
    withholding = target_withholding(workspace.project, [file for files in splits.values() for file in files])
    return publish(
        context, workspace, recipe, lambda draft: _write_target(draft, workspace, domain, splits, withholding)
    )


def _write_target(
    draft: Draft, workspace: Workspace, domain: str, splits: dict[str, tuple[Path, ...]], withholding: Withholding
) -> None:
    from g2is_assets.training.instructions import normalise

    folder = workspace.project.path.parent
    rows, rejected, withheld, n_merged = [], [], [], 0
    for split, files in splits.items():
        read_all = (row for file in files for row in read_rows(str(file), Source(path=file.name), folder))
        found = normalise(read_all, workspace.template)
        used, kept_out = withholding.part(found.rows)
        if len(used) < MIN_ROWS[split]:
            least = f"at least {MIN_ROWS[split]} distinct ones are needed"
            names, why = ", ".join(map(str, files)), _reasons(found.rejected) + say_withheld(kept_out)
            raise SourceError(f"{names}: {len(used)} usable {split} rows, {least}{why}")
        rows += [{**row, "domain": domain, "split": split} for row in used]
        rejected.append(found.rejected)
        withheld.append(kept_out)
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
    _say_rejected("instructions/target", pl.concat(rejected))
    out = pl.concat(withheld).unique("row_id").sort("row_id")
    draft.table("withheld", contracts.WITHHELD, out)
    draft.metric(**count_withheld(out))
    counts = {f"n_{split}": int((table["split"] == split).sum()) for split in ("validation", "test")}
    draft.metric(**counts, n_merged=n_merged, n_rejected=sum(map(len, rejected)))


def _say_rejected(asset: str, rejected: pl.DataFrame) -> None:
    """Tell whoever watches that rows were set aside, why the first was, and where all of them are listed."""
    for row in rejected.head(1).iter_rows(named=True):
        count = "1 row" if len(rejected) == 1 else f"{len(rejected)} rows"
        first = f"{row['file']}, line {row['line']}: {row['reason']}"
        say(f"{asset}: {count} set aside, the first: {first}; see g2is sql 'FROM {asset.replace('/', '_')}_rejected'")


def _reasons(rejected: pl.DataFrame) -> str:
    """Why rows were set aside, by the first few."""
    said = [f"{row['file']}, line {row['line']}: {row['reason']}" for row in rejected.head(3).iter_rows(named=True)]
    return f" ({len(rejected)} set aside; {'; '.join(said)})" if said else ""
