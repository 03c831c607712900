"""What a version's checks say of it: the checks in the UI ask for the current one, `audit/report` for the one it shows.

Each reads of the version, and of what it was made from, what its evaluator needs.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts.graph import EDGES, NODES
from g2is_assets.contracts.instructions import TARGET
from g2is_assets.contracts.knowledge import COMPONENTS
from g2is_assets.contracts.selection import BUDGETS, EXCLUDED, LEFT, SUBSET
from g2is_assets.core.balance import mean_feature
from g2is_assets.reports.page.material import Checked
from g2is_assets.settings.selection import AnySelection, selection_settings
from g2is_assets.stages import evaluators
from g2is_assets.stages.choosing import EDGES_READ
from g2is_assets.stages.evaluators import Verdict
from g2is_assets.stages.features import all_rows, stored_edges, stored_features
from g2is_assets.stages.warmup import of_sample, sample_stands_for_the_pool
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.version import Version


def subset_keeps_the_rules(workspace: Workspace, version: Version) -> Verdict:
    """No rows conflict that must not, and every step kept its consistency; all cosines taken anew from the store.

    Every step of a balanced walk is made again, against all rows that were there.
    """
    domain, settings = version.manifest.partition, _settings(version)
    subset = version.read(SUBSET)
    left = version.read(LEFT) if settings.walk == "balanced" else None
    seen = subset["row_id"] if left is None else pl.concat([subset["row_id"], left["row_id"]])
    gradients = workspace.lake.input_of(version, "gradients/pool")
    row_ids, source = stored_features(
        workspace, gradients, settings.kind, mean_removed=settings.mean_removed, rows=seen
    )
    position = {row_id: number for number, row_id in enumerate(row_ids)}
    features = source.rows(np.array([position[row_id] for row_id in subset["row_id"]]))
    if left is None or settings.walk != "balanced":
        cores = _directions(workspace.lake.input_of(version, "knowledge/components", domain))
        return evaluators.subset_keeps_the_rules(subset, features, cores, settings)
    validation = _validation(workspace, version)
    kept = evaluators.subset_keeps_the_rules(subset, features, mean_feature(validation)[None], settings)
    edges = None
    if settings.neighbours_only:
        edges = stored_edges(workspace.lake.input_of(version, EDGES_READ), row_ids, settings)
    return kept.also(evaluators.balance_was_kept(subset, left, row_ids, source, validation, settings, edges))


@dataclass(frozen=True)
class Examined:
    """One check of a version.

    Attributes:
        asset: Whose version it is of.
        evaluator: Gives the verdict; its name and docstring are those of the check.
        severity: Of a failure: `error`, or `warning` for a finding.
        read: What the evaluator is given of a version: its metrics by default.
        beside: What else it looks at and runs after, besides the asset.
    """

    asset: str
    evaluator: Callable[..., Verdict]
    severity: Literal["error", "warning"]
    read: Callable[[Workspace, Version], tuple[Any, ...]] = lambda _, version: (version.manifest.metrics,)
    beside: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The check's name."""
        return self.evaluator.__name__

    @property
    def description(self) -> str:
        """What it says if it passes."""
        return " ".join((inspect.getdoc(self.evaluator) or "").partition("Args:")[0].split())

    def evaluate(self, workspace: Workspace, version: Version) -> Verdict:
        """What it says of a version."""
        return self.evaluator(*self.read(workspace, version))


def _settings(subset: Version) -> AnySelection:
    return selection_settings(subset.manifest.settings)


def _directions(knowledge: Version) -> NDArray[np.float32]:
    return knowledge.read(COMPONENTS)["direction"].to_numpy()


def _validation(workspace: Workspace, version: Version) -> NDArray[np.float32]:
    """(v, d) gradients of the domain's validation rows that a version was made from."""
    gradients = workspace.lake.input_of(version, "gradients/target", version.manifest.partition)
    return all_rows(stored_features(workspace, gradients, "sgd")[1])


def _of_knowledge(workspace: Workspace, version: Version) -> tuple[Any, ...]:
    mean = _validation(workspace, version).mean(axis=0)
    return _directions(version), mean, version.manifest.settings["nodes"]


def _of_budgets(_: Workspace, version: Version) -> tuple[Any, ...]:
    made = version.manifest
    return version.read(BUDGETS), made.n_rows["subset"], int(made.metrics["budget"]), _settings(version).reallocate


def _of_rules(workspace: Workspace, version: Version) -> tuple[Any, ...]:
    graph = workspace.lake.input_of(version, "graph/neighbors")
    return version.manifest.metrics, graph.manifest.metrics, _settings(version)


def _of_leaks(workspace: Workspace, version: Version) -> tuple[Any, ...]:
    own = workspace.lake.input_of(version, "instructions/target", version.manifest.partition)
    return version.read(EXCLUDED), _settings(version).allow_leaks, own.read(TARGET)


EXAMINED: Final = (
    Examined(
        "warmup/sample",
        sample_stands_for_the_pool,
        "warning",
        of_sample,
        ("instructions/pool",),
    ),
    Examined(
        "graph/neighbors",
        evaluators.graph_is_sound,
        "error",
        lambda _, version: (version.read(NODES), version.read(EDGES)),
    ),
    Examined("knowledge/components", evaluators.components_are_orthonormal_and_oriented, "error", _of_knowledge),
    Examined("selection/subset", subset_keeps_the_rules, "error", lambda workspace, version: (workspace, version)),
    Examined("selection/subset", evaluators.budgets_add_up, "error", _of_budgets),
    Examined("selection/subset", evaluators.constraints_bite, "warning", _of_rules, ("graph/neighbors",)),
    Examined("selection/subset", evaluators.walk_stays_home, "warning"),
    Examined(
        "selection/subset",
        evaluators.pool_is_free_of_leaks,
        "warning",
        _of_leaks,
    ),
    Examined("finetune/evaluation", evaluators.tuned_beats_base_and_random, "warning"),
)
"""Checks that depend on nothing but the version and what it was made from."""


def checked(workspace: Workspace, versions: Mapping[str, Version]) -> list[Checked]:
    """Results of all of these checks, of the versions by asset."""
    found = []
    for check in EXAMINED:
        verdict = check.evaluate(workspace, versions[check.asset])
        said = (check.name, check.description, check.severity, verdict.passed, verdict.description)
        found.append(Checked(*said))
    return found
