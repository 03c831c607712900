"""The checks as Dagster sees them: read what the evaluator needs, hand it over, report.

A check of a domain's asset looks at the run's partition; started alone, without one, at every domain there is.
"""

from collections.abc import Callable, Mapping

import dagster as dg
import numpy as np
import polars as pl

from g2is_assets.assets.features import stored_features
from g2is_assets.checks import evaluators
from g2is_assets.checks.evaluators import Verdict
from g2is_assets.contracts import knowledge as knowledge_contracts
from g2is_assets.contracts import selection as selection_contracts
from g2is_assets.resources import Workspace

PARTITION_TAG = "dagster/partition"


@dg.asset_check(asset=["gradients", "pool"])
def features_are_unit(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """Every pool vector of every kind is finite and of norm 1 within half precision."""
    gradients = workspace.lake.current("gradients/pool")
    kinds = workspace.project.settings.gradients.kinds
    verdicts: dict[str, Verdict] = {
        kind: evaluators.features_are_unit(stored_features(workspace, gradients, kind)[1]) for kind in kinds
    }
    return _result(verdicts, dg.AssetCheckSeverity.ERROR)


@dg.asset_check(asset=["knowledge", "components"])
def components_are_orthonormal_and_oriented(
    context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.AssetCheckResult:
    """Core-knowledge directions are orthonormal, and each points towards the mean validation gradient."""

    def evaluate(domain: str) -> Verdict:
        _, features = stored_features(workspace, workspace.lake.current("gradients/target", domain), "sgd")
        contract = knowledge_contracts.components(features.shape[1])
        directions = workspace.lake.current("knowledge/components", domain).table("components", contract)["direction"]
        mean = features.astype(np.float32).mean(axis=0)
        return evaluators.components_are_orthonormal_and_oriented(directions.to_numpy(), mean)

    return _per_domain(context, workspace, "knowledge/components", evaluate, dg.AssetCheckSeverity.ERROR)


@dg.asset_check(asset=["selection", "subset"])
def subset_keeps_the_rules(
    context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.AssetCheckResult:
    """No two rows of a component conflict, cosines taken anew from the store; consistency as the walk recorded it."""

    def evaluate(domain: str) -> Verdict:
        settings = workspace.project.domain(domain).selection
        subset = workspace.lake.current("selection/subset", domain).table("subset", selection_contracts.SUBSET)
        row_ids, features = stored_features(workspace, workspace.lake.current("gradients/pool"), settings.kind)
        position = pl.DataFrame({"row_id": row_ids}).with_row_index("position")
        where = subset.join(position, on="row_id", how="left", maintain_order="left")["position"]
        return evaluators.subset_keeps_the_rules(subset, features[where.to_numpy()], settings.delta)

    return _per_domain(context, workspace, "selection/subset", evaluate, dg.AssetCheckSeverity.ERROR)


@dg.asset_check(asset=["selection", "subset"])
def budgets_add_up(
    context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.AssetCheckResult:
    """The components' budgets sum to the domain's, and together they took the subset's rows."""

    def evaluate(domain: str) -> Verdict:
        version = workspace.lake.current("selection/subset", domain)
        budgets = version.table("budgets", selection_contracts.BUDGETS)
        total = int(version.manifest.metrics["budget"])
        return evaluators.budgets_add_up(budgets, version.manifest.n_rows["subset"], total)

    return _per_domain(context, workspace, "selection/subset", evaluate, dg.AssetCheckSeverity.ERROR)


@dg.asset_check(asset=["finetune", "evaluation"])
def tuned_beats_base_and_random(
    context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.AssetCheckResult:
    """The G2IS adapter is better than the base model and than a random subset of the same size."""

    def evaluate(domain: str) -> Verdict:
        return evaluators.tuned_beats(workspace.lake.current("finetune/evaluation", domain).manifest.metrics)

    return _per_domain(context, workspace, "finetune/evaluation", evaluate, dg.AssetCheckSeverity.WARN)


CHECKS = [
    features_are_unit,
    components_are_orthonormal_and_oriented,
    subset_keeps_the_rules,
    budgets_add_up,
    tuned_beats_base_and_random,
]


def _per_domain(
    context: dg.AssetCheckExecutionContext,
    workspace: Workspace,
    asset: str,
    evaluate: Callable[[str], Verdict],
    severity: dg.AssetCheckSeverity,
) -> dg.AssetCheckResult:
    domain = context.run.tags.get(PARTITION_TAG)
    names = [domain] if domain else [d for d in sorted(workspace.project.domains) if workspace.lake.find(asset, d)]
    return _result({name: evaluate(name) for name in names}, severity)


def _result(verdicts: Mapping[str, Verdict], severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    """One result of one or several verdicts, each named."""
    lines = [f"{name}: {verdict.description}" for name, verdict in verdicts.items()]
    numbers = {f"{name}/{key}": value for name, v in verdicts.items() for key, value in v.numbers.items()}
    return dg.AssetCheckResult(
        passed=bool(verdicts) and all(verdict.passed for verdict in verdicts.values()),
        severity=severity,
        description="; ".join(lines) or "nothing has been materialised yet",
        metadata=numbers,
    )
