"""What several stages want of stored vectors: filling a store with rows, and reading unit features back."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts.gradients import EARLIER, INDEX, MEANS, SET_ASIDE
from g2is_assets.contracts.graph import EDGES
from g2is_assets.core.codes import SLOW, kernel_is_exact
from g2is_assets.core.features import FeatureSource, JoinedFeatures
from g2is_assets.core.rows import real_rows
from g2is_assets.errors import SettingsError
from g2is_assets.hashing import json_sha256
from g2is_assets.progress import say, track
from g2is_assets.settings.selection import AnySelection
from g2is_assets.stages.stage import Task
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.features import StoredFeatures
from g2is_assets.store.vectors import Filled, Vectors, VectorStore, address_of
from g2is_assets.store.version import Draft, Version

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from g2is_assets.training.text import Example

Compute = Callable[[str, Iterable[list[str]]], Iterator[Vectors]]
"""From a checkpoint's folder and batches of row ids to their vectors, in order."""
LAST: Final = "."
"""The folder of the last checkpoint, in which the earlier ones lie."""
BESIDES: Final = ("store", "earlier", "weights", "prescreen")
"""Settings of a recipe that determine no row's vector at the last checkpoint."""
EMBEDDING: Final = "embedding"
"""The one feature kind of embeddings."""
EMBEDDINGS_VERSION: Final = "1"
"""Part of the embeddings' address: raise it when the same row gives another embedding."""


@dataclass(frozen=True)
class Stored:
    """Rows that have vectors, and where these stand.

    Attributes:
        index: Contract `INDEX`.
        earlier: Contract `EARLIER`; empty where there is one checkpoint.
        shards: By name.
        weights: Of the checkpoints, the last one last.
    """

    index: pl.DataFrame
    earlier: pl.DataFrame
    shards: Mapping[str, Version]
    weights: Sequence[float]

    def of(self, rows: pl.Series) -> "Stored":
        """Of these rows alone."""
        here = pl.col("row_id").is_in(rows.implode())
        return replace(self, index=self.index.filter(here), earlier=self.earlier.filter(here))

    def features(self, kind: str, mean: NDArray[np.floating] | None = None) -> FeatureSource:
        """A kind of the rows' features, in the order of the index, of which a mean is taken."""
        if len(self.weights) == 1:
            return StoredFeatures(self.shards, self.index, kind, mean)
        order, parts = self.index.select("row_id"), self.earlier.partition_by("checkpoint", maintain_order=True)
        tables = [order.join(part, on="row_id", how="left", maintain_order="left") for part in parts]
        return JoinedFeatures(
            [StoredFeatures(self.shards, table, kind) for table in (*tables, self.index)], self.weights, mean
        )


