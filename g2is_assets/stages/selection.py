"""Stage `selection`: the gradient walk's subset."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from g2is_assets.contracts.instructions import count_tokens
from g2is_assets.contracts.knowledge import COMPONENTS
from g2is_assets.contracts.selection import BUDGETS, EXCLUDED, LEFT, SUBSET
from g2is_assets.core.knowledge import measure_home, strongest_pulls
from g2is_assets.settings.project import Project
from g2is_assets.stages.choosing import Chooser
from g2is_assets.stages.features import stored_features
from g2is_assets.stages.stage import MadeFrom, Place, Task, Versions, stage
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.version import Draft
from g2is_assets.store.walk_tables import budgets_table, count_refusals, left_table, subset_table


def _inputs(project: Project, place: Place) -> Sequence[str]:
    """A balanced walk reads no nodes, and no walk the edges that are stored."""
    read = ["gradients/pool", "gradients/target", "graph/neighbors/groups", "instructions/pool", "instructions/target"]
    balanced = project.domain(place.domain).selection.walk == "balanced"
    return read if balanced else [*read, "knowledge/components"]


def _from(workspace: Workspace, place: Place, _: Versions) -> MadeFrom:
    return MadeFrom(workspace.project.domain(place.domain).selection.model_dump(mode="json"))


@stage("selection/subset", "domain", "5", {"numpy", "parquet"}, inputs=_inputs, made_from=_from)
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
    found = chooser.choose(problem)
    walk, ids = found.walk, np.array(chooser.row_ids)[chooser.eligible]
    assert walk is not None and found.split is not None
    source, validation = problem.gradient_features(settings.kind, settings.mean_removed)
    own_ids, _ = stored_features(task.workspace, task.version("gradients/target"), "sgd")
    pulls = strongest_pulls(source, walk.rows, validation)
    table, left = subset_table(walk, ids, domain, pulls, np.array(own_ids)), left_table(walk, ids, domain)
    split = budgets_table(walk, domain, *found.split)
    draft.write(SUBSET, table)
    draft.write(BUDGETS, split)
    draft.write(LEFT, left)
    draft.write(EXCLUDED, chooser.excluded.select(pl.lit(domain).alias("domain"), pl.all()))
    taken = table.join(chooser.pool, on="row_id", how="inner")
    draft.metric(budget=problem.budget, n_short_of_budget=problem.budget - len(table), n_tokens=count_tokens(taken))
    draft.metric(n_sources=taken["sources"].explode().n_unique())
    n_leaks = int(chooser.excluded["split"].is_not_null().sum())
    draft.metric(n_excluded=len(chooser.excluded), n_leaks=n_leaks)
    distortion = source.shape[1] ** -0.5  # standard error of a sketched cosine near 0
    draft.metric(**count_refusals(left, split, settings.min_core_cosine, distortion))
    home = measure_home(source, walk.rows, validation)
    draft.metric(home_cosine=home.subset, home_cosine_random=home.random, home_cosine_top=home.top)
    draft.metric(n_validation_unserved=home.unserved, n_validation_unserved_top=home.unserved_top)
