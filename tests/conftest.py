"""Shared fixtures: a tiny random model with a real tokenizer, and a project with two domains, one of them broken."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models gain nothing from threads, and tests run side by side
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may ask a hub for anything

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = ("apple", "bread", "cloud", "drum", "eagle", "flute", "grape", "house", "island", "jacket")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a two-layer Llama of random weights and a byte-level BPE tokenizer with a ChatML template."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny-model"))


def write_tiny_model(folder: Path) -> Path:
    """Write that model into a folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

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
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    """Write rows, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def arithmetic_row(n: int, source: str = "sums") -> dict[str, object]:
    """A row whose content depends on n alone."""
    a, b = n % 17 + 1, n // 17 + 2
    word = WORDS[n % len(WORDS)]
    return {
        "id": f"{source}:{n}",
        "source": source,
        "license": "Apache-2.0",
        "instruction": f"Add {a} {word}s and {b} {word}s." if source == "sums" else f"Spell {word} and {a * 100 + b}.",
        "input": "",
        "output": f"{a} + {b} = {a + b}. The answer is {a + b}."
        if source == "sums"
        else f"{'-'.join(word)} {a * 100 + b}",
    }


SETTINGS = """
model = "{model}"
device = "cpu"
[instructions]
sources = ["pool/*.jsonl"]
max_length = 96
[warmup]
share = 0.2
epochs = 1
rank = 2
alpha = 4
[gradients]
sketch_dim = 256
batch_tokens = 256
shard_rows = 8
[graph]
n_neighbors = 4
n_conflicts = 2
[selection]
budget = 0.15
[finetune]
rank = 2
alpha = 4
epochs = 1
"""


def write_project(root: Path, model: Path, n_pool: int = 40) -> Path:
    """A project with pool rows from two sources and the domains `sums` and `words`; returns its settings file."""
    write_jsonl(root / "pool" / "sums.jsonl", [arithmetic_row(n) for n in range(n_pool // 2)])
    write_jsonl(root / "pool" / "words.jsonl", [arithmetic_row(n, "words") for n in range(n_pool - n_pool // 2)])
    for domain, first in (("sums", 200), ("words", 300)):
        rows = [arithmetic_row(n, domain) for n in range(first, first + 12)]
        write_jsonl(root / "domains" / domain / "validation.jsonl", rows[:5])
        write_jsonl(root / "domains" / domain / "test.jsonl", rows[5:])
    settings = root / "g2is.toml"
    settings.write_text(SETTINGS.format(model=model.as_posix()), encoding="utf-8")
    return settings


def payload(lake: Path) -> dict[str, str]:
    """Digest of every payload file of every current version and of every shard, by place and file.

    Without `audit/lineage`, which is made of manifests: run ids and times are its content.
    """
    digests = {}
    for pointer in sorted(set(lake.rglob("current.json")) - set(lake.glob("audit/**/current.json"))):
        version = pointer.parent / json.loads(pointer.read_text())["version"]
        for file in sorted(version.rglob("*")):
            if file.is_file() and file.name not in ("manifest.json", ".pictures.json"):
                name = f"{pointer.parent.relative_to(lake)}/{file.relative_to(version)}"
                digests[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    for shard in sorted(lake.rglob("_store/*/[!.]*.parquet")):
        digests[str(shard.relative_to(lake))] = hashlib.sha256(shard.read_bytes()).hexdigest()
    return digests


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own project must not steer a test."""
    for name in ("G2IS_HOME", "G2IS_CONFIG", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make_project(tiny_model: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a fresh project under a name and returns its settings file."""
    return lambda name="project": write_project(tmp_path / name, tiny_model)


@pytest.fixture
def instance() -> Iterator[object]:
    """An ephemeral Dagster instance, disposed afterwards."""
    import dagster as dg

    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral
