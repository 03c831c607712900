"""LoRA training with transformers' Trainer: one rule for warmup, the subset's adapter, the baseline and every trial."""

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from g2is_assets.errors import ModelError
from g2is_assets.settings.config import LoraSettings
from g2is_assets.training.engine import flops, peak_flops, speed
from g2is_assets.training.lora import convert_frozen, lora_parameters
from g2is_assets.training.loss import APART, attending, row_losses, way_to_pack
from g2is_assets.training.model import pick_device
from g2is_assets.training.text import Example, collator
from g2is_assets.training.usable import TOLERANCE

Progress = Callable[[int], None]
EpochDone = Callable[[int, Any], None]

MAX_GRAD_NORM: Final = 1.0
"""Batch gradients are clipped to this norm (transformers' default, as in LESS): Adam's moments are of clipped ones."""


@dataclass
class Fit:
    """What a training gave, besides the model's weights.

    Attributes:
        log: One record per optimizer step and evaluation.
        rates: Mean learning rate of each epoch's steps.
        best_epoch: Epoch whose weights the model now has; 0 is the untouched start.
        validation_nll: Mean NLL of the validation rows at each epoch, the start first; empty without such rows.
        n_tokens: Tokens trained on, padding not counted.
        n_tokens_passed: The same with those of validation.
        passed_s: Wall-clock of training and validation.
        peak_share: Share that the operations needed are of what a bare product does in that time.
        seconds: Wall-clock, with loading and saving.
    """

    log: list[dict[str, float | int | None]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    best_epoch: int = 0
    validation_nll: list[float] = field(default_factory=list)
    n_tokens: int = 0
    n_tokens_passed: int = 0
    passed_s: float = 0.0
    peak_share: float = 0.0
    seconds: float = 0.0

    def speed(self, label: str) -> dict[str, float]:
        """Metrics of how fast it was, told to whoever watches."""
        return speed(label, self.n_tokens_passed, self.passed_s, self.peak_share)

    @property
    def best_validation_nll(self) -> float:
        """Of the epoch kept; NaN without validation rows."""
        return self.validation_nll[self.best_epoch] if self.validation_nll else math.nan


def trained_on(device: str) -> dict[str, str]:
    """What a training's digits hang on besides libraries: the device's name, and threads on the CPU."""
    picked = pick_device(device)
    name = torch.cuda.get_device_name(picked) if picked.startswith("cuda") else picked
    return {"device": name, "threads": str(torch.get_num_threads())}


def fit_lora(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Example],
    settings: LoraSettings,
    *,
    epochs: int,
    schedule: str,
    validation: Sequence[Example] = (),
    compute: str = "float32",
    packing: bool = False,
    epoch_done: EpochDone = lambda epoch, optimizer: None,
    progress: Progress = lambda n_tokens: None,
) -> Fit:
    """Train the LoRA parameters in place with AdamW; every row's mean loss weighs alike.

    With validation rows, the epoch with the lowest mean of their row losses is kept, the untouched start (step 0)
    included, the earlier one on a tie. Deterministic for one seed, thread count and machine.

    Args:
        model: PEFT model from `add_lora`; on return it holds the kept weights, in evaluation mode.
        tokenizer: For padding.
        rows: Training rows, at least one.
        settings: Rate, batch size, seed.
        epochs: Passes over the rows.
        schedule: `linear`, `cosine` or `constant`, without warm-up steps.
        validation: Rows that choose the epoch; empty keeps the last one.
        compute: `float32`, or `bfloat16` for products in bfloat16: LoRA weights and losses stay float32, the frozen
            linear layers are left in bfloat16.
        packing: Train on a batch's rows as one sequence without padding, where the model keeps them apart.
        epoch_done: Called with each epoch's number, from 1, and the optimizer, while the weights are that epoch's.
        progress: Told the tokens done, `n_fit_tokens` of them in all.

    Raises:
        ModelError: A loss is not finite.
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("there are no rows to train on")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    collate = collator(tokenizer)
    with ExitStack() as stack:
        # The Trainer wants a folder; with these settings it writes nothing.
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        way = None
        if packing and len(rows) > 1:
            longest = sorted([*rows, *validation], key=lambda row: -row.n_tokens)[:2]
            batch = collate([row.features() for row in longest]).to(next(model.parameters()).device)
            ways = [*([APART] if batch["input_ids"].device.type == "cpu" else []), model.config._attn_implementation]
            way = way_to_pack(model.eval(), batch, ways, TOLERANCE)
        stack.enter_context(attending(model, way))
        if compute == "bfloat16":
            convert_frozen(model)
        arguments = TrainingArguments(
            output_dir=scratch,
            num_train_epochs=epochs,
            learning_rate=settings.learning_rate,
            lr_scheduler_type=schedule,
            per_device_train_batch_size=settings.batch_size,
            per_device_eval_batch_size=2 * settings.batch_size,
            weight_decay=0.0,
            max_grad_norm=MAX_GRAD_NORM,
            seed=settings.seed,
            data_seed=settings.seed,
            bf16=compute == "bfloat16",
            use_cpu=next(model.parameters()).device.type == "cpu",
            save_strategy="no",
            eval_strategy="epoch" if validation else "no",
            eval_on_start=bool(validation),
            logging_steps=1,
            logging_nan_inf_filter=False,  # a loss that is not finite must show
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            label_names=["labels"],
        )
        result = Fit(n_tokens=n_fit_tokens(rows, (), epochs), n_tokens_passed=n_fit_tokens(rows, validation, epochs))
        per_step = result.n_tokens / (epochs * math.ceil(len(rows) / settings.batch_size))
        trainer = _RowMeanTrainer(
            model=model,
            args=arguments,
            train_dataset=[row.features() for row in rows],
            # Similar lengths together; the mean over rows does not depend on the order.
            eval_dataset=[row.features() for row in sorted(validation, key=lambda row: row.n_tokens)] or None,
            data_collator=collate,
            packed=way is not None,
            callbacks=[
                _KeepBest(result),
                _Epochs(result, epoch_done),
                _Report(per_step, n_fit_tokens(validation, (), 1), progress),
            ],
        )
        trainer.remove_callback(PrinterCallback)
        begun = time.perf_counter()
        trainer.train()
        result.passed_s = time.perf_counter() - begun
    n_loss, own = sum(row.n_loss for row in rows), (epochs + 1) * sum(row.n_loss for row in validation)
    needed = flops(model, result.n_tokens, epochs * n_loss)
    needed += flops(model, result.n_tokens_passed - result.n_tokens, own, backward=False)
    peak = peak_flops(str(next(model.parameters()).device), compute)
    result.peak_share = needed / result.passed_s / peak
    result.log = _tidy(trainer.state.log_history)
    model.eval()
    losses = [entry[name] for entry in result.log for name in ("train_loss", "validation_loss")]
    if not all(loss is None or math.isfinite(loss) for loss in losses):
        raise ModelError(
            f"training diverged: the LoRA weights are not finite; lower learning_rate ({settings.learning_rate})"
        )
    return result


def n_fit_tokens(rows: Sequence[Example], validation: Sequence[Example], epochs: int) -> int:
    """Tokens that `fit_lora` passes through the model: training, and validation before it and after each epoch."""
    return epochs * sum(row.n_tokens for row in rows) + (epochs + 1) * sum(row.n_tokens for row in validation)


class _RowMeanTrainer(Trainer):  # type: ignore[misc]
    """The Trainer with the project's own loss."""

    def __init__(self, *args: Any, packed: bool, **options: Any) -> None:
        super().__init__(*args, **options)
        self.packed = packed

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        loss = row_losses(model, inputs, packed=self.packed).mean()
        return (loss, {}) if return_outputs else loss

    def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> tuple[Tensor, None, None]:
        with torch.no_grad():
            return row_losses(model, self._prepare_inputs(inputs), packed=self.packed).mean(), None, None


