"""Costs are added up right, exact cosines come without the flat array, and measuring leaves the model as it was."""

from pathlib import Path

import pytest
import torch

from g2is_assets.core.projection import Sketch
from g2is_assets.settings.config import LoraSettings
from g2is_assets.training.gradients import BatchCost, Gram, floor_seconds, summarise
from g2is_assets.training.lora import add_lora, lora_parameters
from g2is_assets.training.model import find_model
from g2is_assets.training.text import Template, collator
from support.rows import answered


def test_cosine_errors_equal_those_of_the_flat_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = {"a": torch.randn(4, 300, generator=generator), "b": torch.randn(4, 170, generator=generator)}
    sketch = Sketch({name: part.shape[1] for name, part in parts.items()}, sketch_dim=64)
    gram, sketched = Gram(), sketch.zeros(4)
    for name, part in parts.items():
        gram.add("sgd", part)
        sketch.add(sketched, name, part)
    flat = torch.nn.functional.normalize(torch.cat(list(parts.values()), dim=1).double(), dim=1)
    short = torch.nn.functional.normalize(sketched.double(), dim=1)
    expected = [float(short[i] @ short[j] - flat[i] @ flat[j]) for i in range(4) for j in range(i + 1, 4)]
    assert gram.cosine_errors({"sgd": sketched}) == pytest.approx(expected, abs=1e-9)
    assert max(map(abs, expected)) > 1e-3  # 64 numbers cannot be exact


def test_a_summary_is_worked_by_hand() -> None:
    costs = [
        BatchCost(n_rows=2, n_tokens=10, total_s=2.0, mix_s=0.5, sketch_s=0.25),
        BatchCost(n_rows=2, n_tokens=30, total_s=2.0, mix_s=0.5, sketch_s=0.75, floor_s=1.5, cosine_errors=[0.3, -0.4]),
    ]
    report = summarise(costs, elapsed_s=5.0)
    assert report.pop("peak_memory_bytes") > 1e6
    assert report == pytest.approx(
        {
            "rows_per_s": 0.8,
            "tokens_per_s": 8.0,
            "mix_share": 0.25,
            "sketch_share": 0.25,
            "speed_to_floor": 0.75,
            "start_and_io_s": 1.0,
            "cosine_error_rms": 0.125**0.5,
            "cosine_error_max": 0.4,
        }
    )


def test_a_summary_of_nothing_has_the_same_keys_and_no_numbers() -> None:
    nothing = summarise([], elapsed_s=0.0)
    assert nothing.keys() == summarise([BatchCost(1, 1, 1.0)], elapsed_s=1.0).keys()
    assert {value for name, value in nothing.items() if name != "peak_memory_bytes"} == {0.0}


def test_a_clock_adds_up() -> None:
    cost = BatchCost()
    for _ in range(2):
        with cost.clock("mix"):
            torch.randn(1000).sum()
    assert 0 < cost.mix_s < 60
    assert cost.sketch_s == 0


def test_measuring_the_floor_leaves_the_model_as_it_was(tiny_model: Path) -> None:
    source = find_model(str(tiny_model))
    model = add_lora(source.load("cpu"), LoraSettings(rank=2), source.name).eval()
    model.requires_grad_(False)
    before = {name: p.clone() for name, p in model.named_parameters()}
    example = Template(source.tokenizer(), 96).encode("r", answered([{"role": "user", "content": "Add 1 and 2."}], "3"))
    assert example is not None
    batch = collator(source.tokenizer())([example.features()])
    assert floor_seconds(model, batch, list(lora_parameters(model).values())) > 0
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
