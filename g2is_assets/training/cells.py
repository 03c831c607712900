"""Train on some rows and score the result: the one rule by which a study compares selectors."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from g2is_assets.config import FinetuneSettings
from g2is_assets.training.evaluate import response_nll
from g2is_assets.training.fit import fit_lora
from g2is_assets.training.lora import add_lora, save_adapter
from g2is_assets.training.model import ModelSource
from g2is_assets.training.text import Example


@dataclass(frozen=True)
class Outcome:
    """What training on some rows gave.

    Attributes:
        best_epoch: Epoch kept; 0 is the untouched base model.
        validation_nll: Mean NLL of the validation rows at each epoch, the start first.
        nll: Mean response NLL of each test row under the kept epoch, nats per token.
        n_tokens: Tokens that passed through the training.
        training_s, scoring_s: Wall-clock seconds.
    """

    best_epoch: int
    validation_nll: list[float]
    nll: list[float]
    n_tokens: int
    training_s: float
    scoring_s: float


def train_and_score(
    source: ModelSource,
    rows: Sequence[Example],
    validation: Sequence[Example],
    test: Sequence[Example],
    settings: FinetuneSettings,
    *,
    batch_tokens: int,
    folder: Path | None = None,
    device: str = "auto",
    progress: Callable[[int], None] = lambda n_tokens: None,
) -> Outcome:
    """Train a fresh adapter, keep the best epoch by validation loss, and score every test row.

    Args:
        source: The base model.
        rows: Training rows; none scores the base model.
        validation: Rows that choose the epoch.
        test: Rows to score; none leaves scoring out, as when a rate is tried.
        settings: Of the training.
        batch_tokens: Padded tokens of a scoring batch.
        folder: Where the adapter is saved; nowhere if None.
        device: As the settings say.
        progress: Called with tokens done.
    """
    begun = time.monotonic()
    tokenizer, model = source.tokenizer(), source.load(device)
    best_epoch, n_tokens = 0, 0
    if rows:
        model = add_lora(model, settings, source.name)
        fit = fit_lora(
            model,
            tokenizer,
            rows,
            settings,
            epochs=settings.epochs,
            schedule=settings.schedule,
            validation=validation,
            progress=progress,
        )
        best_epoch, n_tokens = fit.best_epoch, fit.n_tokens
        validation_nll = [float(e["validation_loss"]) for e in fit.log if e["validation_loss"] is not None]
        if folder is not None:
            save_adapter(model, folder)
    else:
        ordered = sorted(validation, key=lambda row: row.n_tokens)
        validation_nll = [float(torch.tensor(response_nll(model, tokenizer, ordered, batch_tokens)).mean())]
    trained = time.monotonic()
    nll = response_nll(model, tokenizer, test, batch_tokens) if test else []
    scored = time.monotonic()
    return Outcome(best_epoch, validation_nll, nll, n_tokens, trained - begun, scored - trained)
