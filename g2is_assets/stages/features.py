"""What several stages want of stored vectors: filling a store with rows, and reading unit features back."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from g2is_assets.contracts.gradients import INDEX, MEANS, SET_ASIDE
from g2is_assets.contracts.graph import EDGES
from g2is_assets.core.codes import SLOW, kernel_is_exact
from g2is_assets.core.rows import FeatureSource, real_rows
from g2is_assets.errors import SettingsError
from g2is_assets.progress import say
from g2is_assets.settings.selection import AnySelection
from g2is_assets.stages.stage import Task
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.features import StoredFeatures
from g2is_assets.store.vectors import Filled, Vectors, VectorStore
from g2is_assets.store.version import Draft, Version

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Compute = Callable[[Iterable[list[str]]], Iterator[Vectors]]
"""From batches of row ids to their vectors, in order."""


def fill(draft: Draft, task: Task, n_tokens: dict[str, int], compute: Compute, served: pl.Series) -> Filled:
    """Compute the vectors that no shard has; write which of the rows served have one and where, and which have none.

    Args:
        draft: Of the version whose rows they are; the shards become parts of it.
        task: Of the stage; the settings of its recipe address the shards.
        n_tokens: Token count of every row by row id, in the order of the instructions table.
        compute: Gives vectors.
        served: Row ids of the version's own rows; the others are computed for what else the stage makes of them.
    """
    from g2is_assets.training.text import plan_batches

    settings = task.workspace.project.settings.gradients
    address = {name: value for name, value in task.recipe.settings.items() if name != "store"}
    filled = VectorStore(task.workspace.lake, address).fill(
        n_tokens,
        lambda lengths: plan_batches(lengths, settings.batch_tokens),
        compute,
        settings.shard_rows,
        draft.run_id,
        settings.batch_tokens,
    )
    draft.made_of(filled.shards)
    here = pl.col("row_id").is_in(served.implode())
    set_aside = pl.DataFrame(sorted(filled.set_aside.items()), schema=SET_ASIDE.schema, orient="row").filter(here)
    draft.write(INDEX, filled.index.filter(here))
    draft.write(SET_ASIDE, set_aside)
    draft.metric(
        n_computed=filled.n_computed,
        n_tokens_computed=filled.n_tokens_computed,
        n_reused=len(n_tokens) - filled.n_computed,
        n_damaged_shards=filled.n_damaged_shards,
        n_set_aside=len(set_aside),
    )
    return filled


def stored_features(
    workspace: Workspace,
    gradients: Version,
    kind: str,
    *,
    mean_removed: bool = False,
    rows: pl.Series | None = None,
) -> tuple[list[str], FeatureSource]:
    """Row ids of a gradient version, in its order, and a source of their (n, sketch_dim) codes.

    Args:
        workspace: The project's.
        gradients: Version of `gradients/pool`, `gradients/target` or `study/embedding`.
        kind: Feature kind.
        mean_removed: Take the checkpoint's pinned mean from every unit row.
        rows: Only these row ids; all by default.
    """
    index = gradients.read(INDEX)
    if rows is not None:
        index = index.filter(pl.col("row_id").is_in(rows.implode()))
    mean = gradients.read(MEANS).filter(pl.col("kind") == kind)["mean"].to_numpy()[0] if mean_removed else None
    return index["row_id"].to_list(), StoredFeatures(workspace.lake.parts_of(gradients), index, kind, mean)


def tell_of_slow_products(stage: str) -> None:
    """Say where what a stage multiplies takes long for want of a kernel."""
    if not kernel_is_exact("cpu"):
        say(f"{stage}: {SLOW}")


def stored_edges(graph: Version, row_ids: Sequence[str], settings: AnySelection) -> "csr_array":
    """(n, n) edges of the stored graph among these rows; a SettingsError if they are not of the walk's features."""
    from g2is_assets.core.edges import edge_matrix

    made = {name: graph.manifest.settings[name] for name in ("kind", "mean_removed")}
    if made != {"kind": settings.kind, "mean_removed": settings.mean_removed}:
        raise SettingsError(
            f"`neighbours_only` walks {settings.kind}, mean_removed = {settings.mean_removed}, but graph/neighbors is "
            f"of {made['kind']}, mean_removed = {made['mean_removed']}; set them alike in [graph] or [selection]"
        )
    place = pl.DataFrame({"row_id": row_ids}).with_row_index("row")
    edges = graph.read(EDGES).join(place, on="row_id")
    edges = edges.join(place.rename({"row": "other"}), left_on="other_row_id", right_on="row_id")
    rows, others, cosines = (edges[name].to_numpy() for name in ("row", "other", "cosine"))
    return edge_matrix(rows, others, cosines, len(place))


def all_rows(source: FeatureSource) -> np.ndarray:
    """(n, d) float32 unit rows of a small source: a domain's, or a subset's."""
    return real_rows(source, source.rows(np.arange(source.shape[0]))).astype(np.float32)
