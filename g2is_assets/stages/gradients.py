"""Stage `gradients`: sketched per-example gradients of pool and domain rows at the warmup checkpoint."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from g2is_assets.contracts.gradients import MEANS
from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.contracts.warmup import CHECKPOINTS, SAMPLE
from g2is_assets.core.rows import sum_of
from g2is_assets.errors import REDRAW, SourceError, StoreError, command
from g2is_assets.progress import say, track
from g2is_assets.reports.words import counted
from g2is_assets.settings.selection import FeatureKind
from g2is_assets.stages.features import LAST, Stored, fill, stores_of
from g2is_assets.stages.screen import prescreened, screened_by
from g2is_assets.stages.stage import MadeFrom, Place, Task, Versions, stage
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.erasure import with_text
from g2is_assets.store.vectors import Vectors, address_of
from g2is_assets.store.version import Draft, Version

if TYPE_CHECKING:
    from g2is_assets.training.gradients import BatchCost
    from g2is_assets.training.text import Example

VECTORS_VERSION: Final = "2"
"""Part of the vectors' address: raise it when the same row and settings give another vector. An asset's own
code version also covers its tables and leaves the vectors alone."""


def _vectors(workspace: Workspace, kinds: tuple[FeatureKind, ...], versions: Versions) -> MadeFrom:
    """What a row's vector depends on besides the row, and the address of their shards that this gives.

    A checkpoint counts by its content, so that vectors taken at it stay when others are kept beside it.
    """
    from g2is_assets.training.model import pick_compute

    settings, checkpoint = workspace.project.settings.gradients, versions["warmup/checkpoint"]
    kept = checkpoint.read(CHECKPOINTS)
    *earlier, last = kept["folder"]
    compute = pick_compute(settings.compute, workspace.project.settings.device)
    vectors = {
        "kinds": list(kinds),
        **settings.model_dump(mode="json", include={"sketch_dim", "bits", "nnz", "seed"}),
        "model": workspace.model.digest,
        "template": workspace.template_digest,
        "checkpoint": _files_of(checkpoint, last),
        "loss": "row mean over response tokens",
        "code_version": VECTORS_VERSION,
        **({} if compute == "float32" else {"compute": compute}),
    }
    store: dict[str, Any] = {"store": address_of(vectors)}
    if earlier:
        store["earlier"] = {folder: _files_of(checkpoint, folder) for folder in earlier}
        store["weights"] = kept["learning_rate"].to_list()
    return MadeFrom(vectors | store)


def _files_of(checkpoint: Version, folder: str) -> dict[str, str]:
    """Digests of a checkpoint's files, by their names within its folder."""
    files = {Path(name): file.sha256 for name, file in checkpoint.manifest.files.items()}
    found = {name: files[name] for name in files if name.suffix != ".parquet" and _in(name) == folder}
    return {name.relative_to(folder).as_posix(): sha256 for name, sha256 in found.items()}


def _in(name: Path) -> str:
    """The folder of the checkpoint that a file of `warmup/checkpoint` belongs to."""
    return name.parts[0] if name.parts[0].startswith("epoch_") else LAST


def _pool_from(workspace: Workspace, _: Place, versions: Versions) -> MadeFrom:
    return screened_by(workspace, _vectors(workspace, workspace.project.settings.gradients.kinds, versions))


def _target_from(workspace: Workspace, _: Place, versions: Versions) -> MadeFrom:
    return _vectors(workspace, ("sgd",), versions)


@stage(
    "gradients/pool",
    "project",
    "2",
    {"pytorch", "parquet"},
    inputs=["instructions/pool", "warmup/checkpoint", "warmup/sample"],
    made_from=_pool_from,
    uses_model=True,
)
def pool(draft: Draft, task: Task) -> None:
    """The pool's gradients, mixed with Adam's moments and sketched: codes of each direction, with its norm and loss.

    Vectors lie in content-addressed shards: only rows that the store lacks are computed, and a vector made with other
    settings is never mixed in. Rows without a usable gradient are listed with the reason. The mean vector of the
    warmup sample's rows, for mean removal, stands beside them. Where the settings have a prescreen, only rows that its
    cheap score keeps for some domain are computed; every row's score stands beside them too.
    """
    rows, sample, means = task.read(POOL), with_text(task.read(SAMPLE)), _pinned_means(task)
    if "prescreen" in task.recipe.settings:
        rows = prescreened(draft, task, rows, sample, partial(_gradients, task))
    # Also rows of the sample that have left the pool since.
    stored = _fill(draft, task, rows, sample if means is None else None)
    draft.write(MEANS, _means(task, stored, sample) if means is None else means)


