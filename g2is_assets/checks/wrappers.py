"""The checks as Dagster sees them: read what the evaluator needs, hand it over, report."""

import dagster as dg
import numpy as np
import polars as pl

from g2is_assets.assets.features import stored_features
from g2is_assets.checks import evaluators
from g2is_assets.checks.evaluators import Verdict
from g2is_assets.contracts import knowledge as knowledge_contracts
from g2is_assets.contracts import selection as selection_contracts
from g2is_assets.resources import Workspace
from g2is_assets.storage.lake import Version


def build_checks(partitions: dg.PartitionsDefinition[str]) -> list[dg.AssetChecksDefinition]:
    """All checks; those of domain assets run per partition."""

    @dg.asset_check(asset=["gradients", "pool"], name="features_are_unit")
    def pool_features_are_unit(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
        """Every pool vector of every kind is finite and of norm 1 within half precision."""
        gradients = workspace.lake.current("gradients/pool")
        kinds = workspace.project.settings.gradients.kinds
        verdicts = [evaluators.features_are_unit(stored_features(workspace, gradients, kind)[1]) for kind in kinds]
        return _result(min(verdicts, key=lambda verdict: verdict.passed), dg.AssetCheckSeverity.ERROR)

    @dg.asset_check(asset=["knowledge", "components"], partitions_def=partitions)
    def components_are_orthonormal_and_oriented(
        context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
    ) -> dg.AssetCheckResult:
        """Core-knowledge directions are orthonormal, and each points towards the mean validation gradient."""
        knowledge = _current(context, workspace, "knowledge/components")
        _, features = stored_features(workspace, _current(context, workspace, "gradients/target"), "sgd")
        contract = knowledge_contracts.components(features.shape[1])
        directions = knowledge.table("components", contract)["direction"].to_numpy()
        mean = features.astype(np.float32).mean(axis=0)
        verdict = evaluators.components_are_orthonormal_and_oriented(directions, mean)
        return _result(verdict, dg.AssetCheckSeverity.ERROR)

    @dg.asset_check(asset=["selection", "subset"], partitions_def=partitions)
    def subset_keeps_the_rules(
        context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
    ) -> dg.AssetCheckResult:
        """No two rows of a component conflict, and every step kept its consistency; recomputed from the store."""
        settings = workspace.project.domain(context.partition_key).selection
        subset = _current(context, workspace, "selection/subset").table("subset", selection_contracts.SUBSET)
        row_ids, features = stored_features(workspace, workspace.lake.current("gradients/pool"), settings.kind)
        position = pl.DataFrame({"row_id": row_ids}).with_row_index("position")
        where = subset.join(position, on="row_id", how="left", maintain_order="left")["position"]
        verdict = evaluators.subset_keeps_the_rules(subset, features[where.to_numpy()], settings.delta)
        return _result(verdict, dg.AssetCheckSeverity.ERROR)

    @dg.asset_check(asset=["selection", "subset"], partitions_def=partitions)
    def budgets_add_up(
        context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
    ) -> dg.AssetCheckResult:
        """The components' budgets sum to the domain's, and together they took the subset's rows."""
        version = _current(context, workspace, "selection/subset")
        budgets = version.table("budgets", selection_contracts.BUDGETS)
        total = int(version.manifest.metrics["budget"])
        return _result(
            evaluators.budgets_add_up(budgets, version.manifest.n_rows["subset"], total), dg.AssetCheckSeverity.ERROR
        )

    @dg.asset_check(asset=["finetune", "evaluation"], partitions_def=partitions)
    def tuned_beats_base_and_random(
        context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
    ) -> dg.AssetCheckResult:
        """The G2IS adapter is better than the base model and than a random subset of the same size."""
        version = _current(context, workspace, "finetune/evaluation")
        return _result(evaluators.tuned_beats(version.manifest.metrics), dg.AssetCheckSeverity.WARN)

    return [
        pool_features_are_unit,
        components_are_orthonormal_and_oriented,
        subset_keeps_the_rules,
        budgets_add_up,
        tuned_beats_base_and_random,
    ]


def _current(context: dg.AssetCheckExecutionContext, workspace: Workspace, asset: str) -> Version:
    return workspace.lake.current(asset, context.partition_key)


def _result(verdict: Verdict, severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=verdict.passed, severity=severity, description=verdict.description, metadata=verdict.numbers
    )
