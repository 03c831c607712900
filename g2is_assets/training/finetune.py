"""Finetuning: one LoRA adapter on chosen rows, the best epoch by validation loss."""

from collections.abc import Callable, Sequence
from pathlib import Path

from g2is_assets.settings.config import FinetuneSettings
from g2is_assets.training.fit import Fit, fit_lora
from g2is_assets.training.lora import add_lora, save_adapter
from g2is_assets.training.model import ModelSource, pick_compute
from g2is_assets.training.text import Example


def train_adapter(
    source: ModelSource,
    rows: Sequence[Example],
    validation: Sequence[Example],
    settings: FinetuneSettings,
    folder: Path,
    *,
    device: str = "auto",
    progress: Callable[[int], None] = lambda n_tokens: None,
) -> Fit:
    """Train a fresh adapter and save the best epoch, step 0 included, as a PEFT folder."""
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
    return fit
