"""Stage `warmup`: a small random sample, and the adapter and Adam moments trained on it."""

from typing import Final

import polars as pl

from g2is_assets.contracts import warmup as contracts
from g2is_assets.contracts.instructions import POOL
from g2is_assets.core.sampling import hash_sample
from g2is_assets.errors import REDRAW, command
from g2is_assets.progress import say, track
from g2is_assets.reports.words import counted
from g2is_assets.stages.evaluators import Verdict
from g2is_assets.stages.stage import MadeFrom, Place, Task, Versions, stage
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.erasure import with_text
from g2is_assets.store.version import Draft, Version

FAR: Final = 2.0
"""How many times more or fewer rows than `share` asks for are too far from it."""
GONE: Final = 0.25
"""Share of the sample that may have left the pool."""


def _sample_from(workspace: Workspace, _: Place, __: Versions) -> MadeFrom:
    warmup = workspace.project.settings.warmup
    # With another template or length, rows of the old sample might not fit any more.
    return MadeFrom({"share": warmup.share, "seed": warmup.seed, "template": workspace.template_digest})


def sample_stands_for_the_pool(sample: pl.Series, pool: pl.Series, share: float) -> Verdict:
    """The warmup's sample has about as many rows as `share` asks for of today's pool, and most of them are still in it.

    Args:
        sample: Its rows' ids.
        pool: Those of the pool.
        share: As set when the sample was drawn.
    """
    wanted, n_gone = _n_wanted(share, len(pool)), int((~sample.is_in(pool.implode())).sum())
    passed = wanted / FAR <= len(sample) <= FAR * wanted and n_gone <= GONE * len(sample)
    size, gone = counted(len(sample), "row"), counted(n_gone, "has", "have")
    said = f"the sample has {size}, `share` asks for {wanted} of {len(pool)}; {gone} left the pool"
    numbers = {"n_rows": len(sample), "n_wanted": wanted, "n_gone": n_gone}
    return Verdict(passed, said if passed else f"{said}; a new warmup is due: {command(REDRAW)}", numbers)


def of_sample(workspace: Workspace, sample: Version) -> tuple[pl.Series, pl.Series, float]:
    """What the above is told of a sample, beside the current pool."""
    pool = workspace.lake.current("instructions/pool").read(POOL)["row_id"]
    return sample.read(contracts.SAMPLE)["row_id"], pool, float(sample.manifest.settings["share"])


def _tell(task: Task, version: Version) -> None:
    if not (verdict := sample_stands_for_the_pool(*of_sample(task.workspace, version))).passed:
        say(f"warmup/sample: {verdict.description}")


def _n_wanted(share: float, n_pool: int) -> int:
    return max(1, round(share * n_pool))


def _checkpoint_from(workspace: Workspace, _: Place, __: Versions) -> MadeFrom:
    settings = workspace.project.settings.warmup.model_dump(mode="json", exclude={"share"})
    return MadeFrom(settings | {"template": workspace.template_digest}, {"model": workspace.model.digest})


@stage(
    "warmup/sample",
    "project",
    "1",
    {"polars", "parquet"},
    inputs=["instructions/pool"],
    made_from=_sample_from,
    follows_inputs=False,
    finish=_tell,
)
def sample(draft: Draft, task: Task) -> None:
    """A small share of the pool in hash order, drawn once and kept until a redraw is asked for.

    A pool that grows does not change it, so neither the checkpoint nor the gradients computed with it go stale.
    """
    rows, settings = task.read(POOL), task.workspace.project.settings.warmup
    n_rows = _n_wanted(settings.share, len(rows))
    drawn = hash_sample(rows["row_id"].to_list(), n_rows, salt=f"warmup/{settings.seed}")
    chosen = rows.filter(pl.col("row_id").is_in(drawn)).select(*contracts.SAMPLE.columns)
    draft.write(contracts.SAMPLE, chosen)
    draft.metric(share_of_pool=len(chosen) / len(rows))


@stage(
    "warmup/checkpoint",
    "project",
    "1",
    {"pytorch", "peft"},
    inputs=["warmup/sample"],
    made_from=_checkpoint_from,
    uses_model=True,
)
def checkpoint(draft: Draft, task: Task) -> None:
    """LoRA weights after a short training on the sample, with Adam's moments by parameter name.

    All gradients are taken here or, where several are kept, at the end of each of the last epochs. It depends on the
    sample and the model alone; moments are checked name by name and shape by shape when they are read.
    """
    from g2is_assets.training.text import examples
    from g2is_assets.training.warmup import checkpoint_folder, train_warmup

    workspace, settings = task.workspace, task.workspace.project.settings
    sampled = examples(with_text(task.read(contracts.SAMPLE)), workspace.template)
    n_tokens = settings.warmup.epochs * sum(row.n_tokens for row in sampled)
    with track("warmup", n_tokens, "tokens") as progress:
        fit = train_warmup(
            workspace.model, sampled, settings.warmup, draft.folder, device=settings.device, progress=progress
        )
    kept = range(settings.warmup.epochs - settings.warmup.checkpoints + 1, settings.warmup.epochs + 1)
    records = [(epoch, checkpoint_folder(epoch, settings.warmup), fit.rates[epoch - 1]) for epoch in kept]
    draft.write(contracts.CHECKPOINTS, pl.DataFrame(records, schema=contracts.CHECKPOINTS.schema, orient="row"))
    draft.write(contracts.TRAINING_LOG, pl.DataFrame(fit.log, schema=contracts.TRAINING_LOG.schema))
    losses = [step["train_loss"] for step in fit.log]
    draft.metric(n_steps=len(losses), n_tokens=fit.n_tokens, first_loss=losses[0] or 0, last_loss=losses[-1] or 0)
    draft.metric(**fit.speed("warmup"))