def settings_of_vectors(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What determines a row's vector at each checkpoint of a recipe, by the checkpoint's folder, the last one last."""
    own = {name: value for name, value in settings.items() if name not in BESIDES}
    earlier = {folder: own | {"checkpoint": files} for folder, files in settings.get("earlier", {}).items()}
    return earlier | {LAST: own}


def stores_of(settings: Mapping[str, Any]) -> tuple[list[str], Sequence[float]]:
    """The addresses of a recipe's vectors, and the weights of their checkpoints."""
    return [address_of(own) for own in settings_of_vectors(settings).values()], settings.get("weights", [1.0])


def fill(draft: Draft, task: Task, n_tokens: dict[str, int], compute: Compute, served: pl.Series) -> Stored:
    """Compute the vectors that no shard has; write which of the rows served have one and where, and which have none.

    Args:
        draft: Of the version whose rows they are; the shards become parts of it.
        task: Of the stage; the settings of its recipe address the shards.
        n_tokens: Token count of every row by row id, in the order of the instructions table.
        compute: Gives vectors.
        served: Row ids of the version's own rows; the others are computed for what else the stage makes of them.

    Returns:
        All rows.
    """
    filled = [
        fill_store(draft, task, vectors, n_tokens, partial(compute, folder))
        for folder, vectors in settings_of_vectors(task.recipe.settings).items()
    ]
    shards = [shard for each in filled for shard in each.shards]
    here, weights = pl.col("row_id").is_in(served.implode()), stores_of(task.recipe.settings)[1]
    reasons = {row: reason for each in filled for row, reason in each.set_aside.items()}
    set_aside = pl.DataFrame(sorted(reasons.items()), schema=SET_ASIDE.schema, orient="row").filter(here)
    stored = Stored(*_together([each.index for each in filled]), {shard.name: shard for shard in shards}, weights)
    draft.write(INDEX, stored.index.filter(here))
    draft.write(SET_ASIDE, set_aside)
    if len(weights) > 1:
        draft.write(EARLIER, stored.earlier.filter(here))
    n_computed = sum(each.n_computed for each in filled)
    draft.metric(
        n_computed=n_computed,
        n_tokens_computed=sum(each.n_tokens_computed for each in filled),
        n_reused=len(filled) * len(n_tokens) - n_computed,
        n_damaged_shards=sum(each.n_damaged_shards for each in filled),
        n_set_aside=len(set_aside),
    )
    return stored


def fill_store(
    draft: Draft,
    task: Task,
    vectors: Mapping[str, Any],
    n_tokens: Mapping[str, int],
    compute: Callable[[Iterable[list[str]]], Iterator[Vectors]],
) -> Filled:
    """Compute the vectors of one address that no shard has; the shards become parts of the draft."""
    from g2is_assets.training.text import plan_batches

    settings = task.workspace.project.settings.gradients
    found = VectorStore(task.workspace.lake, vectors).fill(
        n_tokens,
        lambda lengths: plan_batches(lengths, settings.batch_tokens),
        compute,
        settings.shard_rows,
        draft.run_id,
        settings.batch_tokens,
    )
    draft.made_of(found.shards)
    return found


def _together(indexes: Sequence[pl.DataFrame]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tables of the contracts `INDEX` and `EARLIER`: the rows that have a vector at every checkpoint."""
    *before, index = indexes
    for other in before:
        index = index.join(other, on="row_id", how="semi", maintain_order="left")
    parts = [
        index.select("row_id").join(other, on="row_id", maintain_order="left").with_columns(checkpoint=pl.lit(number))
        for number, other in enumerate(before)
    ]
    earlier = pl.concat([EARLIER.table_of([]), *(p.select(*EARLIER.columns).cast(EARLIER.schema) for p in parts)])
    digests = zip(*(part["sha256"] for part in parts), index["sha256"], strict=True)
    if parts:  # so that what differs at any checkpoint is seen to differ
        index = index.with_columns(sha256=pl.Series([json_sha256(list(each)) for each in digests], dtype=pl.String))
    return index, earlier


def embedding_vectors(workspace: Workspace) -> dict[str, Any]:
    """What determines a row's embedding."""
    return {
        "kinds": [EMBEDDING],
        "sketch_dim": workspace.model.hidden_size,
        "bits": 8,
        "model": workspace.model.digest,
        "template": workspace.template_digest,
        "pooling": "last hidden states, position-weighted mean",
        "code_version": EMBEDDINGS_VERSION,
    }


class Embedder:
    """Computes embeddings of batches of rows, and counts what that took."""

    def __init__(self, workspace: Workspace, by_id: "Mapping[str, Example]") -> None:
        self.workspace, self.by_id = workspace, by_id
        self.n_tokens, self.n_flop, self.passed_s, self.peak = 0, 0.0, 0.0, 1.0

    def __call__(self, batches: Iterable[list[str]]) -> Iterator[Vectors]:
        """Vectors of each batch of row ids, in order; a row's loss is not computed and stands as 0."""
        from g2is_assets.training.engine import flops, peak_flops
        from g2is_assets.training.evaluate import embed_rows

        workspace, settings, planned = self.workspace, self.workspace.project.settings, list(batches)
        model = workspace.model.load(settings.device)
        per_token = flops(model, 1, 0, backward=False)
        self.peak = peak_flops(str(model.device), "float32")
        with track("embeddings", sum(self.by_id[i].n_tokens for batch in planned for i in batch), "tokens") as progress:
            for batch in planned:
                encoded = [self.by_id[row_id] for row_id in batch]
                n_tokens, begun = [row.n_tokens for row in encoded], time.monotonic()
                values = embed_rows(model, workspace.template.tokenizer, encoded, settings.gradients.batch_tokens)
                self.passed_s += time.monotonic() - begun
                self.n_flop += per_token * sum(n_tokens)
                self.n_tokens += sum(n_tokens)
                progress(sum(n_tokens))
                yield Vectors(batch, n_tokens, np.zeros(len(batch), dtype=np.float32), {EMBEDDING: values})

    def speed(self) -> dict[str, float]:
        """Metrics of all passes, which are told to whoever watches."""
        from g2is_assets.training.engine import speed

        share = self.n_flop / self.peak / self.passed_s if self.passed_s else 0.0
        return speed("embeddings", self.n_tokens, self.passed_s, share)


def stored_features(
    workspace: Workspace,
    gradients: Version,
    kind: str,
    *,
    mean_removed: bool = False,
    rows: pl.Series | None = None,
) -> tuple[list[str], FeatureSource]:
    """Row ids of a gradient version, in its order, and a source of their codes: (n, sketch_dim) at every checkpoint.

    Args:
        workspace: The project's.
        gradients: Version of `gradients/pool`, `gradients/target` or `study/embedding`.
        kind: Feature kind.
        mean_removed: Take the checkpoint's pinned mean from every unit row.
        rows: Only these row ids; all by default.
    """
    weights = stores_of(gradients.manifest.settings)[1]
    earlier = gradients.read(EARLIER) if len(weights) > 1 else EARLIER.table_of([])
    stored = Stored(gradients.read(INDEX), earlier, workspace.lake.parts_of(gradients), weights)
    if rows is not None:
        stored = stored.of(rows)
    mean = gradients.read(MEANS).filter(pl.col("kind") == kind)["mean"].to_numpy()[0] if mean_removed else None
    return stored.index["row_id"].to_list(), stored.features(kind, mean)


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
