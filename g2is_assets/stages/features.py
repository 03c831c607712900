"""Reading stored features: how graph, knowledge, selection and checks get at unit vectors."""

import numpy as np
import polars as pl

from g2is_assets.contracts.gradients import INDEX, means
from g2is_assets.core.rows import CentredFeatures, FeatureSource
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.features import StoredFeatures
from g2is_assets.store.gradient_store import STORE
from g2is_assets.store.lake import Version


def stored_features(
    workspace: Workspace,
    gradients: Version,
    kind: str,
    *,
    mean_removed: bool = False,
    rows: pl.Series | None = None,
) -> tuple[list[str], FeatureSource]:
    """Row ids of a gradient version, in its order, and a source of their (n, sketch_dim) vectors.

    Args:
        workspace: The project's resource.
        gradients: Version of `gradients/pool` or `gradients/target`.
        kind: Feature kind.
        mean_removed: Take the checkpoint's pinned mean from every unit row.
        rows: Only these row ids; all by default.
    """
    index = gradients.table("index", INDEX)
    if rows is not None:
        index = index.filter(pl.col("row_id").is_in(rows.implode()))
    store = workspace.lake.place(gradients.manifest.asset) / STORE / str(gradients.manifest.settings["store"])
    source: FeatureSource = StoredFeatures(store, index, kind)
    if mean_removed:
        table = gradients.table("means", means(source.shape[1])).filter(pl.col("kind") == kind)
        source = CentredFeatures(source, table["mean"].to_numpy()[0])
    return index["row_id"].to_list(), source


def all_rows(source: FeatureSource) -> np.ndarray:
    """(n, d) float32 with every row of a small source: a domain's, or a subset's."""
    return source.rows(np.arange(source.shape[0])).astype(np.float32)
