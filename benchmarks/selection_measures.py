"""One measurement of `selection.py` in a process of its own, so that its peak memory is its own.

    python benchmarks/selection_measures.py '{"what": "walk", ...}'

Prints one JSON object as the last line. Heavy libraries are imported where they are used, not to count for the others.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from published_walk import published_walk, sorted_adjacency
from selection_data import FileFeatures, make_files, make_pool

from g2is_assets.contracts.gradients import INDEX
from g2is_assets.core.balance import balanced_walk
from g2is_assets.core.knowledge import allocate_budgets, core_knowledge
from g2is_assets.core.rows import unit_rows
from g2is_assets.core.walk import gradient_walk
from g2is_assets.core.walk_state import FloatRows
from g2is_assets.hashing import hashed_anew
from g2is_assets.store.features import StoredFeatures, mapped_vectors
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version

Task = Mapping[str, Any]


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


class Clock:
    """Seconds since the last lap."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the start or the lap before."""
        now = time.perf_counter()
        seconds, self.begun = now - self.begun, now
        return seconds


def opened(task: Task) -> tuple[dict[str, Version], pl.DataFrame]:
    """The shards, and the index of the first n rows."""
    lake = Lake(Path(task["store"]))
    version = lake.current("gradients/pool")
    return lake.parts_of(version), version.read(INDEX).head(task["n"])


