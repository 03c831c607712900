"""Tiny random models and a byte-level tokenizer, made once per test session."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from g2is_assets.training.model import ModelSource, find_model
from g2is_assets.training.text import Example, Template
from g2is_assets.training.warmup import train_warmup
from support.models import WARMUP, byte_tokenizer, write_llama
from support.rows import answered

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
    return write_llama(folder, byte_tokenizer(), initializer_range=0.1)


@pytest.fixture(scope="session")
def source(model_folder: Path) -> ModelSource:
    return find_model(str(model_folder))


@pytest.fixture(scope="session")
def rows(source: ModelSource) -> Sequence[Example]:
    """Five short rows of different lengths."""
    template = Template(source.tokenizer(), max_length=96)
    return [template.encode(f"row{i}", answered([{"role": "user", "content": q}], a)) for i, (q, a) in enumerate(ROWS)]


@pytest.fixture(scope="session")
def checkpoint(source: ModelSource, rows: Sequence[Example], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warmup checkpoint of the tiny model."""
    folder = tmp_path_factory.mktemp("checkpoint")
    train_warmup(source, rows, WARMUP, folder, device="cpu")
    return folder
