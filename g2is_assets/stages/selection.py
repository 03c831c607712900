"""Stage `selection`: the walk's subset, and its tables, in which ids stand for the row numbers of the mathematics."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts.contract import Contract
from g2is_assets.contracts.instructions import count_tokens
from g2is_assets.contracts.knowledge import COMPONENTS
from g2is_assets.contracts.selection import BUDGETS, EXCLUDED, LEFT, SUBSET
from g2is_assets.core.knowledge import measure_home, strongest_pulls
from g2is_assets.core.walk_state import Walk
from g2is_assets.settings.project import Project
from g2is_assets.stages.choosing import EDGES_READ, Chooser
from g2is_assets.stages.features import stored_features, tell_of_slow_products
from g2is_assets.stages.stage import MadeFrom, Place, Task, stage
from g2is_assets.store.version import Draft


def _inputs(project: Project, place: Place) -> Sequence[str]:
    """A balanced walk reads no nodes, and only one on neighbours alone the edges that are stored."""
    read = ["gradients/pool", "gradients/target", "graph/neighbors/groups", "instructions/pool", "instructions/target"]
    settings = project.domain(place.domain).selection
    if settings.walk != "balanced":
        return [*read, "knowledge/components"]
    return [*read, EDGES_READ] if settings.neighbours_only else read


@stage(
    "selection/subset",
    "domain",
    "8",
    {"numpy", "parquet"},
    inputs=_inputs,
    made_from=lambda workspace, place, _: MadeFrom(
        workspace.project.domain(place.domain).selection.model_dump(mode="json")
    ),
)
def subset(draft: Draft, task: Task) -> None:
    """The rows that the walk took for this domain, in order, each with the reason.

    Exact on the complete instruction graph. In the paper's walk no two rows of one component conflict, every row keeps
    its component's consistency, and a walk may end short of its budget. The balanced walk has one budget, does not use
    `knowledge/components`, and takes the row with the largest pull towards the domain's rows, those served least
    first, less what it repeats. The split of the budget, and what kept out every row that was left, are kept beside
    the rows. Pool rows that repeat one of the domain's own rows, or another pool row, are not eligible.
    """
    domain, settings = task.domain, task.workspace.project.domain(task.domain).selection
    nodes = None
    if settings.walk != "balanced":
        stored = task.read(COMPONENTS)
        nodes = stored["direction"].to_numpy(), stored["weight"].to_numpy()
    options = settings.model_dump(exclude={"budget", "allow_leaks"})
    chooser = Chooser(task, "g2is", options, nodes=nodes, allow_leaks=settings.allow_leaks)
    problem = chooser.problem(settings.budget)
    tell_of_slow_products("selection/subset")
    found = chooser.choose(problem)
    walk, ids = found.walk, np.array(chooser.row_ids)[chooser.eligible]
    assert walk is not None and found.split is not None
    source, validation = problem.gradient_features(settings.kind, settings.mean_removed)
    own_ids, _ = stored_features(task.workspace, task.version("gradients/target"), "sgd")
    pulls = strongest_pulls(source, walk.rows, validation)
    table, left = subset_table(walk, ids, domain, pulls, np.array(own_ids)), left_table(walk, ids, domain)
    split = budgets_table(walk, domain, *found.split)
    for contract, rows in ((SUBSET, table), (BUDGETS, split), (LEFT, left)):
        draft.write(contract, rows)
    draft.write(EXCLUDED, chooser.excluded.select(pl.lit(domain).alias("domain"), pl.all()))
    taken = table.join(chooser.pool, on="row_id", how="inner")
    draft.metric(budget=problem.budget, n_short_of_budget=problem.budget - len(table), n_tokens=count_tokens(taken))
    draft.metric(n_sources=taken["sources"].explode().n_unique())
    draft.metric(n_within_error=table.filter(pl.col("margin") < pl.col("error")).height)
    n_leaks = int(chooser.excluded["split"].is_not_null().sum())
    draft.metric(n_excluded=len(chooser.excluded), n_leaks=n_leaks)
    distortion = source.shape[1] ** -0.5  # standard error of a sketched cosine near 0
    draft.metric(**count_refusals(left, split, settings.min_core_cosine, distortion))
    home = measure_home(source, walk.rows, validation)
    draft.metric(home_cosine=home.subset, home_cosine_random=home.random, home_cosine_top=home.top)
    draft.metric(n_validation_unserved=home.unserved, n_validation_unserved_top=home.unserved_top)


def subset_table(
    walk: Walk,
    ids: NDArray[np.str_],
    domain: str,
    pulls: tuple[NDArray[np.int64], NDArray[np.float64]],
    own_ids: NDArray[np.str_],
) -> pl.DataFrame:
    """Contract `selection/subset`, of a walk over rows with these ids (n,), for validation rows with those (v,).

    The pulls are those that `core.knowledge.strongest_pulls` gives.
    """
    pulled_by = [
        [{"row_id": str(own_ids[row]), "cosine": float(cosine)} for row, cosine in zip(*pair, strict=True)]
        for pair in zip(*pulls, strict=True)
    ]
    taken = {"order": np.arange(len(walk.rows)), "row_id": walk.rows, "pulled_by": pulled_by}
    return _named(SUBSET, vars(walk) | taken, ids, domain)


def left_table(walk: Walk, ids: NDArray[np.str_], domain: str) -> pl.DataFrame:
    """Contract `selection/subset left`: eligible rows that no component took."""
    left = np.setdiff1d(np.arange(len(ids)), walk.rows)
    left = left[np.argsort(ids[left], kind="stable")]
    parts = [pl.DataFrame(schema=LEFT.schema)]
    for component, seen in enumerate(walk.refusals):
        if seen is not None:
            of_left = {name: array[left] for name, array in vars(seen).items() if isinstance(array, np.ndarray)}
            parts.append(
                _named(LEFT, of_left | {"component": np.full(len(left), component), "row_id": left}, ids, domain)
            )
    return pl.concat(parts)


def _named(contract: Contract, arrays: Mapping[str, Any], ids: NDArray[np.str_], domain: str) -> pl.DataFrame:
    """A table of a walk's arrays, with ids for row numbers and null for what stands for none, -1 and NaN."""
    values: dict[str, Any] = {"domain": [domain] * len(arrays["row_id"])}
    for name, column in contract.columns.items():
        if column.row_of and name in arrays:
            values[name] = [str(ids[row]) if row >= 0 else None for row in arrays[name]]
        elif name != "domain":
            values[name] = arrays.get(name, [None] * len(arrays["row_id"]))
    numbers = [pl.col(n).replace(-1, None) for n, c in contract.columns.items() if c.nullable and c.dtype == pl.Int32]
    return pl.DataFrame(values, schema=contract.schema).with_columns(pl.col(pl.Float64).fill_nan(None), *numbers)


