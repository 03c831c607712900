"""Stage `gradients`: sketched per-example gradients of pool and domain rows at the warmup checkpoint."""

import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl

from g2is_assets.contracts import gradients as contracts
from g2is_assets.contracts import instructions as instruction_contracts
from g2is_assets.contracts import warmup as warmup_contracts
from g2is_assets.contracts.contract import Contract
from g2is_assets.core.vectors import unit_rows
from g2is_assets.errors import SourceError
from g2is_assets.progress import track
from g2is_assets.stages.publish import publish, recipe_here
from g2is_assets.stages.recipes import CODE_VERSIONS
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.erasure import with_text
from g2is_assets.store.features import StoredFeatures
from g2is_assets.store.gradient_store import STORE, GradientStore, Vectors, fill_store
from g2is_assets.store.lake import Draft, Version


@dg.asset(
    key=["gradients", "pool"],
    group_name="gradients",
    kinds={"pytorch", "parquet"},
    code_version=CODE_VERSIONS["gradients/pool"],
    deps=[["instructions", "pool"], ["warmup", "sample"], ["warmup", "checkpoint"]],
    pool="model",
)
def pool(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The pool's gradients, mixed with Adam's moments and sketched: unit fp16 vectors with norm and loss.

    Vectors lie in content-addressed shards: only rows that the store lacks are computed, and a vector made with other
    settings is never mixed in. Rows without a usable gradient are listed with the reason. The mean vector of the
    warmup sample's rows, for mean removal, stands beside them.
    """
    return _gradients(context, workspace, "instructions/pool", instruction_contracts.POOL)


@dg.asset(
    key=["gradients", "target"],
    group_name="gradients",
    kinds={"pytorch", "parquet"},
    code_version=CODE_VERSIONS["gradients/target"],
    deps=[["instructions", "target"], ["warmup", "checkpoint"]],
    pool="model",
)
def target(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The plain gradients of a domain's validation rows, at the same checkpoint and with the same sketch.

    Test rows have none: they take no part in selection.
    """
    return _gradients(context, workspace, "instructions/target", instruction_contracts.TARGET)


def _gradients(
    context: dg.AssetExecutionContext, workspace: Workspace, rows: str, contract: Contract
) -> dg.MaterializeResult:
    """The gradients of the rows of an asset, with means over the warmup sample where the recipe has one."""
    recipe = recipe_here(context, workspace)
    vectors = {name: value for name, value in recipe.settings.items() if name != "store"}
    store = GradientStore(workspace.lake.place(recipe.asset) / STORE, vectors)
    sample = recipe.versions.get("warmup/sample")

    def write(draft: Draft) -> None:
        table = recipe.versions[rows].table(context.asset_key.path[-1], contract)
        if "split" in table.columns:
            table = table.filter(pl.col("split") == "validation")
        means = _Means(workspace, store, sample) if sample else None
        _fill(draft, workspace, store, table, recipe.versions["warmup/checkpoint"].folder, means)

    return publish(
        context,
        workspace,
        recipe,
        write,
        intact=lambda version: store.holds(version.table("index", contracts.INDEX)),
    )


def _fill(
    draft: Draft,
    workspace: Workspace,
    store: GradientStore,
    table: pl.DataFrame,
    checkpoint: Path,
    means: "_Means | None",
) -> None:
    from g2is_assets.training.batches import plan_batches
    from g2is_assets.training.cost import BatchCost, summarise
    from g2is_assets.training.gradients import BatchGradients, GradientWorker
    from g2is_assets.training.instructions import examples
    from g2is_assets.training.text import Example

    settings = workspace.project.settings
    by_id = {example.row_id: example for example in examples(table, workspace.template)}
    if means is not None and means.pinned is None:  # also rows of the sample that have left the pool since
        by_id |= {e.row_id: e for e in examples(means.sample, workspace.template) if e.row_id not in by_id}

    def compute(batches: Iterable[list[str]]) -> Iterator[Vectors]:
        items: list[list[Example]] = [[by_id[row_id] for row_id in batch] for batch in batches]

        # Plain arguments, so that a worker can also be made in another process.
        make_worker = partial(
            GradientWorker, workspace.model, checkpoint, store.kinds, settings.gradients, settings.device
        )
        with track("gradients", sum(row.n_tokens for batch in items for row in batch), "tokens") as progress:
            result: BatchGradients
            for batch, result in zip(items, workspace.engine.map(make_worker, items), strict=True):
                n_tokens = [row.n_tokens for row in batch]
                progress(sum(n_tokens))
                costs.append(result.cost)
                features = {kind: values.numpy() for kind, values in result.features.items()}
                yield Vectors([row.row_id for row in batch], n_tokens, result.losses.numpy(), features)

    costs: list[BatchCost] = []
    begun = time.monotonic()
    filled = fill_store(
        store,
        {row_id: example.n_tokens for row_id, example in by_id.items()},
        lambda lengths: plan_batches(lengths, settings.gradients.batch_tokens),
        compute,
        settings.gradients.shard_rows,
        settings.gradients.batch_tokens,
    )
    report = summarise(costs, time.monotonic() - begun)
    set_aside = pl.DataFrame(
        {"row_id": list(filled.set_aside), "reason": list(filled.set_aside.values())},
        schema=contracts.SET_ASIDE.schema,
    ).sort("row_id")
    if means is not None:
        draft.table("means", contracts.means(store.sketch_dim), means.table(filled.index))
    served = pl.col("row_id").is_in(table["row_id"].implode())
    index, set_aside = filled.index.filter(served), set_aside.filter(served)
    draft.table("index", contracts.INDEX, index)
    draft.table("set_aside", contracts.SET_ASIDE, set_aside)
    draft.metric(
        n_computed=filled.n_computed,
        n_reused=len(by_id) - filled.n_computed,
        n_damaged_shards=filled.n_damaged_shards,
        n_set_aside=len(set_aside),
        n_tokens_computed=filled.n_tokens_computed,
        mean_loss=float(index["loss"].mean() or 0.0),  # type: ignore[arg-type]
        **report,
    )


class _Means:
    """Mean unit vector of each kind over the warmup sample's rows: taken once, then handed on with the checkpoint."""

    def __init__(self, workspace: Workspace, store: GradientStore, sample: Version) -> None:
        self.store, self.sample = store, with_text(sample.table("sample", warmup_contracts.SAMPLE))
        self.pinned: pl.DataFrame | None = None
        before = workspace.lake.find_whole("gradients/pool")
        if before and "warmup/sample" in before.manifest.inputs:
            made_from = (before.manifest.settings["store"], before.manifest.inputs["warmup/sample"].data_version)
            if made_from == (store.folder.name, sample.manifest.data_version):
                self.pinned = before.table("means", contracts.means(store.sketch_dim))

    def table(self, index: pl.DataFrame) -> pl.DataFrame:
        """Contract `gradients/pool means`."""
        if self.pinned is not None:
            return self.pinned
        drawn = index.filter(pl.col("row_id").is_in(self.sample["row_id"].implode()))
        if drawn.is_empty():
            raise SourceError("no row of the warmup sample has a gradient; draw another with `redraw: true`")
        rows = []
        for kind in self.store.kinds:
            total = np.zeros(self.store.sketch_dim)
            for _, values in StoredFeatures(self.store.folder, drawn, kind).blocks():
                total += unit_rows(values).sum(axis=0, dtype=np.float64)
            rows.append({"kind": kind, "n_rows": len(drawn), "mean": (total / len(drawn)).astype(np.float32)})
        return pl.DataFrame(rows, schema=contracts.means(self.store.sketch_dim).schema)
