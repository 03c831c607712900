"""Stage `finetune`: the subset's adapter, the random baseline's, and what both are worth on the domain's test rows."""

from collections.abc import Callable
from typing import Final

import dagster as dg
import polars as pl

from g2is_assets.contracts import finetune as contracts
from g2is_assets.contracts import gradients as gradient_contracts
from g2is_assets.contracts import instructions as instruction_contracts
from g2is_assets.contracts.selection import EXCLUDED, SUBSET
from g2is_assets.contracts.warmup import TRAINING_LOG
from g2is_assets.core.sampling import hash_sample, paired_difference
from g2is_assets.errors import SourceError
from g2is_assets.progress import say, track
from g2is_assets.stages.publish import publish, recipe_here
from g2is_assets.stages.recipes import CODE_VERSIONS
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.lake import Draft, Recipe, Version
from g2is_assets.store.serving import promote as serve

N_ANSWERS: Final = 3
"""Rows of which the answers are kept."""
ANSWER_TOKENS: Final = 64
"""Where an answer is cut."""
ANSWERING: Final = ("base", "g2is")


@dg.asset(
    key=["finetune", "adapter"],
    group_name="finetune",
    kinds={"pytorch", "peft"},
    code_version=CODE_VERSIONS["finetune/adapter"],
    deps=[["selection", "subset"], ["instructions", "pool"], ["instructions", "target"]],
    pool="model",
)
def adapter(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The LoRA adapter trained on the domain's subset: a PEFT folder that any PEFT program loads.

    The epoch with the lowest loss on the validation rows is kept, the untouched base model included.
    """
    recipe = recipe_here(context, workspace)
    subset = recipe.versions["selection/subset"]
    return _publish_adapter(context, workspace, recipe, lambda _: subset.table("subset", SUBSET)["row_id"].to_list())


@dg.asset(
    key=["finetune", "baseline"],
    group_name="finetune",
    kinds={"pytorch", "peft"},
    code_version=CODE_VERSIONS["finetune/baseline"],
    deps=[["selection", "subset"], ["gradients", "pool"], ["instructions", "pool"], ["instructions", "target"]],
    pool="model",
)
def baseline(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The adapter of a random subset of the same size, trained by the same rule: what selection has to beat.

    Rows that repeat the domain's own rows are left out of it as they are of the subset.
    """
    recipe = recipe_here(context, workspace)
    subset, gradients = recipe.versions["selection/subset"], recipe.versions["gradients/pool"]
    seed = workspace.project.domain(context.partition_key).finetune.seed

    def draw(draft: Draft) -> list[str]:
        n_rows = len(subset.table("subset", SUBSET))
        leaks = subset.table("excluded", EXCLUDED).filter(pl.col("split").is_not_null())
        pool = gradients.table("index", gradient_contracts.INDEX).join(leaks, on="row_id", how="anti")["row_id"]
        drawn = hash_sample(pool.to_list(), n_rows, salt=f"baseline/{context.partition_key}/{seed}")
        rows = pl.DataFrame({"domain": [context.partition_key] * n_rows, "row_id": sorted(drawn)})
        draft.table("rows", contracts.BASELINE_ROWS, rows)
        return drawn

    return _publish_adapter(context, workspace, recipe, draw)


def _publish_adapter(
    context: dg.AssetExecutionContext, workspace: Workspace, recipe: Recipe, choose: Callable[[Draft], list[str]]
) -> dg.MaterializeResult:
    """Train on the pool rows that `choose` names."""
    pool, target = recipe.versions["instructions/pool"], recipe.versions["instructions/target"]

    def write(draft: Draft) -> None:
        own = target.table("target", instruction_contracts.TARGET)
        _train(draft, context, workspace, choose(draft), pool, own)

    return publish(context, workspace, recipe, write)


def _train(
    draft: Draft,
    context: dg.AssetExecutionContext,
    workspace: Workspace,
    row_ids: list[str],
    pool: Version,
    own: pl.DataFrame,
) -> None:
    """Train on these pool rows, in this order, and write `adapter/` and the log."""
    from g2is_assets.training.finetune import train_adapter
    from g2is_assets.training.fit import n_fit_tokens
    from g2is_assets.training.instructions import examples

    settings = workspace.project.domain(context.partition_key).finetune
    rows_of_pool = pool.table("pool", instruction_contracts.POOL)
    chosen = pl.DataFrame({"row_id": row_ids}).join(rows_of_pool, on="row_id", how="inner", maintain_order="left")
    if len(chosen) != len(row_ids):
        raise SourceError(f"{len(row_ids) - len(chosen)} chosen rows left the pool; materialise selection/subset again")
    rows = examples(chosen, workspace.template)
    validation = examples(own.filter(pl.col("split") == "validation"), workspace.template)
    with track(context.asset_key.path[-1], n_fit_tokens(rows, validation, settings.epochs), "tokens") as progress:
        fit = train_adapter(
            workspace.model,
            rows,
            validation,
            settings,
            draft.folder / "adapter",
            device=workspace.project.settings.device,
            progress=progress,
        )
    draft.table("log", TRAINING_LOG, pl.DataFrame(fit.log, schema=TRAINING_LOG.schema))
    first = next(entry["validation_loss"] for entry in fit.log if entry["validation_loss"] is not None)
    draft.metric(n_rows=len(rows), n_tokens=fit.n_tokens, best_epoch=fit.best_epoch)
    draft.metric(validation_nll=fit.best_loss, base_validation_nll=float(first or 0))


@dg.asset(
    key=["finetune", "evaluation"],
    group_name="finetune",
    kinds={"pytorch", "parquet"},
    code_version=CODE_VERSIONS["finetune/evaluation"],
    deps=[["finetune", "adapter"], ["finetune", "baseline"], ["instructions", "target"]],
    pool="model",
)
def evaluation(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """Response NLL of every test row under the base model, the random baseline and the G2IS adapter.

    Scores are paired by row, so the difference comes with an interval over rows (one seed, one random subset). A
    domain without test rows is scored on its validation rows, which chose the epoch: only indicative. What the base
    model and the adapter answer to the first rows stands beside the scores, to be read.

    Then the adapter is promoted, which the domain may bind to its being better: readers of `served.json` get it.
    """
    recipe = recipe_here(context, workspace)
    tuned = {"random": recipe.versions["finetune/baseline"], "g2is": recipe.versions["finetune/adapter"]}

    def write(draft: Draft) -> None:
        own = recipe.versions["instructions/target"].table("target", instruction_contracts.TARGET)
        rows = own.filter(pl.col("split") == "test")
        _score(draft, workspace, rows if len(rows) else own, tuned)

    result = publish(context, workspace, recipe, write)
    _promote(workspace, context.partition_key, tuned["g2is"])
    return result


def _promote(workspace: Workspace, domain: str, adapter: Version) -> None:
    """Serve the adapter that was evaluated, unless it has to be better than base and random and is not."""
    from g2is_assets.stages.evaluators import tuned_beats

    metrics = workspace.lake.current("finetune/evaluation", domain).manifest.metrics
    if workspace.project.domain(domain).promote == "always" or tuned_beats(metrics).passed:
        serve(workspace.lake, domain, adapter.folder.name)
    else:
        say(f"{domain}: the adapter is not better than base and random, so it is not promoted (`promote`)")


def _score(draft: Draft, workspace: Workspace, rows: pl.DataFrame, tuned: dict[str, Version]) -> None:
    from g2is_assets.training.evaluate import first_answers, response_nll
    from g2is_assets.training.instructions import examples
    from g2is_assets.training.lora import load_adapter

    settings, encoded = workspace.project.settings, examples(rows, workspace.template)
    scored, answers = {}, []
    with track("evaluation", len(rows) * (1 + len(tuned)), "rows") as progress:
        for name in ("base", *tuned):
            model = workspace.model.load(settings.device)
            if name in tuned:
                model = load_adapter(model, tuned[name].folder / "adapter")
            tokenizer = workspace.model.tokenizer()
            losses = response_nll(model, tokenizer, encoded, settings.gradients.batch_tokens, progress)
            scored[name] = rows.select("domain", "split", "row_id", "n_response_tokens").with_columns(
                model=pl.lit(name), nll=pl.Series(losses, dtype=pl.Float64)
            )
            if name in ANSWERING:
                shown = rows.sort("row_id").head(N_ANSWERS)
                texts = first_answers(model, workspace.template, shown, settings.gradients.batch_tokens, ANSWER_TOKENS)
                said = pl.Series(texts, dtype=pl.String)
                answers.append(shown.select("domain", "row_id").with_columns(model=pl.lit(name), response=said))
    table = pl.concat(scored.values()).sort("model", "row_id").select(*contracts.SCORES.columns)
    draft.table("evaluation", contracts.SCORES, table)
    draft.table("answers", contracts.ANSWERS, pl.concat(answers).sort(contracts.ANSWERS.sorted_by))
    nll = {name: scores["nll"].to_numpy() for name, scores in scored.items()}
    draft.metric(split=str(rows["split"][0]), **{f"nll_{name}": float(values.mean()) for name, values in nll.items()})
    for other in ("base", "random"):
        mean, low, high = paired_difference(nll["g2is"], nll[other])
        draft.metric(**{f"minus_{other}": mean, f"minus_{other}_low": low, f"minus_{other}_high": high})
