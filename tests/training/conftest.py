"""Tiny random models and a byte-level tokenizer, made once per test session."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from g2is_assets.settings.config import WarmupSettings
from g2is_assets.training.lora import lora_parameters
from g2is_assets.training.model import ModelSource, find_model
from g2is_assets.training.text import Example, Template
from g2is_assets.training.warmup import train_warmup

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

ROWS = [
    ("Add 2 and 3.", "5"),
    ("Name a colour.", "Blue, for one."),
    ("Say hello in French, please.", "Bonjour!"),
    ("Which day follows Monday?", "Tuesday follows Monday."),
    ("Spell cat.", "c-a-t"),
]

SETTINGS = WarmupSettings(rank=4, alpha=8, learning_rate=1e-3, batch_size=2, epochs=2, seed=1)


def byte_tokenizer(chat_template: str | None = CHATML, **tokens: Any) -> Any:
    """Every byte is a token; so are the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    named = {
        "eos_token": "<|im_end|>",
        "pad_token": "<|pad|>",
        "additional_special_tokens": ["<|im_start|>", "<|eot|>", "<|header|>"],
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **(named | tokens))
    tokenizer.chat_template = chat_template
    return tokenizer


def fill_lora(model: Any, seed: int = 0, scale: float = 0.1) -> Any:
    """Random values in A and B, so that neither has a gradient of zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in lora_parameters(model).values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model


def plain_nll(model: Any, example: Example) -> torch.Tensor:
    """Mean NLL of one row's response straight from the model's logits: no padding, no hooks."""
    ids = torch.tensor([example.input_ids])
    logits = model(input_ids=ids).logits[0]
    first = max(example.n_prompt, 1)
    steps = torch.arange(first, ids.shape[1])
    return -torch.log_softmax(logits[steps - 1], dim=-1)[torch.arange(len(steps)), ids[0, steps]].mean()


@dataclass(frozen=True)
class Tools:
    """The helpers above, for tests."""

    tokenizer: Callable[..., Any] = byte_tokenizer
    fill_lora: Callable[..., Any] = fill_lora
    plain_nll: Callable[[Any, Example], torch.Tensor] = plain_nll
    chatml: str = CHATML
    settings: WarmupSettings = SETTINGS


@pytest.fixture(scope="session")
def tools() -> Tools:
    return Tools()


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
    train_warmup(source, rows, SETTINGS, folder, device="cpu")
    return folder
