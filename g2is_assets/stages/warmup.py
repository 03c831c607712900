"""Stage `warmup`: a small random sample, and the adapter and Adam moments trained on it."""

import dagster as dg
import polars as pl
from pydantic import Field

from g2is_assets.contracts import instructions as instruction_contracts
from g2is_assets.contracts import warmup as contracts
from g2is_assets.core.sampling import hash_sample
from g2is_assets.progress import track
from g2is_assets.stages.publish import publish, recipe_here
from g2is_assets.stages.recipes import CODE_VERSIONS
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.erasure import with_text
from g2is_assets.store.lake import Draft


class SampleConfig(dg.Config):
    """How the sample is drawn in this run."""

    redraw: bool = Field(
        default=False,
        description="Draw again from the pool as it is now: the checkpoint is retrained, every gradient computed anew.",
    )


@dg.asset(
    key=["warmup", "sample"],
    group_name="warmup",
    kinds={"polars", "parquet"},
    code_version=CODE_VERSIONS["warmup/sample"],
    deps=[["instructions", "pool"]],
)
def sample(
    context: dg.AssetExecutionContext, config: SampleConfig, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult:
    """A small share of the pool in hash order, drawn once and kept until a redraw is asked for.

    A pool that grows does not change it, so neither the checkpoint nor the gradients computed with it go stale.
    """
    settings = workspace.project.settings.warmup
    recipe = recipe_here(context, workspace)

    def write(draft: Draft) -> None:
        rows = recipe.versions["instructions/pool"].table("pool", instruction_contracts.POOL)
        n_rows = max(1, round(settings.share * len(rows)))
        drawn = hash_sample(rows["row_id"].to_list(), n_rows, salt=f"warmup/{settings.seed}")
        chosen = rows.filter(pl.col("row_id").is_in(drawn)).select(*contracts.SAMPLE.columns)
        draft.table("sample", contracts.SAMPLE, chosen)
        draft.metric(share_of_pool=len(chosen) / len(rows))

    return publish(context, workspace, recipe, write, force=config.redraw)


@dg.asset(
    key=["warmup", "checkpoint"],
    group_name="warmup",
    kinds={"pytorch", "peft"},
    code_version=CODE_VERSIONS["warmup/checkpoint"],
    deps=[["warmup", "sample"]],
    pool="model",
)
def checkpoint(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """LoRA weights after a short training on the sample, with Adam's moments by parameter name.

    All gradients are taken here. It depends on the sample and the model alone; moments are checked name by name and
    shape by shape when they are read.
    """
    settings = workspace.project.settings
    recipe = recipe_here(context, workspace)

    def write(draft: Draft) -> None:
        from g2is_assets.training.instructions import examples
        from g2is_assets.training.warmup import train_warmup

        rows = recipe.versions["warmup/sample"].table("sample", contracts.SAMPLE)
        sampled = examples(with_text(rows), workspace.template)
        n_tokens = settings.warmup.epochs * sum(row.n_tokens for row in sampled)
        with track("warmup", n_tokens, "tokens") as progress:
            fit = train_warmup(
                workspace.model, sampled, settings.warmup, draft.folder, device=settings.device, progress=progress
            )
        draft.table("log", contracts.TRAINING_LOG, pl.DataFrame(fit.log, schema=contracts.TRAINING_LOG.schema))
        losses = [step["train_loss"] for step in fit.log]
        draft.metric(n_steps=len(losses), n_tokens=fit.n_tokens, first_loss=losses[0] or 0, last_loss=losses[-1] or 0)

    return publish(context, workspace, recipe, write)
