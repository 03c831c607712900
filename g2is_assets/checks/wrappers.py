"""The checks as Dagster sees them: read what the evaluator needs, hand it over, report.

A check of a domain's asset looks at the run's partition; started alone, without one, at every domain there is.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields

import dagster as dg
import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.assets.features import all_rows, stored_features
from g2is_assets.auditing import examine, reported_digests
from g2is_assets.checks import evaluators
from g2is_assets.checks.balanced import balance_was_kept
from g2is_assets.checks.evaluators import Verdict, WalkRules
from g2is_assets.config import SelectionSettings
from g2is_assets.contracts import graph as graph_contracts
from g2is_assets.contracts import knowledge as knowledge_contracts
from g2is_assets.contracts import selection as selection_contracts
from g2is_assets.contracts import warmup as warmup_contracts
from g2is_assets.core.balance import mean_feature
from g2is_assets.resources import Workspace
from g2is_assets.storage.lake import Version
from g2is_assets.storage.withdrawals import read_withdrawals
from g2is_assets.storage.withholding import licenses_of

PARTITION_TAG = "dagster/partition"


@dg.asset_check(asset=["warmup", "sample"], additional_deps=[["instructions", "pool"]])
def sample_holds_no_withheld_row(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """No row that the checkpoint was trained on is withdrawn (a warning) or under a denied licence (an error)."""
    sample = workspace.lake.current("warmup/sample")
    verdict = evaluators.sample_holds_no_withheld_row(
        sample.table("sample", warmup_contracts.SAMPLE)["row_id"],
        licenses_of(workspace.lake, sample),
        workspace.project.settings.licenses,
        read_withdrawals(workspace.project.withdrawn),
    )
    error = verdict.numbers["n_denied"] > 0
    return _result({"sample": verdict}, dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset=["gradients", "pool"])
def features_are_unit(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """Every pool vector of every kind is finite and of norm 1 within half precision."""
    gradients = workspace.lake.current("gradients/pool")

    def evaluate(kind: str) -> Verdict:
        source = stored_features(workspace, gradients, kind)[1]
        return evaluators.features_are_unit(values for _, values in source.blocks())

    kinds = workspace.project.settings.gradients.kinds
    return _result({kind: evaluate(kind) for kind in kinds}, dg.AssetCheckSeverity.ERROR)


@dg.asset_check(asset=["graph", "neighbors"])
def graph_is_sound(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """Neighbours and conflicts are sorted, no row is its own, and an edge has the same cosine from both ends."""
    graph = workspace.lake.current("graph/neighbors")
    nodes, edges = graph.table("neighbors", graph_contracts.NODES), graph.table("edges", graph_contracts.EDGES)
    return _result({"graph": evaluators.graph_is_sound(nodes, edges)}, dg.AssetCheckSeverity.ERROR)


@dg.asset_check(asset=["knowledge", "components"])
def components_are_orthonormal_and_oriented(
    context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.AssetCheckResult:
    """Core-knowledge directions are orthonormal, and each points towards the mean validation gradient."""

    def evaluate(domain: str) -> Verdict:
        version = workspace.lake.current("knowledge/components", domain)
        gradients = workspace.lake.input_of(version, "gradients/target", domain)
        mean = all_rows(stored_features(workspace, gradients, "sgd")[1]).mean(axis=0)
        nodes = version.manifest.settings["nodes"]
        return evaluators.components_are_orthonormal_and_oriented(_directions(version, len(mean)), mean, nodes)

    return _per_domain(context, workspace, "knowledge/components", evaluate, dg.AssetCheckSeverity.ERROR)


@dg.asset_check(asset=["selection", "subset"])
def subset_keeps_the_rules(
    context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.AssetCheckResult:
    """No rows conflict that must not, and every step kept its consistency; all cosines taken anew from the store.

    Every step of a balanced walk is made again, against all rows that were there.
    """

    def evaluate(domain: str) -> Verdict:
        version = workspace.lake.current("selection/subset", domain)
        settings = SelectionSettings.model_validate(version.manifest.settings)
        rules = WalkRules(**settings.model_dump(include={f.name for f in fields(WalkRules)}))
        subset = version.table("subset", selection_contracts.SUBSET)
        left = version.table("left", selection_contracts.LEFT) if settings.next_row == "balance" else None
        seen = subset["row_id"] if left is None else pl.concat([subset["row_id"], left["row_id"]])
        gradients = workspace.lake.input_of(version, "gradients/pool")
        row_ids, source = stored_features(
            workspace, gradients, settings.kind, mean_removed=settings.mean_removed, rows=seen
        )
        position = {row_id: number for number, row_id in enumerate(row_ids)}
        features = source.rows(np.array([position[row_id] for row_id in subset["row_id"]]))
        if left is None:
            cores = _directions(workspace.lake.input_of(version, "knowledge/components", domain), source.shape[1])
            return evaluators.subset_keeps_the_rules(subset, features, cores, rules)
        own = workspace.lake.input_of(version, "gradients/target", domain)
        validation = all_rows(stored_features(workspace, own, "sgd")[1])
        kept = evaluators.subset_keeps_the_rules(subset, features, mean_feature(validation)[None], rules)
        return kept.also(balance_was_kept(subset, left, row_ids, source, validation, settings.redundancy, rules))

    return _per_domain(context, workspace, "selection/subset", evaluate, dg.AssetCheckSeverity.ERROR)


@dg.asset_check(asset=["selection", "subset"])
def budgets_add_up(
    context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.AssetCheckResult:
    """The components' budgets sum to the domain's, together they took the subset's rows, a shortfall has its cause."""

    def evaluate(domain: str) -> Verdict:
        version = workspace.lake.current("selection/subset", domain)
        budgets = version.table("budgets", selection_contracts.BUDGETS)
        total, reallocate = int(version.manifest.metrics["budget"]), bool(version.manifest.settings["reallocate"])
        return evaluators.budgets_add_up(budgets, version.manifest.n_rows["subset"], total, reallocate)

    return _per_domain(context, workspace, "selection/subset", evaluate, dg.AssetCheckSeverity.ERROR)


