"""Costs are added up right, operations counted right, and the speed is told."""

from pathlib import Path

import pytest
import torch

from g2is_assets.settings.config import LoraSettings
from g2is_assets.training.engine import flops, peak_flops, speed
from g2is_assets.training.gradients import BatchCost, summarise
from g2is_assets.training.lora import add_lora
from g2is_assets.training.model import find_model


def test_a_summary_is_worked_by_hand() -> None:
    costs = [
        BatchCost(n_rows=2, n_tokens=10, total_s=2.0, mix_s=0.5, sketch_s=0.25, packed_rows=2, n_flop=3e9, peak_s=1.0),
        BatchCost(n_rows=2, n_tokens=30, total_s=2.0, mix_s=0.5, sketch_s=0.75, n_flop=4e9, peak_s=0.5),
    ]
    report = summarise(costs, elapsed_s=5.0)
    assert report.pop("peak_memory_bytes") > 1e6
    assert report == pytest.approx(
        {
            "rows_per_s": 0.8,
            "tokens_per_s": 8.0,
            "mix_share": 0.25,
            "sketch_share": 0.25,
            "packed_share": 0.5,
            "peak_share": 0.375,
            "start_and_io_s": 1.0,
            "n_flop": 7e9,
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


def test_operations_of_a_pass_are_counted_by_hand(tiny_model: Path) -> None:
    source = find_model(str(tiny_model))
    model = add_lora(source.load("cpu"), LoraSettings(rank=2, targets=("q_proj",)), source.name)
    n_ids = model.config.vocab_size
    # Two layers of q and o (32 x 32), k and v (16 x 32), gate, up and down (48 x 32), and the adapter (2 x 32 twice).
    lora = 2 * 2 * 2 * 32
    body = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32) + lora
    assert flops(model, 10, 3, backward=False) == 2 * (10 * body + 3 * n_ids * 32)
    assert flops(model, 10, 3) == 4 * (10 * body + 3 * n_ids * 32) + 2 * 10 * lora


def test_a_bare_product_is_timed_once_in_a_process() -> None:
    assert peak_flops("cpu", "float32") == peak_flops("cpu", "float32") > 1e6


def test_speed_is_told_where_the_model_was_at_work(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert speed("rest", 0, 0.0, 0.0)["tokens_per_s"] == 0
        assert not caplog.records
        assert speed("warmup", 500, 2.0, 0.25)["tokens_per_s"] == 250
    assert "warmup: 500 tokens, 250 tokens/s, 25 % of the rate of a bare product" in caplog.text