@stage(
    "gradients/target",
    "domain",
    "1",
    {"pytorch", "parquet"},
    inputs=["instructions/target", "warmup/checkpoint"],
    made_from=_target_from,
    uses_model=True,
)
def target(draft: Draft, task: Task) -> None:
    """The plain gradients of a domain's validation rows, at the same checkpoint and with the same sketch.

    Test rows have none: they take no part in selection.
    """
    _fill(draft, task, task.read(TARGET).filter(pl.col("split") == "validation"))


def _fill(draft: Draft, task: Task, table: pl.DataFrame, also: pl.DataFrame | None = None) -> Stored:
    """Compute what the store lacks of these rows, and of others that are not served; write the index."""
    from g2is_assets.training.gradients import BatchCost, summarise
    from g2is_assets.training.text import examples

    workspace = task.workspace
    by_id = {example.row_id: example for example in examples(table, workspace.template)}
    if also is not None:
        by_id |= {e.row_id: e for e in examples(also, workspace.template) if e.row_id not in by_id}
    costs: list[BatchCost] = []
    begun, compute = time.monotonic(), partial(_gradients, task, by_id, task.recipe.settings["kinds"], costs)
    stored = fill(draft, task, {e.row_id: e.n_tokens for e in by_id.values()}, compute, table["row_id"])
    if n_padded := sum(cost.n_rows - cost.packed_rows for cost in costs):
        padded = counted(n_padded, "row")
        say(f"gradients: {padded} passed padded: the model or the device does not keep packed rows apart")
    losses = stored.index.join(table, on="row_id", how="semi")["loss"]
    draft.metric(
        mean_loss=float(losses.mean() or 0.0),  # type: ignore[arg-type]
        **summarise(costs, time.monotonic() - begun),
    )
    return stored


def _gradients(
    task: Task,
    by_id: "Mapping[str, Example]",
    kinds: Sequence[FeatureKind],
    costs: "list[BatchCost]",
    folder: str,
    batches: Iterable[list[str]],
    depth: float = 1.0,
) -> Iterator[Vectors]:
    """Vectors of batches of these rows at the checkpoint of that folder; what they cost is added to `costs`.

    `depth` is the share of the model's layers that are passed.
    """
    from g2is_assets.training.gradients import BatchGradients, GradientWorker

    workspace, settings = task.workspace, task.workspace.project.settings
    items = [[by_id[row_id] for row_id in batch] for batch in batches]
    # Plain arguments, so that a worker can also be made in another process; what `auto` means is settled here.
    settled = settings.gradients.model_copy(update={"compute": task.recipe.settings.get("compute", "float32")})
    checkpoint = task.version("warmup/checkpoint").folder / folder
    make_worker = partial(GradientWorker, workspace.model, checkpoint, kinds, settled, settings.device, depth)
    with track("gradients", sum(row.n_tokens for batch in items for row in batch), "tokens") as progress:
        result: BatchGradients
        for batch, result in zip(items, workspace.engine.map(make_worker, items), strict=True):
            n_tokens = [row.n_tokens for row in batch]
            progress(sum(n_tokens))
            costs.append(result.cost)
            features = {kind: values.numpy() for kind, values in result.features.items()}
            yield Vectors([row.row_id for row in batch], n_tokens, result.losses.numpy(), features)


def _pinned_means(task: Task) -> pl.DataFrame | None:
    """The means that were taken with this checkpoint and sample: they stay, whatever the pool becomes."""
    with suppress(StoreError):  # damaged: taken anew
        before = task.workspace.lake.find("gradients/pool")
        if before and "warmup/sample" in before.manifest.inputs:
            made_from = (stores_of(before.manifest.settings), before.manifest.inputs["warmup/sample"].data_version)
            sample = task.version("warmup/sample").manifest.data_version
            if made_from == (stores_of(task.recipe.settings), sample):
                return before.read(MEANS)
    return None


def _means(task: Task, stored: Stored, sample: pl.DataFrame) -> pl.DataFrame:
    """Contract `gradients/pool means`: the mean unit vector of each kind over the warmup sample's rows."""
    drawn = stored.of(sample["row_id"])
    if drawn.index.is_empty():
        raise SourceError(f"no row of the warmup sample has a gradient; draw another with {command(REDRAW)}")
    rows = []
    for kind in task.recipe.settings["kinds"]:
        mean = sum_of(drawn.features(kind)) / len(drawn.index)
        rows.append({"kind": kind, "n_rows": len(drawn.index), "mean": mean.astype(np.float32)})
    return pl.DataFrame(rows, schema=MEANS.schema_of_width(len(mean)))