@dg.asset_check(asset=["selection", "subset"], additional_deps=[["graph", "neighbors"]])
def constraints_bite(
    context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.AssetCheckResult:
    """Every rule of the walk that is in force refused some candidate; a rule that refuses nothing does nothing."""

    def evaluate(domain: str) -> Verdict:
        version = workspace.lake.current("selection/subset", domain)
        settings = version.manifest.settings
        ruled = {
            "conflict": settings.get("no_conflict", True),
            "consistency": settings["delta"] > 0,
            "core_cosine": settings["min_core_cosine"] is not None,
        }
        graph = workspace.lake.input_of(version, "graph/neighbors")
        return evaluators.constraints_bite(version.manifest.metrics, graph.manifest.metrics, ruled)

    return _per_domain(context, workspace, "selection/subset", evaluate, dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset=["selection", "subset"])
def walk_stays_home(
    context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.AssetCheckResult:
    """The subset's mean gradient is nearer to that of the plain top rows than to that of a random subset."""

    def evaluate(domain: str) -> Verdict:
        return evaluators.walk_stays_home(workspace.lake.current("selection/subset", domain).manifest.metrics)

    return _per_domain(context, workspace, "selection/subset", evaluate, dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset=["selection", "subset"])
def pool_is_free_of_leaks(
    context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.AssetCheckResult:
    """No pool row repeats a validation or test row; those that do are never trained on, unless the domain says so."""

    def evaluate(domain: str) -> Verdict:
        version = workspace.lake.current("selection/subset", domain)
        excluded = version.table("excluded", selection_contracts.EXCLUDED)
        return evaluators.pool_is_free_of_leaks(excluded, bool(version.manifest.settings["allow_leaks"]))

    return _per_domain(context, workspace, "selection/subset", evaluate, dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset=["finetune", "evaluation"])
def tuned_beats_base_and_random(
    context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.AssetCheckResult:
    """The G2IS adapter is better than the base model and than a random subset of the same size."""

    def evaluate(domain: str) -> Verdict:
        return evaluators.tuned_beats(workspace.lake.current("finetune/evaluation", domain).manifest.metrics)

    return _per_domain(context, workspace, "finetune/evaluation", evaluate, dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset=["audit", "lineage"], additional_deps=[["finetune", "adapter"]])
def chain_is_whole(
    context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.AssetCheckResult:
    """Every digest behind the adapter, recomputed, is the one that was recorded, back to the source files."""

    def evaluate(domain: str) -> Verdict:
        adapter = workspace.lake.current("finetune/adapter", domain)
        witness = reported_digests(context.instance, adapter)
        found = examine(workspace.project, workspace.lake, adapter, witness, current=True)
        return evaluators.chain_is_whole(found.findings, len(found.chain), found.n_files)

    return _per_domain(context, workspace, "audit/lineage", evaluate, dg.AssetCheckSeverity.ERROR)


CHECKS = [
    sample_holds_no_withheld_row,
    features_are_unit,
    graph_is_sound,
    components_are_orthonormal_and_oriented,
    subset_keeps_the_rules,
    budgets_add_up,
    constraints_bite,
    walk_stays_home,
    pool_is_free_of_leaks,
    tuned_beats_base_and_random,
    chain_is_whole,
]


def _directions(knowledge: Version, sketch_dim: int) -> NDArray[np.float32]:
    return knowledge.table("components", knowledge_contracts.components(sketch_dim))["direction"].to_numpy()


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
