"""The warmup checkpoint: LoRA weights and Adam's moments, by parameter name."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from g2is_assets.errors import ModelError
from g2is_assets.settings.config import WarmupSettings
from g2is_assets.training.fit import Fit, fit_lora
from g2is_assets.training.lora import add_lora, canonical_name, lora_parameters, save_adapter
from g2is_assets.training.model import ModelSource
from g2is_assets.training.text import Example
from g2is_assets.training.usable import try_gradients

MOMENTS_FILE: Final = "moments.safetensors"
CONSTANTS: Final = ("beta1", "beta2", "epsilon", "step")


@dataclass(frozen=True)
class Moments:
    """Adam's state after warmup.

    Attributes:
        exp_avg: First moments m by canonical parameter name, float32, in the parameter's shape.
        exp_avg_sq: Second moments v, likewise.
        beta1, beta2, epsilon: AdamW's constants.
        step: Optimizer steps taken.
    """

    exp_avg: dict[str, Tensor]
    exp_avg_sq: dict[str, Tensor]
    beta1: float
    beta2: float
    epsilon: float
    step: int


def train_warmup(
    source: ModelSource,
    rows: Sequence[Example],
    settings: WarmupSettings,
    folder: Path,
    *,
    device: str = "auto",
    progress: Callable[[int], None] = lambda n_tokens: None,
) -> Fit:
    """Train LoRA on the sample and write `adapter/` and `moments.safetensors` into `folder`.

    Those of earlier epochs that are kept lie in folders of their own below: see `checkpoint_folder`.
    """
    tokenizer = source.tokenizer()
    model = add_lora(source.load(device), settings, source.name)
    try_gradients(model)

    def keep(epoch: int, optimizer: Any) -> None:
        if epoch > settings.epochs - settings.checkpoints:
            place = folder / checkpoint_folder(epoch, settings)
            save_adapter(model, place / "adapter")
            save_moments(read_moments(model, optimizer), place / MOMENTS_FILE)

    options: dict[str, Any] = {"epochs": settings.epochs, "schedule": settings.schedule}
    return fit_lora(model, tokenizer, rows, settings, **options, epoch_done=keep, progress=progress)


def checkpoint_folder(epoch: int, settings: WarmupSettings) -> str:
    """Where an epoch's checkpoint lies, relative to that of the last."""
    return "." if epoch == settings.epochs else f"epoch_{epoch}"


def read_moments(model: Any, optimizer: Any) -> Moments:
    """Take AdamW's moments out of an optimizer, keyed by the names of the model's own parameters.

    Raises:
        ModelError: A LoRA parameter has no state, or steps differ between parameters.
    """
    first: dict[str, Tensor] = {}
    second: dict[str, Tensor] = {}
    steps = set()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        state = optimizer.state.get(parameter)
        if not state:
            raise ModelError(f"the optimizer has no state for {name}: nothing was trained")
        first[canonical_name(name)] = state["exp_avg"].detach().cpu().contiguous()
        second[canonical_name(name)] = state["exp_avg_sq"].detach().cpu().contiguous()
        steps.add(int(state["step"]))
    if len(steps) != 1:
        raise ModelError(f"the optimizer's parameters took different numbers of steps: {sorted(steps)}")
    group = optimizer.param_groups[0]
    beta1, beta2 = group["betas"]
    return Moments(first, second, beta1, beta2, group["eps"], steps.pop())


def save_moments(moments: Moments, file: Path) -> None:
    """Write moments as safetensors: `exp_avg/<name>`, `exp_avg_sq/<name>`, constants as JSON in the header."""
    tensors = {f"exp_avg/{name}": t for name, t in moments.exp_avg.items()}
    tensors |= {f"exp_avg_sq/{name}": t for name, t in moments.exp_avg_sq.items()}
    constants = {key: getattr(moments, key) for key in CONSTANTS}
    # One header entry: safetensors writes several in random order, and equal moments must be equal bytes.
    save_file(tensors, file, metadata={"adam": json.dumps(constants, sort_keys=True)})


def load_moments(file: Path, model: Any) -> Moments:
    """Read moments and check that they fit the model's LoRA parameters, name by name and shape by shape.

    Raises:
        ModelError: The file is unreadable, or names or shapes differ; the message lists them.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            constants = json.loads((opened.metadata() or {})["adam"])
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (not a dict)
        beta1, beta2, epsilon, step = (constants[key] for key in CONSTANTS)
    except Exception as error:  # safetensors raises its own untyped errors
        raise ModelError(f"{file} cannot be read: {error}; materialise warmup/checkpoint again") from error
    wanted = {name: tuple(p.shape) for name, p in lora_parameters(model).items()}
    found: dict[str, dict[str, Tensor]] = {"exp_avg": {}, "exp_avg_sq": {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        if part not in found:
            raise ModelError(f"{file}: unknown entry {key}; materialise warmup/checkpoint again")
        found[part][name] = tensor
    for part, named in found.items():
        shapes = {name: tuple(t.shape) for name, t in named.items()}
        differing = sorted({name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name)})
        if differing:
            raise ModelError(f"{file}: {part} does not fit the adapter at {len(differing)} parameters: {differing[:5]}")
        if not all(torch.isfinite(t).all() for t in named.values()):
            raise ModelError(f"{file}: {part} holds values that are not finite; materialise warmup/checkpoint again")
    return Moments(found["exp_avg"], found["exp_avg_sq"], beta1, beta2, epsilon, step)
