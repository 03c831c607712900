"""Stage `graph`: the stored part of the instruction graph, and its tables, in which ids stand for row numbers."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts.gradients import INDEX
from g2is_assets.contracts.graph import COSINES, DUPLICATES, EDGES, GROUPS, MAP, NODES, SPARE
from g2is_assets.contracts.instructions import POOL
from g2is_assets.errors import StoreError
from g2is_assets.progress import say, track
from g2is_assets.stages.features import stored_features, stores_of, tell_of_slow_products
from g2is_assets.stages.stage import MadeFrom, Task, stage
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.version import Draft, Version

if TYPE_CHECKING:
    from g2is_assets.core.edges import Ranked
    from g2is_assets.core.graph import Graph

STORED: Final = (NODES, EDGES, SPARE, DUPLICATES)
"""The tables that the next graph goes on from."""
N_BINS: Final = 200
"""Bins of the histogram of cosines, each 0.01 wide; 0 is an edge."""


@stage(
    "graph/neighbors",
    "project",
    "6",
    {"polars", "parquet"},
    inputs=["gradients/pool", "instructions/pool"],
    made_from=lambda workspace, *_: MadeFrom(workspace.project.settings.graph.model_dump(mode="json")),
)
def neighbors(draft: Draft, task: Task) -> None:
    """Every pool row's nearest rows and strongest conflicts by gradient cosine, with statistics of every node.

    Exact on the complete graph, which is never stored. Rows with nearly equal gradients or equal text form one group,
    of which only one is eligible for selection. When the pool changes, only edges of new rows are computed, and all
    of rows that lost more of theirs than were kept to spare.
    """
    from g2is_assets.core.graph import build_graph
    from g2is_assets.core.leakage import Text, equal_text_groups

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
    tell_of_slow_products("graph/neighbors")
    with track("graph", len(row_ids), "rows") as progress:
        graph = build_graph(
            source,
            settings.n_neighbors,
            settings.n_conflicts,
            settings.duplicate_cosine,
            known=known,
            map_blocks=partial(workspace.engine.map, threaded=True),
            progress=progress,
        )
    *tables, groups = graph_tables(graph, row_ids, same_text)
    for contract, table in zip((*STORED, GROUPS), (*tables, groups), strict=True):
        draft.write(contract, table)
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

    raw = stored_features(workspace, gradients, kind)[1]
    centred = stored_features(workspace, gradients, kind, mean_removed=True)[1]
    places = layout(centred, neighbors)
    draft.write(MAP, pl.DataFrame({"row_id": row_ids, "x": places[:, 0], "y": places[:, 1]}, schema=MAP.schema))
    sampled = {"mean_removed": sampled_cosines(centred), "raw": sampled_cosines(raw)}
    draft.write(COSINES, cosine_histogram(sampled))
    draft.metric(**{f"sampled_conflicts_{n}": float((c < 0).mean()) for n, c in sampled.items()})


def _known(task: Task) -> Any:
    """What the current graph tells about today's vectors; None where it was made otherwise or most rows are new."""
    from g2is_assets.core.graph import count_negative, known_rows

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
    previous = graph_from_tables(*(graph.read(contract) for contract in STORED))
    return known_rows(previous, today, len(now), n_negative_gone)


def _vectors_of(gradients: Version) -> tuple[Any, Any]:
    """What a row's vector depends on besides the row: the stores' settings and the pinned mean."""
    return stores_of(gradients.manifest.settings), gradients.manifest.files["means.parquet"].sha256


