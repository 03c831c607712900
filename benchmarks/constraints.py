"""Do the walk's constraints bite, and does it stay near its domain? For every feature, core knowledge and consistency.

    python benchmarks/constraints.py --store lake --rows 2000 --budget 60 --out results.md

Needs a lake with gradients/pool (kinds `adam` and `adam_without_momentum`) and gradients/target of the domains asked
for; all that it has by default. The first rows by row id are used, a random sample since ids are hashes. No training:
how near a subset's mean feature is to the domain's says what to expect of it, not what it is worth.
"""

import argparse
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from report import Report

from g2is_assets.contracts.gradients import INDEX, MEANS
from g2is_assets.contracts.instructions import POOL
from g2is_assets.core.features import ArrayFeatures, FeatureSource
from g2is_assets.core.graph import sampled_cosines
from g2is_assets.core.knowledge import allocate_budgets, core_knowledge, measure_home
from g2is_assets.core.rows import unit_rows
from g2is_assets.core.walk import gradient_walk
from g2is_assets.core.walk_state import FloatRows
from g2is_assets.store.features import StoredFeatures
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version

KINDS = {"adam": "Adam mix", "adam_without_momentum": "momentum-free"}
CONSISTENCY: dict[str, dict[str, Any]] = {
    "previous, 0.8": {"consistency": "previous", "delta": 0.8},
    "best, 0.8": {"consistency": "best", "delta": 0.8},
    "best, 0.95": {"consistency": "best", "delta": 0.95},
    "anchor, 0.8": {"consistency": "anchor", "delta": 0.8},
}


def main() -> None:
    """Parse arguments and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="the lake")
    parser.add_argument("--domain", action="append", help="may be repeated; default: all with gradients")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    lake, report = Lake(options.store), Report("Constraints of the walk", options.out)
    domains = options.domain or sorted(p.parent.name for p in (lake.place("gradients/target")).glob("*/current.json"))
    sources, row_ids = pool_features(lake, options.rows)
    lines = [
        [name, f"{(sampled_cosines(s, len(row_ids)) < 0).mean():.2%}", f"{mean_cosine(FloatRows(s).matrix):.4f}"]
        for name, s in sources
    ]
    report.table(
        "The instruction graph", ["features", "negative edges", "mean cosine"], lines, f"{len(row_ids):,} rows."
    )
    pool = lake.current("instructions/pool").read(POOL)
    origin = dict(zip(pool["row_id"], pool["sources"].list.first(), strict=True))
    for domain in domains:
        validation = unit_rows(stored(lake, lake.current("gradients/target", domain), "sgd").array())
        walks(domain, validation, sources, [origin[row_id] for row_id in row_ids], options.budget, report)


def stored(lake: Lake, version: Version, kind: str, n_rows: int | None = None) -> StoredFeatures:
    """Stored vectors of a version's first rows."""
    index = version.read(INDEX)
    return StoredFeatures(lake.parts_of(version), index.head(n_rows or len(index)), kind)


def pool_features(lake: Lake, n_rows: int) -> tuple[list[tuple[str, FeatureSource]], list[str]]:
    """The pool's first rows as raw and mean-removed features of both kinds, and their ids."""
    version = lake.current("gradients/pool")
    sources: list[tuple[str, FeatureSource]] = []
    for kind, name in KINDS.items():
        codes = stored(lake, version, kind, n_rows).array()
        table = version.read(MEANS).filter(pl.col("kind") == kind)
        centred = ArrayFeatures(codes, table["mean"].to_numpy()[0])
        sources += [(name, ArrayFeatures(codes)), (f"{name}, mean removed", centred)]
    return sources, version.read(INDEX)["row_id"].head(n_rows).to_list()


def mean_cosine(rows: np.ndarray) -> float:
    """Mean cosine over the edges of the complete graph."""
    total = rows.sum(axis=0, dtype=np.float64)
    return float((total @ total - len(rows)) / (len(rows) * (len(rows) - 1)))


def walks(
    domain: str,
    validation: np.ndarray,
    sources: list[tuple[str, FeatureSource]],
    origin: list[str],
    budget: int,
    report: Report,
) -> None:
    """One table: every combination of features, centring and consistency for a domain."""
    lines = []
    knowledge = {
        name: core_knowledge(validation, centered=on) for name, on in (("centred", True), ("uncentred", False))
    }
    for (features, source), (centring, core), (rule, options) in product(
        sources, knowledge.items(), CONSISTENCY.items()
    ):
        budgets = allocate_budgets(budget, core.weights)
        walk = gradient_walk(source, core.components, budgets, method="g2is", **options)
        seen = [refusals for refusals in walk.refusals if refusals is not None]
        left = np.setdiff1d(np.arange(source.shape[0]), walk.rows)
        conflict = np.mean([(s.conflict_step[left] >= 0).mean() for s in seen])
        refused = np.mean([((s.conflict_step < 0) & (s.n_inconsistent > 0))[left].mean() for s in seen])
        home = measure_home(source, walk.rows, validation)
        mix = Counter(origin[row] for row in walk.rows).most_common(4)
        lines.append(
            [
                *(features, centring, rule, str(len(walk.rows)), f"{conflict:.1%}", f"{refused:.1%}"),
                *(f"{value:.3f}" for value in (home.random, home.subset, home.top)),
                ", ".join(f"{name} {n}" for name, n in mix),
            ]
        )
    components = ", ".join(f"{name} {len(core.weights)}" for name, core in knowledge.items())
    report.table(
        domain,
        ["features", "core", "consistency", "taken", "conflict", "inconsistent", "random", "subset", "top", "sources"],
        lines,
        "conflict, inconsistent: share of the rows left that each rule refused, averaged over components. random, "
        f"subset, top: cosine of the mean feature to the domain's mean. Components: {components}.",
    )


if __name__ == "__main__":
    main()