class _KeepBest(TrainerCallback):  # type: ignore[misc]
    """Keeps a copy of the LoRA weights with the lowest validation loss and puts it back at the end."""

    def __init__(self, result: Fit) -> None:
        self.result = result
        self.weights: dict[str, Tensor] = {}

    def on_evaluate(self, _: Any, state: Any, *__: Any, model: Any, metrics: dict[str, float], **___: Any) -> None:
        loss = float(metrics["eval_loss"])
        if not self.weights or loss < self.result.best_validation_nll:
            self.weights = {name: p.detach().clone() for name, p in lora_parameters(model).items()}
            self.result.best_epoch = round(state.epoch or 0)
        self.result.validation_nll.append(loss)

    def on_train_end(self, args: Any, *_: Any, model: Any, **__: Any) -> None:
        if not self.weights:
            self.result.best_epoch = int(args.num_train_epochs)
            return
        with torch.no_grad():
            for name, parameter in lora_parameters(model).items():
                parameter.copy_(self.weights[name])


class _Epochs(TrainerCallback):  # type: ignore[misc]
    """Takes the mean rate of each epoch, and tells when it is done."""

    def __init__(self, result: Fit, done: EpochDone) -> None:
        self.result, self.done = result, done
        self.rates: list[float] = []

    def on_step_begin(self, *_: Any, lr_scheduler: Any, **__: Any) -> None:
        self.rates.append(float(lr_scheduler.get_last_lr()[0]))

    def on_epoch_end(self, *_: Any, optimizer: Any, **__: Any) -> None:
        self.result.rates.append(math.fsum(self.rates) / len(self.rates))
        self.rates = []
        self.done(len(self.result.rates), optimizer)


class _Report(TrainerCallback):  # type: ignore[misc]
    """Tells the progress display how many tokens each step took."""

    def __init__(self, per_step: float, per_evaluation: int, progress: Progress) -> None:
        self.per_step, self.per_evaluation, self.progress = per_step, per_evaluation, progress
        self.steps = self.told = 0

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        self.progress(self.per_evaluation)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps += 1
        done = round(self.steps * self.per_step)
        self.progress(done - self.told)
        self.told = done


def _tidy(history: list[dict[str, Any]]) -> list[dict[str, float | int | None]]:
    """The Trainer's log without times, so that equal runs give equal tables."""
    return [
        {
            "step": int(entry["step"]),
            "epoch": float(entry.get("epoch") or 0.0),
            "train_loss": entry.get("loss"),
            "learning_rate": entry.get("learning_rate"),
            "validation_loss": entry.get("eval_loss"),
        }
        for entry in history
        if "loss" in entry or "eval_loss" in entry
    ]
