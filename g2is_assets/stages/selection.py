"""Stage `selection`: the gradient walk's subset."""

import dagster as dg
import numpy as np
import polars as pl

from g2is_assets.contracts import graph as graph_contracts
from g2is_assets.contracts import instructions as instruction_contracts
from g2is_assets.contracts import knowledge as knowledge_contracts
from g2is_assets.contracts import selection as contracts
from g2is_assets.core.home import measure_home, strongest_pulls
from g2is_assets.core.selectors.walking import walk_as_set
from g2is_assets.errors import SettingsError
from g2is_assets.stages.eligible import excluded_rows, n_rows_of
from g2is_assets.stages.features import all_rows, stored_features
from g2is_assets.stages.publish import publish, recipe_here
from g2is_assets.stages.recipes import CODE_VERSIONS
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Draft
from g2is_assets.store.walk_tables import budgets_table, count_refusals, left_table, subset_table


@dg.asset(
    key=["selection", "subset"],
    group_name="selection",
    kinds={"numpy", "parquet"},
    code_version=CODE_VERSIONS["selection/subset"],
    deps=[
        ["gradients", "pool"],
        ["gradients", "target"],
        ["graph", "neighbors"],
        ["knowledge", "components"],
        ["instructions", "pool"],
        ["instructions", "target"],
    ],
)
def subset(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The rows that the walk took for this domain, in order, each with the reason.

    Exact on the complete instruction graph. In the paper's walk no two rows of one component conflict, every row keeps
    its component's consistency, and a walk may end short of its budget. The balanced walk has one budget, does not use
    `knowledge/components`, and takes the row with the largest pull towards the domain's rows, those served least
    first, less what it repeats. The split of the budget, and what kept out every row that was left, are kept beside
    the rows. Pool rows that repeat one of the domain's own rows, or another pool row, are not eligible.
    """
    settings = workspace.project.domain(context.partition_key).selection
    recipe = recipe_here(context, workspace)
    gradients, graph, pool = (
        recipe.versions[asset] for asset in ("gradients/pool", "graph/neighbors", "instructions/pool")
    )
    knowledge, target, own = (
        recipe.versions[asset] for asset in ("knowledge/components", "instructions/target", "gradients/target")
    )

    def write(draft: Draft) -> None:

        domain = context.partition_key
        rows = pool.table("pool", instruction_contracts.POOL)
        nodes = graph.table("neighbors", graph_contracts.NODES)
        own_rows = target.table("target", instruction_contracts.TARGET)
        excluded = excluded_rows(rows, own_rows, nodes, allow_leaks=settings.allow_leaks)
        eligible = nodes.join(excluded, on="row_id", how="anti")["row_id"]
        total = n_rows_of(settings.budget, len(nodes), len(eligible), domain)
        row_ids, source = stored_features(
            workspace, gradients, settings.kind, mean_removed=settings.mean_removed, rows=eligible
        )
        ids = np.array(row_ids)
        own_ids, features = stored_features(workspace, own, "sgd")
        validation = all_rows(features)
        cores = knowledge.table("components", knowledge_contracts.components(source.shape[1]))
        walk, weights, budgets = walk_as_set(
            settings, source, validation, total, lambda: (cores["direction"].to_numpy(), cores["weight"].to_numpy())
        )
        if not len(walk.rows):
            raise SettingsError(
                f"domain '{domain}': the walk took no row ({', '.join(sorted(set(walk.ended)))}); loosen "
                "`min_core_cosine` or the other rules in [selection]"
            )
        pulls = strongest_pulls(source, walk.rows, validation)
        table, left = subset_table(walk, ids, domain, pulls, np.array(own_ids)), left_table(walk, ids, domain)
        split = budgets_table(walk, domain, weights, budgets)
        draft.table("subset", contracts.SUBSET, table)
        draft.table("budgets", contracts.BUDGETS, split)
        draft.table("left", contracts.LEFT, left)
        draft.table("excluded", contracts.EXCLUDED, excluded.select(pl.lit(domain).alias("domain"), pl.all()))
        taken = table.join(rows, on="row_id", how="inner")
        draft.metric(
            budget=total, n_short_of_budget=total - len(table), n_tokens=instruction_contracts.count_tokens(taken)
        )
        draft.metric(n_sources=taken["sources"].explode().n_unique())
        draft.metric(n_excluded=len(excluded), n_leaks=int(excluded["split"].is_not_null().sum()))
        distortion = source.shape[1] ** -0.5  # standard error of a sketched cosine near 0
        draft.metric(**count_refusals(left, split, settings.min_core_cosine, distortion))
        home = measure_home(source, walk.rows, validation)
        draft.metric(home_cosine=home.subset, home_cosine_random=home.random, home_cosine_top=home.top)
        draft.metric(n_validation_unserved=home.unserved, n_validation_unserved_top=home.unserved_top)

    return publish(context, workspace, recipe, write)
