"""The stored graph as tables and back: row ids on disk, indices in the mathematics."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts import graph as contracts
from g2is_assets.core.graph import Graph, duplicate_groups

N_BINS: Final = 200
"""Bins of the histogram of cosines, each 0.01 wide; 0 is an edge."""


def graph_tables(
    graph: Graph, row_ids: list[str], same_text: NDArray[np.int64]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Tables of the contracts `graph/neighbors`, `... edges`, `... duplicates` and `... groups`.

    Args:
        graph: Of the rows, in their order.
        row_ids: Their ids, sorted.
        same_text: (n,) lowest index of the rows with the same normalised text.
    """
    ids = np.array(row_ids)
    first = np.flatnonzero(same_text != np.arange(len(ids)))
    by_text = np.stack([same_text[first], first], axis=1)
    groups = duplicate_groups(len(ids), np.concatenate([graph.duplicates, by_text]))
    nodes = pl.DataFrame(
        {
            "row_id": row_ids,
            "mean_cosine": graph.mean_cosine,
            "conflict_share": graph.conflict_share,
            "in_degree": graph.in_degree,
            "n_negative": graph.n_negative,
        },
        schema=contracts.NODES.schema,
    )
    near = _edges(ids, graph.neighbors, graph.neighbor_cosines, "neighbor")
    far = _edges(ids, graph.conflicts, graph.conflict_cosines, "conflict").filter(pl.col("cosine") < 0)
    pairs = [(graph.duplicates, "cosine"), (by_text, "text")]
    duplicates = pl.concat(
        pl.DataFrame(
            {"row_id": ids[p[:, 0]], "other_row_id": ids[p[:, 1]], "reason": [reason] * len(p)},
            schema=contracts.DUPLICATES.schema,
        )
        for p, reason in pairs
    )
    together = pl.DataFrame({"row_id": row_ids, "duplicate_group": ids[groups]}, schema=contracts.GROUPS.schema)
    return nodes, pl.concat([near, far]), duplicates.sort(contracts.DUPLICATES.sorted_by), together


def map_table(row_ids: list[str], places: NDArray[np.float32]) -> pl.DataFrame:
    """Contract `graph/neighbors map` of (n, 2) places."""
    return pl.DataFrame({"row_id": row_ids, "x": places[:, 0], "y": places[:, 1]}, schema=contracts.MAP.schema)


def cosine_histogram(cosines: Mapping[str, NDArray[np.float32]]) -> pl.DataFrame:
    """Contract `graph/neighbors cosines` of the cosines by name of the features."""
    edges = np.linspace(-1, 1, N_BINS + 1)
    parts = []
    for name, values in sorted(cosines.items()):
        counts, _ = np.histogram(np.clip(values, -1, 1), edges)
        part = {"features": [name] * N_BINS, "low": edges[:-1], "high": edges[1:], "n_pairs": counts}
        parts.append(pl.DataFrame(part, schema=contracts.COSINES.schema))
    return pl.concat(parts)


def graph_from_tables(nodes: pl.DataFrame, edges: pl.DataFrame, duplicates: pl.DataFrame) -> Graph:
    """The graph that `graph_tables` wrote; where a row has fewer conflicts than others, an infinite cosine says so."""
    number = (
        pl.DataFrame({"id": nodes["row_id"]}).with_row_index("number").with_columns(pl.col("number").cast(pl.Int64))
    )

    def numbers(column: pl.Series) -> NDArray[np.int64]:
        found = pl.DataFrame({"id": column}).join(number, on="id", how="left", maintain_order="left")
        return found["number"].to_numpy()

    n = len(nodes)
    lists = {}
    for relation, absent in (("neighbor", -np.inf), ("conflict", np.inf)):
        part = edges.filter(pl.col("relation") == relation)
        width = int(part["rank"].max()) + 1 if len(part) else 0  # type: ignore[arg-type]
        others = np.zeros((n, width), dtype=np.int64)
        cosines = np.full((n, width), absent, dtype=np.float32)
        where = numbers(part["row_id"]), part["rank"].to_numpy()
        others[where], cosines[where] = numbers(part["other_row_id"]), part["cosine"].to_numpy()
        lists[relation] = (others, cosines)
    pairs = duplicates.filter(pl.col("reason") == "cosine")
    return Graph(
        neighbors=lists["neighbor"][0],
        neighbor_cosines=lists["neighbor"][1],
        conflicts=lists["conflict"][0],
        conflict_cosines=lists["conflict"][1],
        mean_cosine=nodes["mean_cosine"].to_numpy(),
        n_negative=nodes["n_negative"].to_numpy(),
        in_degree=nodes["in_degree"].to_numpy(),
        duplicates=np.stack([numbers(pairs["row_id"]), numbers(pairs["other_row_id"])], axis=1),
    )


def _edges(
    ids: NDArray[np.str_], others: NDArray[np.int64], cosines: NDArray[np.float32], relation: str
) -> pl.DataFrame:
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
