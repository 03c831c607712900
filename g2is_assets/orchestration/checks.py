"""The checks as Dagster sees them: read what the evaluator needs, hand it over, report.

A check of a domain's asset looks at the run's partition; started alone, without one, at every domain there is.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import dagster as dg

from g2is_assets.contracts import warmup as warmup_contracts
from g2is_assets.orchestration.auditing import examine, history_of
from g2is_assets.reports.words import rounded
from g2is_assets.stages import evaluators
from g2is_assets.stages.checks import EXAMINED, Examined
from g2is_assets.stages.evaluators import Verdict
from g2is_assets.stages.features import stored_features
from g2is_assets.stages.frame import stage_of
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.withholding import licenses_of, read_withdrawals


@dg.asset_check(asset=["warmup", "sample"], additional_deps=[["instructions", "pool"]])
def sample_holds_no_withheld_row(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """No row that the checkpoint was trained on is withdrawn (a warning) or under a denied licence (an error)."""
    sample = workspace.lake.current("warmup/sample")
    verdict = evaluators.sample_holds_no_withheld_row(
        sample.read(warmup_contracts.SAMPLE)["row_id"],
        licenses_of(workspace.lake, sample),
        workspace.project.settings.licenses,
        read_withdrawals(workspace.project.withdrawn),
    )
    return _result({"sample": verdict}, "error" if verdict.numbers["n_denied"] else "warning")


@dg.asset_check(asset=["gradients", "pool"])
def directions_are_stored(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """Every pool vector of every kind has a direction: codes of which the largest is that of its bits."""
    gradients = workspace.lake.current("gradients/pool")
    verdicts: dict[str, Verdict] = {}
    for kind in workspace.project.settings.gradients.kinds:
        source = stored_features(workspace, gradients, kind)[1]
        codes = (values for _, values in source.blocks())
        verdicts[kind] = evaluators.directions_are_stored(codes, gradients.manifest.settings["bits"])
    return _result(verdicts, "error")


def _check(examined: Examined) -> dg.AssetChecksDefinition:
    """The check of the current version, of an asset that domains share or of a domain's."""
    asset = examined.asset

    @dg.asset_check(
        asset=asset.split("/"),
        name=examined.name,
        description=examined.description,
        additional_deps=[other.split("/") for other in examined.beside],
    )
    def check(context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
        if stage_of(asset).partition == "project":
            verdict = examined.evaluate(workspace, workspace.lake.current(asset))
            return _result({asset.split("/")[0]: verdict}, examined.severity)

        def evaluate(domain: str) -> Verdict:
            return examined.evaluate(workspace, workspace.lake.current(asset, domain))

        return _result(_per_domain(context, workspace, asset, evaluate), examined.severity)

    return check


@dg.asset_check(asset=["audit", "lineage"], additional_deps=[["finetune", "adapter"]])
def chain_is_whole(
    context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.AssetCheckResult:
    """Every digest behind the adapter, recomputed, is the one that was recorded, back to the source files."""

    def evaluate(domain: str) -> Verdict:
        adapter = workspace.lake.current("finetune/adapter", domain)
        # What domains share may be in the making while this runs, and its event still to come.
        history = [history_of(context.instance, domain)]
        found = examine(workspace.project, workspace.lake, adapter, history, current=True, shared=False)
        return evaluators.chain_is_whole(found.findings, len(found.chain), found.n_files)

    return _result(_per_domain(context, workspace, "audit/lineage", evaluate), "error")


CHECKS = [sample_holds_no_withheld_row, directions_are_stored, *map(_check, EXAMINED), chain_is_whole]


def _per_domain(
    context: dg.AssetCheckExecutionContext, workspace: Workspace, asset: str, evaluate: Callable[[str], Verdict]
) -> dict[str, Verdict]:
    domain = context.run.tags.get("dagster/partition")
    names = [domain] if domain else [d for d in sorted(workspace.project.domains) if workspace.lake.find(asset, d)]
    return {name: evaluate(name) for name in names}


def _result(verdicts: Mapping[str, Verdict], severity: Literal["error", "warning"]) -> dg.AssetCheckResult:
    """One result of one or several verdicts, each named."""
    lines = [f"{name}: {verdict.description}" for name, verdict in verdicts.items()]
    numbers = {
        f"{name}/{key}": rounded(value) if isinstance(value, float) else value
        for name, verdict in verdicts.items()
        for key, value in verdict.numbers.items()
    }
    return dg.AssetCheckResult(
        passed=bool(verdicts) and all(verdict.passed for verdict in verdicts.values()),
        severity=dg.AssetCheckSeverity.ERROR if severity == "error" else dg.AssetCheckSeverity.WARN,
        description="; ".join(lines) or "nothing has been materialised yet",
        metadata=numbers,
    )