def problem(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Components of the domain and their budgets."""
    with np.load(Path(task["store"]).parent / "knowledge.npz", allow_pickle=False) as file:
        return file["components"], allocate_budgets(task["budget"], file["weights"])


def stored(task: Task) -> StoredFeatures:
    """The first n rows, as a source."""
    return StoredFeatures(*opened(task), task["features"])


def walk(task: Task) -> dict[str, Any]:
    """Our walk from stored features."""
    components, budgets = problem(task)
    clock = Clock()
    taken = gradient_walk(stored(task), components, budgets, method=task.get("method", "g2is"))
    return {"seconds": clock.lap(), "rows": taken.rows.tolist()}


def coherent(task: Task) -> dict[str, Any]:
    """The same rules by integer products of the codes."""
    return walk({**task, "method": "g2is"})


def balanced(task: Task, fair: bool = False) -> dict[str, Any]:
    """The balanced walk from stored features."""
    with np.load(Path(task["store"]).parent / "knowledge.npz", allow_pickle=False) as file:
        validation = file["validation"]
    clock = Clock()
    taken = balanced_walk(stored(task), validation, task["budget"], fair=fair)
    return {"seconds": clock.lap(), "rows": taken.rows.tolist()}


def fair(task: Task) -> dict[str, Any]:
    """The same, and fair to the validation rows."""
    return balanced(task, fair=True)


def million(task: Task) -> dict[str, Any]:
    """A walk, the balanced one fair to 50 rows, of codes that are read from disk at every use."""
    folder = Path(task["folder"])
    with np.load(folder / "knowledge.npz", allow_pickle=False) as file:
        validation = file["validation"]
    clock = Clock()
    source = FileFeatures(folder, task["n"])
    if task["walk"] == "balanced":
        taken = balanced_walk(source, validation, task["budget"], memory_bytes=10**9)
    else:
        core = core_knowledge(validation)
        budgets = allocate_budgets(task["budget"], core.weights)
        taken = gradient_walk(source, core.components, budgets, method="g2is", memory_bytes=10**9)
    return {"seconds": clock.lap(), "rows": taken.rows.tolist(), "n_passes": source.n_passes}


def steps(task: Task) -> dict[str, Any]:
    """What every exact walk does at least: read the rows, and as many matrix-vector products as there are steps."""
    clock = Clock()
    unit = FloatRows(stored(task)).matrix
    read_s = clock.lap()
    for step in range(task["budget"]):
        unit @ unit[step]
    return {"read_s": read_s, "seconds": read_s + clock.lap()}


def published(task: Task) -> dict[str, Any]:
    """The published way from stored features: adjacency, then the walk on it."""
    components, budgets = problem(task)
    clock = Clock()
    unit = FloatRows(stored(task)).matrix
    read_s = clock.lap()
    adjacency = sorted_adjacency(unit)
    adjacency_s = clock.lap()
    rows = published_walk(unit, adjacency, components, budgets)
    walk_s = clock.lap()
    return {
        "read_s": read_s,
        "adjacency_s": adjacency_s,
        "walk_s": walk_s,
        "seconds": read_s + adjacency_s + walk_s,
        "adjacency_bytes": sum(array.nbytes for array in adjacency),
        "rows": rows,
    }


def difference(task: Task) -> dict[str, Any]:
    """Where two walks part, and how far apart in float64 the two candidates were: rounding, or another rule."""
    ours, theirs = task["ours"], task["theirs"]
    step = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    if step is None:
        return {"text": f"ours took {len(ours)} rows, the published way {len(theirs)}, equal up to the shorter"}
    text = f"first difference at row {step}, ours {ours[step]}, published {theirs[step]}"
    if step == 0:
        return {"text": text}
    unit = FloatRows(stored(task)).matrix[[ours[step - 1], ours[step], theirs[step]]].astype(np.float64)
    return {"text": f"{text}; their cosines to the row before differ by {unit[0] @ unit[1] - unit[0] @ unit[2]:.1e}"}


def graph(task: Task) -> dict[str, Any]:
    """The stored part of the graph, from stored features."""
    from g2is_assets.core.graph import build_graph
    from g2is_assets.settings.config import GraphSettings

    settings = GraphSettings()
    clock = Clock()
    build_graph(stored(task), settings.n_neighbors, settings.n_conflicts)
    return {"seconds": clock.lap()}


def products(task: Task, block_rows: int = 1024) -> dict[str, Any]:
    """All cosines in blocks and nothing else; normalising the rows is not counted."""
    import torch

    rows = torch.from_numpy(FloatRows(stored(task)).matrix)
    out = torch.empty(block_rows, len(rows))
    clock = Clock()
    for start in range(0, len(rows), block_rows):
        block = rows[start : start + block_rows]
        torch.mm(block, rows.T, out=out[: len(block)])
    return {"seconds": clock.lap()}


def mapped(task: Task) -> dict[str, Any]:
    """Make the mapped copies of all shards."""
    clock = Clock()
    for shard in opened(task)[0].values():
        mapped_vectors(shard, task["features"])
    return {"seconds": clock.lap()}


def stream(task: Task) -> dict[str, Any]:
    """Open the store with all digests checked, then copy every mapped shard into one block."""
    clock = Clock()
    with hashed_anew():
        shards, index = opened(task)
    open_s = clock.lap()
    block, n_bytes = np.empty((0, 0), np.int8), 0
    for shard in shards.values():
        values = mapped_vectors(shard, task["features"])
        if len(block) < len(values):
            block = np.empty(values.shape, np.int8)
        np.copyto(block[: len(values)], values)
        n_bytes += values.nbytes
    return {"open_s": open_s, "seconds": clock.lap(), "n_bytes": n_bytes, "n_rows": len(index)}


def check(task: Task) -> dict[str, Any]:
    """Both walks against the rows that the published implementation chose, case by case."""
    folder, results = Path(task["folder"]), []
    for case in json.loads((folder / "cases.json").read_text(encoding="utf-8")):
        with np.load(folder / f"{case['name']}.npz", allow_pickle=False) as file:
            unit, components = unit_rows(file["pool_gradients"]), file["components"]
            budgets, expected = file["budgets"], file["selected"]
        ours = gradient_walk(unit, components, budgets, delta=case["delta"]).rows
        theirs = published_walk(unit, sorted_adjacency(unit), components, budgets, case["delta"])
        # Where pool rows are equal, either may be named.
        equal = [np.array_equal(unit[rows], unit[expected]) for rows in (ours, theirs)]
        results.append([case["name"], len(expected), *equal])
    return {"cases": results}


MEASURES: dict[str, Callable[[Task], dict[str, Any]]] = {
    measure.__name__: measure
    for measure in (
        make_pool,
        make_files,
        million,
        walk,
        coherent,
        balanced,
        fair,
        steps,
        published,
        difference,
        graph,
        products,
        mapped,
        stream,
        check,
    )
}

if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    if task["what"] in ("graph", "products", "coherent"):
        import torch  # noqa: F401  (part of their start, not of their peak)
    start_bytes = peak_bytes()
    result = MEASURES[task["what"]](task)
    print(json.dumps({"start_bytes": start_bytes, "peak_bytes": peak_bytes(), **result}))
