"""Tables of vectors: which rows have some and where, and the shards that hold them."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from g2is_assets.contracts.contract import DOMAIN, Column, Contract, count, row_id, vector

INDEX: Final = Contract(
    ("gradients/pool", "gradients/target", "study/embedding"),
    "index",
    "Every row with gradients, in the order of the instructions table, and the shard that holds its vectors",
    {
        "row_id": row_id("The row", unique=True),
        "shard": Column(pl.String, "The version of vectors/shard that holds its vectors", part="vectors/shard"),
        "position": Column(pl.Int64, "Row within the shard", minimum=0),
        "sha256": Column(
            pl.String,
            "Digest of the shard's file as it was written, or of those of all checkpoints' digests",
        ),
        "loss": Column(
            pl.Float64, "Mean response NLL at the warmup checkpoint, nats per token; 0 of embeddings", minimum=0
        ),
        "n_tokens": Column(pl.Int64, "Tokens of prompt and response", minimum=1),
    },
    main=True,
    pruned="whole",
)

EARLIER: Final = Contract(
    ("gradients/pool", "gradients/target"),
    "earlier",
    "Where the vectors of earlier checkpoints stand, if there are several: of every row of the index, at each of them",
    {
        "checkpoint": count("Which checkpoint, from 0"),
        "row_id": row_id("The row"),
        **{name: INDEX.columns[name] for name in ("shard", "position", "sha256")},
    },
    pruned="whole",
)

SET_ASIDE: Final = Contract(
    ("gradients/pool", "gradients/target", "study/embedding", "vectors/shard"),
    "set_aside",
    "Rows whose gradient is zero or not finite; they take no further part",
    {
        "row_id": row_id("The row", unique=True),
        "reason": Column(pl.String, "Why it has no vector"),
    },
    sorted_by=("row_id",),
    pruned="whole",
)

SCREEN: Final = Contract(
    ("gradients/pool",),
    "screen",
    "Where `prescreen` is set: the cheap score of every pool row for each domain, and whether it was kept for it",
    {
        "domain": DOMAIN,
        "row_id": row_id("The row in instructions/pool", of="instructions/pool"),
        "score": Column(pl.Float64, "Its score; null where it has no vector to be scored by", nullable=True),
        "rank": Column(pl.Int64, "Its place by that, 1 the best", nullable=True, minimum=1),
        "kept": Column(pl.Boolean, "Whether it is among the best, or has no score: its gradient is computed"),
    },
    sorted_by=("domain", "row_id"),
    pruned="whole",
)

MEANS: Final = Contract(
    ("gradients/pool",),
    "means",
    "Mean unit vector of the warmup sample's rows: it is pinned with the checkpoint, whatever the pool becomes",
    {
        "kind": Column(pl.String, "Feature kind", unique=True),
        "n_rows": Column(pl.Int64, "Rows that it is the mean of", minimum=1),
        "mean": Column(vector(pl.Float32), "Mean of the unit vectors, not normalised"),
    },
)


def vectors_of(kinds: Sequence[str]) -> Contract:
    """Contract of a shard with these feature kinds: of each codes of a direction, and the norm of what has it.

    Codes are integers around 0; a direction is its codes over their length. They stand in bytes, as in `core.codes`:
    as numbers Parquet would hold each in four bytes, of which compression leaves more than one.
    """
    columns = {
        "row_id": row_id("The row", unique=True),
        "loss": Column(pl.Float64, "Mean response NLL, nats per token", minimum=0),
        "n_tokens": Column(pl.Int64, "Tokens of prompt and response", minimum=1),
    }
    for kind in kinds:
        columns[f"codes_{kind}"] = Column(pl.Binary, f"Direction of the {kind} vector, as codes", text=True)
        columns[f"norm_{kind}"] = Column(pl.Float64, f"Norm of the {kind} vector", minimum=0, text=True)
    meaning = "Vectors of some rows, as they were computed"
    return Contract(("vectors/shard",), "vectors", meaning, columns, main=True)


VECTORS: Final = vectors_of(("adam", "adam_without_momentum", "sgd", "embedding"))
"""All kinds that there can be; shards have some of them."""
