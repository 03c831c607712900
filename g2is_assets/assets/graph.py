"""Stage `graph`: the stored part of the instruction graph."""

import dagster as dg
import numpy as np
import polars as pl

from g2is_assets.assets.features import stored_features
from g2is_assets.assets.publish import publish, read
from g2is_assets.contracts import graph as contracts
from g2is_assets.progress import track
from g2is_assets.resources import Workspace
from g2is_assets.storage.lake import Draft


@dg.asset(
    key=["graph", "neighbors"],
    group_name="graph",
    kinds={"polars", "parquet"},
    code_version="1",
    deps=[["gradients", "pool"]],
)
def neighbors(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """Every pool row's nearest rows and strongest conflicts by gradient cosine, with statistics of every node.

    Exact on the complete graph, which is never stored. Rows with nearly equal gradients form one group, of which only
    the first is eligible for selection.
    """
    settings = workspace.project.settings.graph
    gradients = read(context, workspace, "gradients/pool")

    def write(draft: Draft) -> None:
        from g2is_assets.core.graph import build_graph

        row_ids, features = stored_features(workspace, gradients, settings.kind)
        with track("graph", len(row_ids), "rows") as progress:
            graph = build_graph(
                features, settings.n_neighbors, settings.n_conflicts, settings.duplicate_cosine, progress=progress
            )
        ids = np.array(row_ids)
        nodes = pl.DataFrame(
            {
                "row_id": row_ids,
                "mean_cosine": graph.mean_cosine,
                "conflict_share": graph.conflict_share,
                "in_degree": graph.in_degree,
                "duplicate_group": ids[graph.duplicate_group],
            },
            schema=contracts.NODES.schema,
        )
        near = _edges(ids, graph.neighbors, graph.neighbor_cosines, "neighbor")
        far = _edges(ids, graph.conflicts, graph.conflict_cosines, "conflict").filter(pl.col("cosine") < 0)
        draft.table("neighbors", contracts.NODES, nodes)
        draft.table("edges", contracts.EDGES, pl.concat([near, far]))
        draft.metric(
            mean_cosine=float(graph.mean_cosine.mean()),
            negative_edge_share=float(graph.conflict_share.mean()),
            n_duplicates=int((nodes["row_id"] != nodes["duplicate_group"]).sum()),
        )

    return publish(
        context,
        workspace,
        write,
        settings=settings.model_dump(mode="json"),
        inputs={"gradients/pool": gradients},
        contract=contracts.NODES,
    )


def _edges(ids: np.ndarray, others: np.ndarray, cosines: np.ndarray, relation: str) -> pl.DataFrame:
    n_rows, n_others = others.shape
    return pl.DataFrame(
        {
            "row_id": np.repeat(ids, n_others),
            "other_row_id": ids[others.ravel()],
            "relation": [relation] * (n_rows * n_others),
            "rank": np.tile(np.arange(n_others), n_rows),
            "cosine": cosines.ravel().astype(np.float64),
        },
        schema=contracts.EDGES.schema,
    )
