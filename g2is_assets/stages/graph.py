"""Stage `graph`: the stored part of the instruction graph."""

from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts import graph as contracts
from g2is_assets.contracts import instructions as instruction_contracts
from g2is_assets.contracts.gradients import INDEX
from g2is_assets.errors import StoreError
from g2is_assets.progress import say, track
from g2is_assets.stages.features import stored_features
from g2is_assets.stages.publish import publish, recipe_here
from g2is_assets.stages.recipes import CODE_VERSIONS
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Draft, Recipe, Version


@dg.asset(
    key=["graph", "neighbors"],
    group_name="graph",
    kinds={"polars", "parquet"},
    code_version=CODE_VERSIONS["graph/neighbors"],
    deps=[["gradients", "pool"], ["instructions", "pool"]],
)
def neighbors(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """Every pool row's nearest rows and strongest conflicts by gradient cosine, with statistics of every node.

    Exact on the complete graph, which is never stored. Rows with nearly equal gradients or equal text form one group,
    of which only one is eligible for selection. When the pool changes, only edges of new rows, and of rows that
    had one that is gone among theirs, are computed.
    """
    settings = workspace.project.settings.graph
    recipe = recipe_here(context, workspace)
    gradients, pool = recipe.versions["gradients/pool"], recipe.versions["instructions/pool"]

    def write(draft: Draft) -> None:
        from g2is_assets.core.graph import build_graph
        from g2is_assets.core.leakage import Text, equal_text_groups
        from g2is_assets.store.graph_tables import graph_tables

        row_ids, source = stored_features(workspace, gradients, settings.kind, mean_removed=settings.mean_removed)
        texts = pl.DataFrame({"row_id": row_ids}).join(
            pool.table("pool", instruction_contracts.POOL), on="row_id", how="left", maintain_order="left"
        )
        same_text = equal_text_groups([Text(*pair) for pair in texts.select("prompt", "response").rows()])
        try:
            known = _known(workspace, recipe)
        except StoreError as error:
            say(f"graph/neighbors: the graph before cannot be gone on from ({error}); all edges are computed")
            known = None
        with track("graph", len(row_ids), "rows") as progress:
            graph = build_graph(
                source,
                settings.n_neighbors,
                settings.n_conflicts,
                settings.duplicate_cosine,
                known=known,
                map_blocks=workspace.engine.map,
                progress=progress,
            )
        nodes, edges, duplicates = graph_tables(graph, row_ids, same_text)
        draft.table("neighbors", contracts.NODES, nodes)
        draft.table("edges", contracts.EDGES, edges)
        draft.table("duplicates", contracts.DUPLICATES, duplicates)
        draft.metric(
            mean_cosine=float(graph.mean_cosine.mean()),
            negative_edge_share=float(graph.conflict_share.mean()),
            n_duplicates=int((nodes["row_id"] != nodes["duplicate_group"]).sum()),
            n_known=0 if known is None else len(known.rows),
        )
        _draw_up(draft, workspace, gradients, settings.kind, row_ids, graph.neighbors)

    return publish(context, workspace, recipe, write)


def _draw_up(
    draft: Draft,
    workspace: Workspace,
    gradients: Version,
    kind: str,
    row_ids: list[str],
    neighbors: NDArray[np.int64],
) -> None:
    """What people look at, and nothing is selected by: the map, and how the cosines are spread."""
    from g2is_assets.core.graph import sampled_cosines
    from g2is_assets.core.layout import layout
    from g2is_assets.store.graph_tables import cosine_histogram, map_table

    raw = stored_features(workspace, gradients, kind)[1]
    centred = stored_features(workspace, gradients, kind, mean_removed=True)[1]
    draft.table("map", contracts.MAP, map_table(row_ids, layout(centred, neighbors)))
    sampled = {"mean_removed": sampled_cosines(centred), "raw": sampled_cosines(raw)}
    draft.table("cosines", contracts.COSINES, cosine_histogram(sampled))
    draft.metric(**{f"negative_edge_share_sampled_{n}": float((c < 0).mean()) for n, c in sampled.items()})


def _known(workspace: Workspace, recipe: Recipe) -> Any:
    """What the current graph tells about today's vectors; None where it was made otherwise or most rows are new."""
    from g2is_assets.core.graph import count_negative, known_rows
    from g2is_assets.store.graph_tables import graph_from_tables

    gradients, lake = recipe.versions["gradients/pool"], workspace.lake
    graph = lake.find_whole("graph/neighbors")
    made = graph and (graph.manifest.settings, graph.manifest.code_version)
    if graph is None or made != (recipe.settings, recipe.code_version):
        return None
    before = lake.find_whole("gradients/pool", graph.manifest.inputs["gradients/pool"].data_version)
    if before is None or _vectors_of(before) != _vectors_of(gradients):
        return None
    then, now = (version.table("index", INDEX).with_row_index("number") for version in (before, gradients))
    where = ["row_id", "shard", "position", "sha256"]
    met = then.join(now, on=where, how="left", maintain_order="left", suffix="_today")["number_today"]
    today = met.cast(pl.Int64).fill_null(-1).to_numpy()
    if 2 * (today >= 0).sum() < len(now):
        return None
    kind, removed = recipe.settings["kind"], recipe.settings["mean_removed"]
    n_negative_gone = np.zeros(len(then), dtype=np.int64)
    if (today < 0).any():
        gone = then.filter(pl.Series(today < 0))["row_id"]
        lost = stored_features(workspace, before, kind, mean_removed=removed, rows=gone)[1]
        n_negative_gone = count_negative(stored_features(workspace, before, kind, mean_removed=removed)[1], lost)
    tables = {"neighbors": contracts.NODES, "edges": contracts.EDGES, "duplicates": contracts.DUPLICATES}
    previous = graph_from_tables(*(graph.table(name, contract) for name, contract in tables.items()))
    return known_rows(previous, today, len(now), n_negative_gone)


def _vectors_of(gradients: Version) -> tuple[Any, Any]:
    """What a row's vector depends on besides the row: the store's settings and the pinned mean."""
    return gradients.manifest.settings["store"], gradients.manifest.files["means.parquet"].sha256
