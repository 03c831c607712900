"""Tiny random models and a byte-level tokenizer, made once per test session."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from g2is_assets.training.model import ModelSource, find_model
from g2is_assets.training.text import Example, Template
from g2is_assets.training.warmup import train_warmup
from support.models import WARMUP, byte_tokenizer

ROWS = [
    ("Add 2 and 3.", "5"),
    ("Name a colour.", "Blue, for one."),
    ("Say hello in French, please.", "Bonjour!"),
    ("Which day follows Monday?", "Tuesday follows Monday."),
    ("Spell cat.", "c-a-t"),
]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama with weights large enough that no gradient vanishes, and its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def source(model_folder: Path) -> ModelSource:
    return find_model(str(model_folder), model_folder.parent)


@pytest.fixture(scope="session")
def rows(source: ModelSource) -> Sequence[Example]:
    """Five short rows of different lengths."""
    template = Template(source.tokenizer(), max_length=96)
    encoded = [template.encode(f"row{i}", [{"role": "user", "content": q}], a) for i, (q, a) in enumerate(ROWS)]
    return [example for example in encoded if example is not None]


@pytest.fixture(scope="session")
def checkpoint(source: ModelSource, rows: Sequence[Example], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warmup checkpoint of the tiny model."""
    folder = tmp_path_factory.mktemp("checkpoint")
    train_warmup(source, rows, WARMUP, folder, device="cpu")
    return folder
