"""LoRA adapters on a frozen model: making, naming, saving without volatile bytes, loading."""

import json
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
        ModelError: No layer carries one of the target names.
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
    torch.manual_seed(settings.seed)
    try:
        peft_model = get_peft_model(model, config)
    except ValueError as error:
        raise ModelError(f"LoRA does not fit the model: {error}; set `targets` to names of its linear layers") from None
    peft_model.peft_config["default"].base_model_name_or_path = base_name
    return peft_model


def convert_frozen(model: Any) -> None:
    """Frozen linear layers to bfloat16 once, as mixed precision would at every step; not what the embeddings share."""
    shared = model.get_input_embeddings().weight
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad and module.weight is not shared:
            module.to(torch.bfloat16)


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
        return PeftModel.from_pretrained(model, folder).eval()
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the adapter in {folder} cannot be loaded: {reason}; materialise it again") from error
