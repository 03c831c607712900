"""One training, for the subset's adapter, its baseline and every trial of a study alike."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from g2is_assets.errors import SourceError
from g2is_assets.progress import track
from g2is_assets.settings.config import FinetuneSettings
from g2is_assets.stages.workspace import Workspace


def pool_rows(pool: pl.DataFrame, row_ids: Sequence[str], chosen_by: str) -> pl.DataFrame:
    """These rows of `instructions/pool`, in this order.

    Raises:
        SourceError: One has left the pool since it was chosen.
    """
    wanted = pl.DataFrame({"row_id": list(row_ids)}, schema={"row_id": pl.String})
    rows = wanted.join(pool, on="row_id", how="inner", maintain_order="left")
    if len(rows) != len(row_ids):
        raise SourceError(f"{len(row_ids) - len(rows)} chosen rows left the pool; materialise {chosen_by} again")
    return rows


def encoded(workspace: Workspace, rows: pl.DataFrame) -> list[Any]:
    """Rows of an instructions table as token ids."""
    from g2is_assets.training.text import examples

    return examples(rows, workspace.template)


def fit(
    workspace: Workspace,
    rows: pl.DataFrame,
    validation: pl.DataFrame,
    settings: FinetuneSettings,
    folder: Path,
    label: str,
) -> Any:
    """Train an adapter on rows and save it as a PEFT folder; of no rows, look at the base model instead.

    Args:
        workspace: The project's.
        rows: Rows of an instructions table, in training order.
        validation: Rows that choose the epoch.
        settings: Of the training.
        folder: Where the adapter is saved.
        label: For whoever watches.

    Returns:
        A `training.fit.Fit`.
    """
    from g2is_assets.training.fit import look_at_base, n_fit_tokens, train

    device, own = workspace.project.settings.device, encoded(workspace, validation)
    if rows.is_empty():
        return look_at_base(workspace.model, own, workspace.project.settings.gradients.batch_tokens, device=device)
    examples = encoded(workspace, rows)
    with track(label, n_fit_tokens(examples, own, settings.epochs), "tokens") as progress:
        return train(workspace.model, examples, own, settings, folder, device=device, progress=progress)
