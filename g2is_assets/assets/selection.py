"""Stage `selection`: the gradient walk's subset."""

import dagster as dg
import numpy as np
import polars as pl

from g2is_assets.assets.features import stored_features
from g2is_assets.assets.publish import publish, read
from g2is_assets.config import SelectionSettings
from g2is_assets.contracts import graph as graph_contracts
from g2is_assets.contracts import instructions as instruction_contracts
from g2is_assets.contracts import knowledge as knowledge_contracts
from g2is_assets.contracts import selection as contracts
from g2is_assets.core.walk import Walk, allocate_budgets, gradient_walk
from g2is_assets.errors import SettingsError
from g2is_assets.resources import Workspace
from g2is_assets.storage.lake import Draft


@dg.asset(
    key=["selection", "subset"],
    group_name="selection",
    kinds={"numpy", "parquet"},
    code_version="1",
    deps=[
        ["gradients", "pool"],
        ["graph", "neighbors"],
        ["knowledge", "components"],
        ["instructions", "pool"],
        ["instructions", "target"],
    ],
)
def subset(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The rows that the gradient walk took for this domain, in order, each with the reason.

    Exact on the complete instruction graph. No two rows of one component conflict, every row keeps its component's
    consistency, and a walk may end short of its budget; the split of the budget is kept beside the rows. Pool rows that
    equal one of the domain's own rows are never taken.
    """
    settings = workspace.project.domain(context.partition_key).selection
    gradients, graph, pool = (
        read(context, workspace, asset) for asset in ("gradients/pool", "graph/neighbors", "instructions/pool")
    )
    knowledge = read(context, workspace, "knowledge/components", domain=True)
    target = read(context, workspace, "instructions/target", domain=True)

    def write(draft: Draft) -> None:
        from g2is_assets.training.instructions import count_tokens

        row_ids, features = stored_features(workspace, gradients, settings.kind)
        nodes = graph.table("neighbors", graph_contracts.NODES)
        own = target.table("target", instruction_contracts.TARGET)["row_id"]
        eligible = nodes.filter(pl.col("row_id") == pl.col("duplicate_group"), ~pl.col("row_id").is_in(own.implode()))[
            "row_id"
        ]
        kept = np.flatnonzero(pl.Series(row_ids).is_in(eligible.implode()).to_numpy())
        ids = np.array(row_ids)[kept]
        cores = knowledge.table("components", knowledge_contracts.components(features.shape[1]))
        total = n_rows_of(settings, len(row_ids), len(ids), context.partition_key)
        budgets = allocate_budgets(total, cores["weight"].to_numpy())
        walk = gradient_walk(
            features[kept],
            cores["direction"].to_numpy(),
            budgets,
            **settings.model_dump(include={"delta", "method", "consistency", "min_core_cosine", "conflicts_across"}),
        )
        table = _trace(walk, ids, context.partition_key)
        draft.table("subset", contracts.SUBSET, table)
        taken = np.bincount(walk.component, minlength=len(budgets))
        split = cores.select("domain", "component", "weight").with_columns(
            budget=pl.Series(budgets), n_taken=pl.Series(taken)
        )
        draft.table("budgets", contracts.BUDGETS, split)
        rows = table.join(pool.table("pool", instruction_contracts.POOL), on="row_id", how="inner")
        draft.metric(budget=total, n_short_of_budget=total - len(table), n_tokens=count_tokens(rows))
        draft.metric(n_sources=rows["sources"].explode().n_unique())
        draft.metric(n_pool_rows_of_the_domain=int(nodes["row_id"].is_in(own.implode()).sum()))

    return publish(
        context,
        workspace,
        write,
        settings=settings.model_dump(mode="json"),
        inputs={
            "gradients/pool": gradients,
            "graph/neighbors": graph,
            "knowledge/components": knowledge,
            "instructions/pool": pool,
            "instructions/target": target,
        },
        contract=contracts.SUBSET,
    )


def n_rows_of(settings: SelectionSettings, n_pool: int, n_eligible: int, domain: str) -> int:
    """The budget in rows: a share of the pool's rows with gradients, rounded, at least 1; or the count as set.

    Raises:
        SettingsError: It is more than the eligible rows.
    """
    total = max(1, round(settings.budget * n_pool)) if settings.budget < 1 else int(settings.budget)
    if total > n_eligible:
        raise SettingsError(
            f"domain '{domain}': the budget of {total} rows is larger than the pool's {n_eligible} eligible rows "
            f"({n_pool} with gradients, near-duplicates counted once, the domain's own rows left out); lower `budget`"
        )
    return total


def _trace(walk: Walk, ids: np.ndarray, domain: str) -> pl.DataFrame:
    def names(rows: np.ndarray) -> list[str | None]:
        return [str(ids[row]) if row >= 0 else None for row in rows]

    table = pl.DataFrame(
        {
            "domain": [domain] * len(walk.rows),
            "order": np.arange(len(walk.rows)),
            "row_id": names(walk.rows),
            "component": walk.component,
            "step": walk.step,
            "predecessor": names(walk.predecessor),
            "predecessor_cosine": walk.predecessor_cosine,
            "min_cosine": walk.min_cosine,
            "min_cosine_row": names(walk.min_cosine_row),
            "core_cosine": walk.core_cosine,
            "consistency_before": walk.consistency_before,
            "consistency": walk.consistency,
        },
        schema=contracts.SUBSET.schema,
    )
    return table.with_columns(pl.col(pl.Float64).fill_nan(None))
