"""Memory-mapped copies of shards: vectors at memory speed, where decoding Parquet runs at a tenth of it.

A copy is named by its shard's digest, so a stale one is never read; any copy may be deleted and is made again.
"""

import os
import uuid
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from g2is_assets.errors import StoreError
from g2is_assets.hashing import known_sha256
from g2is_assets.store.files import read_parquet, writing

MAPPED: Final = "mapped"


def mapped_vectors(store: Path, shard: str, sha256: str, kind: str) -> NDArray[np.float16]:
    """The unit vectors of one kind of one shard, (n_rows, sketch_dim) float16, as a read-only memory map.

    Args:
        store: The store's folder.
        shard: The shard's name.
        sha256: Digest that its record says; checked when the copy is made.
        kind: Feature kind.

    Raises:
        StoreError: The shard is missing or differs from its digest.
    """
    copy = store / MAPPED / f"{shard}.{kind}.{sha256[:16]}.npy"
    try:
        return np.load(copy, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        pass  # not there yet, or cut off: made below
    file = store / f"{shard}.parquet"
    vectors = read_parquet(file, columns=[f"features_{kind}"]).to_series().to_numpy()
    if known_sha256(file) != sha256:
        raise StoreError(f"{file} is damaged: its digest differs from its record; materialise the gradients again")
    scratch = copy.with_name(f".{uuid.uuid4().hex}.npy")
    with writing(copy):
        copy.parent.mkdir(exist_ok=True)
        try:
            np.save(scratch, vectors, allow_pickle=False)
            os.replace(scratch, copy)
        except OSError:
            scratch.unlink(missing_ok=True)
            raise
    return np.load(copy, mmap_mode="r", allow_pickle=False)
