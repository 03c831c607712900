"""One training and one scoring, for the subset's adapter, its baseline and every trial of a study alike."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from g2is_assets.contracts.instructions import count_tokens
from g2is_assets.errors import SourceError
from g2is_assets.progress import track
from g2is_assets.settings.config import FinetuneSettings
from g2is_assets.stages.workspace import Workspace

if TYPE_CHECKING:
    from g2is_assets.training.fit import Fit

WIDER: Final = 8
"""Batches that generate are so many times wider than those of gradients: a step is one token of each row."""


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
    """Train a fresh adapter on rows of an instructions table, in this order, and save it as a PEFT folder.

    The validation rows choose the epoch, the untouched base model included; of no rows, only that is looked at. The
    label is for whoever watches.
    """
    from g2is_assets.training.fit import Fit, fit_lora, n_fit_tokens
    from g2is_assets.training.lora import add_lora, save_adapter
    from g2is_assets.training.model import pick_compute
    from g2is_assets.training.text import examples

    begun, source, device = monotonic(), workspace.model, workspace.project.settings.device
    if rows.is_empty():
        nll = score(workspace, tuned(workspace, None), validation).nll
        passed = count_tokens(validation)
        return Fit(validation_nll=[float(np.mean(nll))], n_tokens_passed=passed, seconds=monotonic() - begun)
    encoded, own = examples(rows, workspace.template), examples(validation, workspace.template)
    gc.collect()  # the models of earlier trainings lie in cycles, and each is as large as the one to come
    model = add_lora(source.load(device), settings, source.name)
    with track(label, n_fit_tokens(encoded, own, settings.epochs), "tokens") as progress:
        fitted = fit_lora(
            model,
            source.tokenizer(),
            encoded,
            settings,
            epochs=settings.epochs,
            schedule=settings.schedule,
            validation=own,
            compute=pick_compute(settings.compute, device),
            packing=True,
            progress=progress,
        )
    save_adapter(model, folder)
    return replace(fitted, seconds=monotonic() - begun)


def tuned(workspace: Workspace, adapter: Path | None) -> Any:
    """The base model with a saved adapter, or without one, to be scored."""
    from g2is_assets.training.lora import load_adapter

    gc.collect()  # as before a training
    model = workspace.model.load(workspace.project.settings.device)
    return model if adapter is None else load_adapter(model, adapter)


@dataclass(frozen=True)
class Scored:
    """What a model made of rows, each list in their order.

    Attributes:
        nll: Mean NLL of the response, nats per token; empty where answers were asked for.
        right: Whether the likeliest choice, or the generated answer, is the right one; None where nothing tells.
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
    progress: Callable[[int], None] = lambda n_done: None,
) -> Scored:
    """Score a model on rows of an instructions table: by the loss of their responses, or by answers it generates.

    With `choices`, those of rows that have some are weighed too. With `answer_tokens`, it answers in so many at most,
    no more than a table of positions has behind the longest prompt, in batches wider than those of gradients. Progress
    is told how many rows and choices were done.
    """
    from g2is_assets.training.evaluate import answer, nll_and_choices, questions
    from g2is_assets.training.text import examples
    from g2is_assets.training.usable import positions_of

    begun, batch_tokens = monotonic(), workspace.project.settings.gradients.batch_tokens
    if answer_tokens:
        n_positions, has_table = positions_of(model)
        width, limit = max(WIDER * batch_tokens, answer_tokens), n_positions if has_table else None
        found = answer(model, workspace.template, questions(rows), width, answer_tokens, progress, limit)
        return Scored([], [right for _, right in found], [text for text, _ in found], monotonic() - begun)
    encoded, asked = examples(rows, workspace.template), questions(rows)
    weighed = asked if choices else []
    nll, likelihoods = nll_and_choices(model, workspace.template, encoded, weighed, batch_tokens, progress)
    right = [question.right_by(likelihoods.get(question.row_id, ())) for question in asked]
    return Scored(nll, right, [], monotonic() - begun)
