"""How many rows a balanced walk on stored edges (`neighbours_only`) shares with the exact walk, by edges stored.

    python benchmarks/neighbours.py --folder sketch-exact --out benchmarks/results/neighbours.md

`--folder` holds what `sketch.py` leaves there: gradients of a pool's and the domains' rows, not sketched, and the sizes
of the parameters. They are sketched here as the project does it. Besides: the same walk without any redundancy, which
is what remains of it with no edges at all.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from report import Report

from g2is_assets.core.balance import balanced_walk
from g2is_assets.core.codes import quantise
from g2is_assets.core.edges import edge_matrix
from g2is_assets.core.graph import build_graph
from g2is_assets.core.projection import Sketch

SHARES = (0.01, 0.05)
N_CONFLICTS = 8


def main() -> None:
    """Parse arguments, walk, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--sketch-dim", type=int, default=8192)
    parser.add_argument("--neighbors", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    report = Report("Walks on stored edges", given.out)
    own = {file.name.split(".")[0]: file for file in sorted(given.folder.glob("*.float32.npy"))}
    pool = sketched(own.pop("pool"), given.sketch_dim)
    domains = {name: sketched(file, given.sketch_dim) for name, file in own.items()}
    graph = build_graph(pool, max(given.neighbors), N_CONFLICTS)
    pool = pool[np.setdiff1d(np.arange(len(pool)), graph.duplicates[:, 1])]
    graph, n = build_graph(pool, max(given.neighbors), N_CONFLICTS), len(pool)
    for share in SHARES:
        budget = round(share * n)
        exact = {name: balanced_walk(pool, rows, budget).rows for name, rows in domains.items()}
        table = []
        for width in given.neighbors:
            others = np.concatenate([graph.neighbors[:, :width], graph.conflicts], axis=1)
            cosines = np.concatenate([graph.neighbor_cosines[:, :width], graph.conflict_cosines], axis=1)
            ends, places = np.nonzero(others >= 0)
            edges = edge_matrix(ends, others[ends, places], cosines[ends, places], n)
            begun = time.perf_counter()
            found = {name: balanced_walk(pool, rows, budget, edges=edges).rows for name, rows in domains.items()}
            seconds = (time.perf_counter() - begun) / len(domains)
            table.append([width, *shares(found, exact), f"{seconds:.2f}"])
        none = {name: balanced_walk(pool, rows, budget, redundancy=0.0).rows for name, rows in domains.items()}
        table.append(["no redundancy", *shares(none, exact), "-"])
        report.table(
            f"Rows in common with the exact walk: {budget} of {n:,}",
            ["n_neighbors", "mean", *domains, "s a domain"],
            table,
            f"Balanced walk with its defaults; {given.sketch_dim:,} codes of 8 bits; {N_CONFLICTS} conflicts stored.",
        )


def sketched(file: Path, width: int) -> NDArray[np.int8]:
    """Codes of the gradients in a file, sketched with seed 0."""
    sizes = json.loads((file.parent / "sizes.json").read_text(encoding="utf-8"))
    sketch, rows, done = Sketch(sizes, width, seed=0), np.load(file, mmap_mode="r", allow_pickle=False), []
    ends = np.cumsum(list(sizes.values())).tolist()
    for start in range(0, len(rows), 64):
        block = torch.from_numpy(rows[start : start + 64].astype(np.float32))
        into = sketch.zeros(len(block))
        for (name, size), end in zip(sizes.items(), ends, strict=True):
            sketch.add(into, name, block[:, end - size : end])
        done.append(quantise(into.numpy()))
    return np.concatenate(done)


def shares(found: dict[str, NDArray[np.int64]], exact: dict[str, NDArray[np.int64]]) -> list[str]:
    """Mean, and by domain, of the rows in common."""
    same = [len(np.intersect1d(rows, exact[name])) / len(exact[name]) for name, rows in found.items()]
    return [f"{np.mean(same):.1%}", *(f"{share:.0%}" for share in same)]


if __name__ == "__main__":
    main()