def graph_tables(
    graph: "Graph", row_ids: list[str], same_text: NDArray[np.int64]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Tables of the contracts `graph/neighbors`, `... edges`, `... spare`, `... duplicates` and `... groups`.

    Args:
        graph: Of the rows, in their order.
        row_ids: Their ids, sorted.
        same_text: (n,) lowest index of the rows with the same normalised text.
    """
    from g2is_assets.core.graph import duplicate_groups

    ids = np.array(row_ids)
    first = np.flatnonzero(same_text != np.arange(len(ids)))
    by_text = np.stack([same_text[first], first], axis=1)
    groups = duplicate_groups(len(ids), np.concatenate([graph.duplicates, by_text]))
    statistics = {name: getattr(graph, name) for name in NODES.columns if name != "row_id"}
    nodes = pl.DataFrame({"row_id": row_ids} | statistics, schema=NODES.schema)
    near, far = _edges(ids, graph.near, "neighbor"), _edges(ids, graph.far, "conflict")
    n_near, n_far = graph.neighbors.shape[1], graph.conflicts.shape[1]
    shown = pl.when(pl.col("relation") == "neighbor").then(n_near).otherwise(n_far) > pl.col("rank")
    edges = pl.concat([near, far])
    pairs = [(graph.duplicates, "cosine"), (by_text, "text")]
    duplicates = pl.concat(
        pl.DataFrame(
            {"row_id": ids[p[:, 0]], "other_row_id": ids[p[:, 1]], "reason": [reason] * len(p)},
            schema=DUPLICATES.schema,
        )
        for p, reason in pairs
    )
    together = pl.DataFrame({"row_id": row_ids, "duplicate_group": ids[groups]}, schema=GROUPS.schema)
    return nodes, edges.filter(shown), edges.filter(~shown), duplicates.sort(DUPLICATES.sorted_by), together


def cosine_histogram(cosines: Mapping[str, NDArray[np.float64]]) -> pl.DataFrame:
    """Contract `graph/neighbors cosines` of the cosines by name of the features."""
    edges = np.linspace(-1, 1, N_BINS + 1)
    parts = []
    for name, values in sorted(cosines.items()):
        counts, _ = np.histogram(np.clip(values, -1, 1), edges)
        part = {"features": [name] * N_BINS, "low": edges[:-1], "high": edges[1:], "n_pairs": counts}
        parts.append(pl.DataFrame(part, schema=COSINES.schema))
    return pl.concat(parts)


def graph_from_tables(
    nodes: pl.DataFrame, edges: pl.DataFrame, spare: pl.DataFrame, duplicates: pl.DataFrame
) -> "Graph":
    """The graph that `graph_tables` wrote."""
    from g2is_assets.core.edges import Ranked
    from g2is_assets.core.graph import Graph

    n, lists, shown = len(nodes), {}, {}

    def numbers(column: pl.Series) -> NDArray[np.int64]:
        return column.replace_strict(nodes["row_id"], pl.int_range(n, eager=True), return_dtype=pl.Int64).to_numpy()

    for relation, sign in (("neighbor", 1), ("conflict", -1)):
        here = pl.col("relation") == relation
        part = pl.concat([edges.filter(here), spare.filter(here)])
        width, shown[relation] = (int(t["rank"].max() or 0) + (len(t) > 0) for t in (part, edges.filter(here)))  # type: ignore[arg-type]
        ranked = Ranked.empty(sign, n, width)
        where = numbers(part["row_id"]), part["rank"].to_numpy()
        ranked.others[where], ranked.strengths[where] = numbers(part["other_row_id"]), part["cosine"].to_numpy() * sign
        lists[relation] = ranked
    pairs = duplicates.filter(pl.col("reason") == "cosine")
    near, far = lists["neighbor"], lists["conflict"]
    return Graph(
        *near.first(shown["neighbor"]),
        *far.first(shown["conflict"]),
        n_negative=nodes["n_negative"].to_numpy(),
        mean_cosine=nodes["mean_cosine"].to_numpy(),
        in_degree=nodes["in_degree"].to_numpy(),
        duplicates=np.stack([numbers(pairs["row_id"]), numbers(pairs["other_row_id"])], axis=1),
        near=near,
        far=far,
    )


def _edges(ids: NDArray[np.str_], lists: "Ranked", relation: str) -> pl.DataFrame:
    rows, ranks = np.nonzero(lists.others >= 0)
    return pl.DataFrame(
        {
            "row_id": ids[rows],
            "other_row_id": ids[lists.others[rows, ranks]],
            "relation": [relation] * len(rows),
            "rank": ranks,
            "cosine": lists.cosines[rows, ranks],
        },
        schema=EDGES.schema,
    )
