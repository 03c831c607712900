"""LoRA adapters on a frozen model: making, naming, saving without volatile bytes, loading."""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from g2is_assets.errors import ModelError
from g2is_assets.settings.config import LoraSettings

ADAPTER_FILE: Final = "adapter_model.safetensors"


def add_lora(model: Any, settings: LoraSettings, base_name: str) -> Any:
    """The model with fresh LoRA layers: A random from the seed, B zero, dropout off.

    Raises:
        ModelError: A target names no layer, or one that LoRA cannot adapt.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=list(settings.targets),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2's transposed layers
    )
    if fault := fault_of_targets(model, settings.targets):
        raise ModelError(fault)
    torch.manual_seed(settings.seed)
    peft_model = get_peft_model(model, config)
    peft_model.peft_config["default"].base_model_name_or_path = base_name
    return peft_model


def lora_bytes(model: Any, settings: LoraSettings) -> int:
    """Bytes of an adapter's file: float32, rank x (inputs + outputs) of every layer adapted."""
    shapes = (
        module.weight.shape
        for name, module in model.named_modules()
        if any(name == target or name.endswith(f".{target}") for target in settings.targets)
    )
    return 4 * settings.rank * sum(map(sum, shapes))


def fault_of_targets(model: Any, targets: Iterable[str], *, by_row: bool = False) -> str | None:
    """Which of these names LoRA cannot adapt in a model, and what to set instead; None where it can adapt all.

    The output layer can be trained where it is no copy of the embeddings, but has no gradients by row (`by_row`).
    """
    from transformers.pytorch_utils import Conv1D

    layers, head = dict(model.named_modules()), model.get_output_embeddings()
    is_tied = head is not None and head.weight is model.get_input_embeddings().weight
    linear = {name for name, module in layers.items() if isinstance(module, torch.nn.Linear | Conv1D)}
    faults = {}
    for target in targets:
        found = [name for name in layers if name == target or name.endswith(f".{target}")]
        others = [name for name in found if name not in linear]
        if not found:
            faults[target] = "is the name of no layer"
        elif others:
            faults[target] = f"is no linear layer ({others[0]}: {type(layers[others[0]]).__name__})"
        elif (is_tied or by_row) and any(layers[name] is head for name in found):
            faults[target] = "is the output layer" + (", whose weights are those of the embeddings" if is_tied else "")
    if not faults:
        return None
    said = "; ".join(f"'{target}' {why}" for target, why in faults.items())
    known = sorted({name.rpartition(".")[2] for name in linear if layers[name] is not head})
    return f"{said}; take {', '.join(faults)} out of `targets`, of which these are possible: {', '.join(known)}"


def not_finite(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[str]:
    """Names of those tensors that hold NaN or an infinity; each is read once."""
    for name, tensor in tensors:
        if tensor.is_floating_point() and tensor.numel():
            lowest, highest = tensor.detach().aminmax()
            if not (lowest.isfinite() and highest.isfinite()):
                yield name


def convert_frozen(model: Any) -> None:
    """Frozen matrices to bfloat16 once, as mixed precision would at every step; all other weights to float32.

    Embeddings are looked up in bfloat16 and go on in float32, so that the sum of what the layers add stays exact.
    """
    from transformers.pytorch_utils import Conv1D

    for name, module in model.named_modules():
        if ".lora_" not in name:
            halved = isinstance(module, torch.nn.Linear | Conv1D | torch.nn.Embedding)
            for parameter in module.parameters(recurse=False):
                if not parameter.requires_grad:
                    parameter.data = parameter.data.to(torch.bfloat16 if halved else torch.float32)
    model.get_input_embeddings().register_forward_hook(lambda _module, _inputs, output: output.float())


def keep_first_layers(model: Any, share: float) -> None:
    """Take all but the first layers out of a model, their number rounded up.

    Raises:
        ModelError: Its layers do not stand in one list.
    """
    config = model.config.get_text_config()
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, torch.nn.ModuleList) and len(child) == config.num_hidden_layers:
                config.num_hidden_layers = math.ceil(share * len(child))
                setattr(module, name, child[: config.num_hidden_layers])
                return
    raise ModelError("the model's layers do not stand in one list; set another `by` in [gradients.prescreen]")


def canonical_name(name: str) -> str:
    """A parameter's name as PEFT saves it: without the adapter's name inside."""
    return name.replace(".default.", ".")


def lora_parameters(model: Any) -> dict[str, Tensor]:
    """LoRA parameters by canonical name, in the model's order."""
    return {canonical_name(name): p for name, p in model.named_parameters() if ".lora_A." in name or ".lora_B." in name}


def save_adapter(model: Any, folder: Path) -> None:
    """Save a PEFT folder whose bytes depend on the adapter alone: keys and target names sorted, no model card."""
    model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)  # no look-up on the hub
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config["target_modules"] = sorted(config["target_modules"])
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_adapter(model: Any, folder: Path) -> Any:
    """The model with the adapter of a PEFT folder, frozen."""
    from peft import PeftModel

    try:
        tuned = PeftModel.from_pretrained(model, folder).eval()
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the adapter in {folder} cannot be loaded: {reason}; materialise it again") from error
    if bad := next(not_finite(lora_parameters(tuned).items()), None):
        raise ModelError(f"the adapter in {folder} has weights that are not finite, in {bad}; materialise it again")
    return tuned
