"""LoRA adapters: fresh ones, names, and folders with equal bytes that PEFT itself can load."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from g2is_assets.errors import ModelError
from g2is_assets.settings.config import LoraSettings
from g2is_assets.training.lora import (
    ADAPTER_FILE,
    add_lora,
    canonical_name,
    load_adapter,
    lora_parameters,
    save_adapter,
)
from g2is_assets.training.model import ModelSource
from support.models import fill_lora

SETTINGS = LoraSettings(rank=4, alpha=12, seed=5)
IDS = torch.tensor([[3, 1, 4, 1, 5, 9]])


@pytest.fixture
def lora(source: ModelSource) -> Any:
    return fill_lora(add_lora(source.load("cpu"), SETTINGS, source.name)).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_a_fresh_adapter_changes_nothing_yet(source: ModelSource):
    assert torch.equal(logits(add_lora(source.load("cpu"), SETTINGS, "tiny").eval()), logits(source.load("cpu")))


def test_a_is_drawn_from_the_seed_and_b_is_zero(source: ModelSource):
    first, second = (lora_parameters(add_lora(source.load("cpu"), SETTINGS, "tiny")) for _ in range(2))
    other = lora_parameters(add_lora(source.load("cpu"), LoraSettings(rank=4, alpha=12, seed=6), "tiny"))
    assert len(first) == 2 * 4 * 2  # A and B at q, k, v, o of two layers
    for name, parameter in first.items():
        assert torch.equal(parameter, second[name])
        assert torch.equal(parameter, other[name]) == ("lora_B" in name)
        assert (parameter == 0).all().item() == ("lora_B" in name)


def test_only_the_adapter_is_trainable_and_nothing_is_dropped_out(source: ModelSource):
    model = add_lora(source.load("cpu"), SETTINGS, "tiny")
    assert {"lora_" in name for name, p in model.named_parameters() if p.requires_grad} == {True}
    assert model.peft_config["default"].lora_dropout == 0.0


def test_parameters_are_named_as_in_the_saved_file(lora: Any, tmp_path: Path):
    save_adapter(lora, tmp_path)
    saved, held = load_file(tmp_path / ADAPTER_FILE), lora_parameters(lora)
    assert saved.keys() == held.keys()
    assert all(torch.equal(saved[name], held[name]) for name in saved)
    assert canonical_name("model.q_proj.lora_A.default.weight") == "model.q_proj.lora_A.weight"


def test_two_saves_have_the_same_files_and_bytes(lora: Any, tmp_path: Path):
    for name in ("first", "second"):
        save_adapter(lora, tmp_path / name)
    first, second = ({f.name: f.read_bytes() for f in (tmp_path / n).iterdir()} for n in ("first", "second"))
    assert first == second
    assert first.keys() == {ADAPTER_FILE, "adapter_config.json"}


def test_the_saved_config_names_the_base_and_sorts_its_targets(lora: Any, tmp_path: Path, source: ModelSource):
    save_adapter(lora, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == source.name == "tiny"
    assert config["target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert (config["r"], config["lora_alpha"]) == (4, 12)


def test_peft_loads_the_folder_and_computes_the_same(lora: Any, tmp_path: Path, source: ModelSource):
    from peft import PeftModel

    save_adapter(lora, tmp_path)
    loaded = PeftModel.from_pretrained(source.load("cpu"), tmp_path).eval()
    assert torch.equal(logits(loaded), logits(lora))
    assert not torch.allclose(logits(loaded), logits(source.load("cpu")), atol=1e-4)


def test_a_loaded_adapter_is_frozen_and_in_evaluation_mode(lora: Any, tmp_path: Path, source: ModelSource):
    save_adapter(lora, tmp_path)
    loaded = load_adapter(source.load("cpu"), tmp_path)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert torch.equal(logits(loaded), logits(lora))


def test_targets_that_the_model_does_not_have_are_refused_with_a_remedy(source: ModelSource):
    settings = LoraSettings(targets=("c_attn",))
    with pytest.raises(ModelError, match=r"take c_attn out of `targets`, of which these are possible: down_proj"):
        add_lora(source.load("cpu"), settings, "tiny")
