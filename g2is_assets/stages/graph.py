"""Stage `graph`: the stored part of the instruction graph."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts.gradients import INDEX
from g2is_assets.contracts.graph import COSINES, DUPLICATES, EDGES, GROUPS, MAP, NODES
from g2is_assets.contracts.instructions import POOL
from g2is_assets.errors import StoreError
from g2is_assets.progress import say, track
from g2is_assets.stages.features import stored_features
from g2is_assets.stages.stage import MadeFrom, Task, stage
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.version import Draft, Version


@stage(
    "graph/neighbors",
    "project",
    "4",
    {"polars", "parquet"},
    inputs=["gradients/pool", "instructions/pool"],
    made_from=lambda workspace, *_: MadeFrom(workspace.project.settings.graph.model_dump(mode="json")),
)
def neighbors(draft: Draft, task: Task) -> None:
    """Every pool row's nearest rows and strongest conflicts by gradient cosine, with statistics of every node.

    Exact on the complete graph, which is never stored. Rows with nearly equal gradients or equal text form one group,
    of which only one is eligible for selection. When the pool changes, only edges of new rows, and of rows that
    had one that is gone among theirs, are computed.
    """
    from g2is_assets.core.graph import build_graph
    from g2is_assets.core.leakage import Text, equal_text_groups
    from g2is_assets.store.graph_tables import graph_tables

    workspace, settings = task.workspace, task.workspace.project.settings.graph
    gradients = task.version("gradients/pool")
    row_ids, source = stored_features(workspace, gradients, settings.kind, mean_removed=settings.mean_removed)
    texts = pl.DataFrame({"row_id": row_ids}).join(task.read(POOL), on="row_id", how="left", maintain_order="left")
    same_text = equal_text_groups([Text(*pair) for pair in texts.select("prompt", "response").rows()])
    try:
        known = _known(task)
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
    tables = graph_tables(graph, row_ids, same_text)
    for contract, table in zip((NODES, EDGES, DUPLICATES, GROUPS), tables, strict=True):
        draft.write(contract, table)
    groups = tables[3]
    draft.metric(
        mean_cosine=float(graph.mean_cosine.mean()),
        negative_edge_share=float(graph.conflict_share.mean()),
        n_duplicates=int((groups["row_id"] != groups["duplicate_group"]).sum()),
        n_known=0 if known is None else len(known.rows),
    )
    _draw_up(draft, workspace, gradients, settings.kind, row_ids, graph.neighbors)


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
    draft.write(MAP, map_table(row_ids, layout(centred, neighbors)))
    sampled = {"mean_removed": sampled_cosines(centred), "raw": sampled_cosines(raw)}
    draft.write(COSINES, cosine_histogram(sampled))
    draft.metric(**{f"negative_edge_share_sampled_{n}": float((c < 0).mean()) for n, c in sampled.items()})


def _known(task: Task) -> Any:
    """What the current graph tells about today's vectors; None where it was made otherwise or most rows are new."""
    from g2is_assets.core.graph import count_negative, known_rows
    from g2is_assets.store.graph_tables import graph_from_tables

    workspace, recipe, gradients = task.workspace, task.recipe, task.version("gradients/pool")
    lake = workspace.lake
    graph = lake.find_whole("graph/neighbors")
    made = graph and (graph.manifest.settings, graph.manifest.code_version)
    if graph is None or made != (recipe.settings, recipe.code_version):
        return None
    before = lake.find_whole("gradients/pool", graph.manifest.inputs["gradients/pool"].data_version)
    if before is None or _vectors_of(before) != _vectors_of(gradients):
        return None
    then, now = (version.read(INDEX).with_row_index("number") for version in (before, gradients))
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
    previous = graph_from_tables(*(graph.read(contract) for contract in (NODES, EDGES, DUPLICATES)))
    return known_rows(previous, today, len(now), n_negative_gone)


def _vectors_of(gradients: Version) -> tuple[Any, Any]:
    """What a row's vector depends on besides the row: the store's settings and the pinned mean."""
    return gradients.manifest.settings["store"], gradients.manifest.files["means.parquet"].sha256