def budgets_table(walk: Walk, domain: str, weights: NDArray[np.float64], budgets: NDArray[np.int64]) -> pl.DataFrame:
    """Contract `selection/subset budgets`, from the weights (c,) and budgets (c,) of the components."""
    return pl.DataFrame(
        {
            "domain": [domain] * len(budgets),
            "component": np.arange(len(budgets)),
            "weight": weights,
            "budget": budgets,
            "n_taken": np.bincount(walk.component, minlength=len(budgets)),
            "n_choices": [0 if seen is None else seen.n_choices for seen in walk.refusals],
            "ended": walk.ended,
        },
        schema=BUDGETS.schema,
    )


def count_refusals(
    left: pl.DataFrame, budgets: pl.DataFrame, min_core_cosine: float | None, distortion: float
) -> dict[str, int]:
    """How many candidates each rule refused, a candidate being a row left and a component.

    A conflict counts where a choice came after it: with the last row taken, none did. A row below the floor is refused
    by that alone. The distortion is the standard error of a sketched cosine near 0.
    """
    floor = -np.inf if min_core_cosine is None else min_core_cosine
    above = left.filter(pl.col("core_cosine") >= floor).join(budgets.select("component", "n_choices"), on="component")
    earlier = pl.col("conflict_component") != pl.col("component")
    conflict = above.filter(earlier | (pl.col("conflict_step") < pl.col("n_choices")))
    return {
        "n_candidates": len(left),
        "n_refused_by_conflict": len(conflict),
        "n_refused_within_distortion": conflict.filter(pl.col("conflict_cosine") > -distortion).height,
        "n_refused_by_consistency": left.filter(pl.col("n_inconsistent") > 0).height,
        "n_refused_by_core_cosine": len(left) - len(above),
    }
