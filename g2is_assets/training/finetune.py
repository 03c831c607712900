"""Train an adapter on some rows, look at the base model, load either: the one rule by which selections are compared."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from g2is_assets.settings.config import FinetuneSettings
from g2is_assets.training.evaluate import response_nll
from g2is_assets.training.fit import fit_lora, n_fit_tokens
from g2is_assets.training.lora import add_lora, load_adapter, save_adapter
from g2is_assets.training.model import ModelSource, pick_compute, pick_device
from g2is_assets.training.text import Example

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Trained:
    """What a training gave, besides the adapter.

    Attributes:
        best_epoch: Epoch kept; 0 is the untouched base model.
        validation_nll: Mean NLL of the validation rows at each epoch, the start first.
        n_tokens: Tokens trained on, padding not counted.
        n_tokens_passed: The same with those of validation.
        seconds: Wall-clock.
        log: One record per optimizer step and evaluation.
    """

    best_epoch: int
    validation_nll: list[float]
    n_tokens: int
    n_tokens_passed: int
    seconds: float
    log: list[dict[str, float | int | None]] = field(default_factory=list)

    @property
    def best_validation_nll(self) -> float:
        """Of the epoch kept."""
        return self.validation_nll[self.best_epoch]


def train(
    source: ModelSource,
    rows: Sequence[Example],
    validation: Sequence[Example],
    settings: FinetuneSettings,
    folder: Path,
    *,
    device: str = "auto",
    progress: Progress = lambda n_tokens: None,
) -> Trained:
    """Train a fresh adapter and save it as a PEFT folder: the best epoch by validation loss, the base included.

    Args:
        source: The base model.
        rows: Training rows, in order.
        validation: Rows that choose the epoch.
        settings: Of the training.
        folder: Where the adapter is saved.
        device: As the settings say.
        progress: Called with tokens done.
    """
    begun = time.monotonic()
    gc.collect()  # the models of earlier trainings lie in cycles, and each is as large as the one to come
    model = add_lora(source.load(device), settings, source.name)
    fit = fit_lora(
        model,
        source.tokenizer(),
        rows,
        settings,
        epochs=settings.epochs,
        schedule=settings.schedule,
        validation=validation,
        compute=pick_compute(settings.compute, device),
        packing=True,
        progress=progress,
    )
    save_adapter(model, folder)
    nll = [float(value) for entry in fit.log if (value := entry["validation_loss"]) is not None]
    passed = n_fit_tokens(rows, validation, settings.epochs)
    return Trained(fit.best_epoch, nll, fit.n_tokens, passed, time.monotonic() - begun, fit.log)


def trained_on(device: str) -> dict[str, str]:
    """What a training's digits hang on besides libraries: the device's name, and threads on the CPU."""
    picked = pick_device(device)
    name = torch.cuda.get_device_name(picked) if picked.startswith("cuda") else picked
    return {"device": name, "threads": str(torch.get_num_threads())}


def look_at_base(
    source: ModelSource, validation: Sequence[Example], batch_tokens: int, *, device: str = "auto"
) -> Trained:
    """The base model as a training of no rows: what its validation loss is."""
    begun = time.monotonic()
    nll = response_nll(source.load(device), source.tokenizer(), validation, batch_tokens)
    passed = sum(row.n_tokens for row in validation)
    return Trained(0, [float(np.mean(nll))], 0, passed, time.monotonic() - begun)


def load_tuned(source: ModelSource, adapter: Path | None, *, device: str = "auto") -> Any:
    """The base model with a saved adapter, or without one, to be scored."""
    gc.collect()  # as before a training
    model = source.load(device)
    return model if adapter is None else load_adapter(model, adapter)
