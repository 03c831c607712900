"""One training and one scoring, for the subset's adapter, its baseline and every trial of a study alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import polars as pl

from g2is_assets.errors import SourceError
from g2is_assets.progress import track
from g2is_assets.settings.config import FinetuneSettings
from g2is_assets.stages.workspace import Workspace

if TYPE_CHECKING:
    from g2is_assets.training.fit import Fit


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


def fit(
    workspace: Workspace,
    rows: pl.DataFrame,
    validation: pl.DataFrame,
    settings: FinetuneSettings,
    folder: Path,
    label: str,
) -> "Fit":
    """Train an adapter on rows and save it as a PEFT folder; of no rows, look at the base model instead.

    Args:
        workspace: The project's.
        rows: Rows of an instructions table, in training order.
        validation: Rows that choose the epoch.
        settings: Of the training.
        folder: Where the adapter is saved.
        label: For whoever watches.
    """
    from g2is_assets.training.fit import look_at_base, n_fit_tokens, train
    from g2is_assets.training.text import examples

    device, own = workspace.project.settings.device, examples(validation, workspace.template)
    if rows.is_empty():
        return look_at_base(workspace.model, own, workspace.project.settings.gradients.batch_tokens, device=device)
    encoded = examples(rows, workspace.template)
    with track(label, n_fit_tokens(encoded, own, settings.epochs), "tokens") as progress:
        return train(workspace.model, encoded, own, settings, folder, device=device, progress=progress)


def tuned(workspace: Workspace, adapter: Path | None) -> Any:
    """The base model with a saved adapter, or without one, to be scored."""
    from g2is_assets.training.fit import load_tuned

    return load_tuned(workspace.model, adapter, device=workspace.project.settings.device)


@dataclass(frozen=True)
class Scored:
    """What a model made of rows, each list in their order.

    Attributes:
        nll: Mean NLL of the response, nats per token; empty where answers were asked for.
        right: Whether the likeliest of the row's choices, or the generated answer, is the right one; None where there
            is nothing to tell that by.
        texts: The generated answers; empty where none were asked for.
        seconds: Wall-clock.
    """

    nll: list[float]
    right: list[bool | None]
    texts: list[str]
    seconds: float


def score(
    workspace: Workspace,
    model: Any,
    rows: pl.DataFrame,
    *,
    choices: bool = False,
    answer_tokens: int = 0,
    wider: int = 1,
    progress: Callable[[int], None] = lambda n_done: None,
) -> Scored:
    """Score a model on rows: by the loss of their responses, or by the answers that it generates.

    Args:
        workspace: The project's.
        model: With or without an adapter.
        rows: Rows of an instructions table.
        choices: Whether the choices of rows that have some are weighed too.
        answer_tokens: Have it answer in so many tokens at most, instead of taking losses.
        wider: Batches that generate are so many times wider than those of gradients.
        progress: Told how many rows, and choices, were done.
    """
    from g2is_assets.training.evaluate import answer, nll_and_choices, questions
    from g2is_assets.training.text import examples

    begun, batch_tokens = monotonic(), workspace.project.settings.gradients.batch_tokens
    if answer_tokens:
        width = max(wider * batch_tokens, answer_tokens)
        found = answer(model, workspace.template, questions(rows), width, answer_tokens, progress)
        return Scored([], [right for _, right in found], [text for text, _ in found], monotonic() - begun)
    encoded, asked = examples(rows, workspace.template), questions(rows) if choices else []
    nll, weighed = nll_and_choices(model, workspace.template, encoded, asked, batch_tokens, progress)
    right = {one.row_id: one.right for one in weighed}
    return Scored(nll, [right.get(row_id) for row_id in rows["row_id"]], [], monotonic() - begun)
