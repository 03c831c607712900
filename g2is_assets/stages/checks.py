"""What a version's checks say of it: the checks in the UI ask for the current one, `audit/report` for the one it shows.

Each reads what its evaluator needs; the sentence below a function is the check's description in the UI and on the page.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts.graph import EDGES, NODES
from g2is_assets.contracts.knowledge import COMPONENTS
from g2is_assets.contracts.selection import BUDGETS, EXCLUDED, LEFT, SUBSET
from g2is_assets.core.balance import mean_feature
from g2is_assets.reports.page.material import Checked
from g2is_assets.settings.selection import selection_settings
from g2is_assets.stages import evaluators
from g2is_assets.stages.balanced import balance_was_kept
from g2is_assets.stages.evaluators import Verdict, WalkRules
from g2is_assets.stages.features import all_rows, stored_features
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.version import Version


def graph_is_sound(workspace: Workspace, version: Version) -> Verdict:
    """Neighbours and conflicts are sorted, no row is its own, and an edge has the same cosine from both ends."""
    nodes, edges = version.read(NODES), version.read(EDGES)
    return evaluators.graph_is_sound(nodes, edges)


def components_are_orthonormal_and_oriented(workspace: Workspace, version: Version) -> Verdict:
    """Core-knowledge directions are orthonormal, and each points towards the mean validation gradient."""
    gradients = workspace.lake.input_of(version, "gradients/target", version.manifest.partition)
    mean = all_rows(stored_features(workspace, gradients, "sgd")[1]).mean(axis=0)
    nodes = version.manifest.settings["nodes"]
    return evaluators.components_are_orthonormal_and_oriented(_directions(version), mean, nodes)


def subset_keeps_the_rules(workspace: Workspace, version: Version) -> Verdict:
    """No rows conflict that must not, and every step kept its consistency; all cosines taken anew from the store.

    Every step of a balanced walk is made again, against all rows that were there.
    """
    domain = version.manifest.partition
    settings = selection_settings(version.manifest.settings)
    rules = WalkRules(**{f.name: getattr(settings, f.name) for f in fields(WalkRules)})
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
        return evaluators.subset_keeps_the_rules(subset, features, cores, rules)
    own = workspace.lake.input_of(version, "gradients/target", domain)
    validation = all_rows(stored_features(workspace, own, "sgd")[1])
    kept = evaluators.subset_keeps_the_rules(subset, features, mean_feature(validation)[None], rules)
    balance = (settings.redundancy, settings.fair)
    return kept.also(balance_was_kept(subset, left, row_ids, source, validation, *balance, rules))


def budgets_add_up(workspace: Workspace, version: Version) -> Verdict:
    """The components' budgets sum to the domain's, together they took the subset's rows, a shortfall has its cause."""
    budgets = version.read(BUDGETS)
    total, reallocate = (
        int(version.manifest.metrics["budget"]),
        selection_settings(version.manifest.settings).reallocate,
    )
    return evaluators.budgets_add_up(budgets, version.manifest.n_rows["subset"], total, reallocate)


def constraints_bite(workspace: Workspace, version: Version) -> Verdict:
    """Every rule of the walk that is in force refused some candidate; a rule that refuses nothing does nothing."""
    settings = selection_settings(version.manifest.settings)
    ruled = {
        "conflict": settings.no_conflict,
        "consistency": settings.delta > 0,
        "core_cosine": settings.min_core_cosine is not None,
    }
    graph = workspace.lake.input_of(version, "graph/neighbors")
    return evaluators.constraints_bite(version.manifest.metrics, graph.manifest.metrics, ruled)


def walk_stays_home(workspace: Workspace, version: Version) -> Verdict:
    """The subset's mean gradient is nearer to that of the plain top rows than to that of a random subset."""
    return evaluators.walk_stays_home(version.manifest.metrics)


def pool_is_free_of_leaks(workspace: Workspace, version: Version) -> Verdict:
    """No pool row repeats a validation or test row; those that do are never trained on, unless the domain says so."""
    excluded = version.read(EXCLUDED)
    return evaluators.pool_is_free_of_leaks(excluded, bool(version.manifest.settings["allow_leaks"]))


def tuned_beats_base_and_random(workspace: Workspace, version: Version) -> Verdict:
    """The G2IS adapter is better than the base model and than a random subset of the same size."""
    return evaluators.tuned_beats(version.manifest.metrics)


@dataclass(frozen=True)
class Examined:
    """One check of a version.

    Attributes:
        asset: Whose version it is of.
        evaluate: Gives the verdict.
        severity: Of a failure: `error`, or `warning` for a finding.
        beside: What else it looks at and runs after, besides the asset.
    """

    asset: str
    evaluate: Callable[[Workspace, Version], Verdict]
    severity: Literal["error", "warning"]
    beside: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The check's name."""
        return self.evaluate.__name__

    @property
    def description(self) -> str:
        """What it says if it passes."""
        return " ".join((self.evaluate.__doc__ or "").split())


EXAMINED: Final = (
    Examined("graph/neighbors", graph_is_sound, "error"),
    Examined("knowledge/components", components_are_orthonormal_and_oriented, "error"),
    Examined("selection/subset", subset_keeps_the_rules, "error"),
    Examined("selection/subset", budgets_add_up, "error"),
    Examined("selection/subset", constraints_bite, "warning", ("graph/neighbors",)),
    Examined("selection/subset", walk_stays_home, "warning"),
    Examined("selection/subset", pool_is_free_of_leaks, "warning"),
    Examined("finetune/evaluation", tuned_beats_base_and_random, "warning"),
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


def _directions(knowledge: Version) -> NDArray[np.float32]:
    return knowledge.read(COMPONENTS)["direction"].to_numpy()
