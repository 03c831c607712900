"""Tiny random models with real tokenizers."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from g2is_assets.settings.config import WarmupSettings
from g2is_assets.training.lora import lora_parameters
from g2is_assets.training.text import IGNORED, Example
from support.rows import WORDS

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WARMUP = WarmupSettings(rank=4, alpha=8, learning_rate=1e-3, batch_size=2, epochs=2, seed=1)


def write_tiny_model(folder: Path) -> Path:
    """Write a two-layer Llama of random weights, and a byte-level BPE tokenizer with a ChatML template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"Add {word} and {word}. The answer is" for word in WORDS], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|pad|>")
    fast.chat_template = CHATML
    return write_llama(folder, fast, max_position_embeddings=256)


def write_llama(folder: Path, tokenizer: Any, **config: Any) -> Path:
    """Write a two-layer Llama of random weights with a tokenizer."""
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    made = LlamaConfig(vocab_size=len(tokenizer), **small, **heads, **ids, **config)
    LlamaForCausalLM(made).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokenizer(chat_template: str | None = CHATML, **tokens: Any) -> Any:
    """Every byte is a token; so are the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
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
    """Mean NLL of one row's answers straight from the model's logits: no padding, no hooks."""
    ids = torch.tensor([example.input_ids])
    logits = model(input_ids=ids).logits[0]
    steps = torch.tensor([n for n, label in enumerate(example.labels) if n and label != IGNORED])
    return -torch.log_softmax(logits[steps - 1], dim=-1)[torch.arange(len(steps)), ids[0, steps]].mean()
