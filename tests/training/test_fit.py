"""Training: the best epoch is kept, the untouched start included; progress and repeatability."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, MistralConfig

from g2is_assets.errors import ModelError
from g2is_assets.settings.config import LoraSettings
from g2is_assets.training.evaluate import nll_and_choices
from g2is_assets.training.fit import Fit, fit_lora, n_fit_tokens
from g2is_assets.training.lora import add_lora, convert_frozen, load_adapter, lora_parameters, save_adapter
from g2is_assets.training.model import ModelSource
from g2is_assets.training.text import Example, Template
from support.models import plain_nll

LEARNS = LoraSettings(rank=4, alpha=8, learning_rate=5e-3, batch_size=2, seed=3)


def weights(model: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in lora_parameters(model).items()}


def fit(source: ModelSource, rows: Sequence[Example], settings: LoraSettings, **options: Any) -> tuple[Fit, Any, Any]:
    """The fit, the model afterwards and the LoRA weights before."""
    model = add_lora(source.load("cpu"), settings, source.name)
    before = weights(model)
    given = {"epochs": 2, "schedule": "constant"} | options
    return fit_lora(model, source.tokenizer(), rows, settings, **given), model, before


def changed(settings: LoraSettings, **values: Any) -> LoraSettings:
    return LoraSettings(**(settings.model_dump() | values))


def nll(source: ModelSource, model: Any, rows: Sequence[Example]) -> float:
    losses = nll_and_choices(model, Template(source.tokenizer(), 128), rows, (), 256)[0]
    return sum(losses) / len(losses)


def test_the_untouched_start_is_kept_when_training_only_harms(source: ModelSource, rows: Sequence[Example]):
    prompt = rows[0].input_ids[: rows[0].n_prompt]
    # The same question, but training wants one letter eight times and validation wants another.
    training, validation = (
        [Example(name, prompt + [letter] * 8, len(prompt))] for name, letter in (("t", 10), ("v", 20))
    )
    result, model, before = fit(source, training, changed(LEARNS, learning_rate=0.9), validation=validation)
    assert result.best_epoch == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(model).items())
    assert result.best_validation_nll == pytest.approx(nll(source, source.load("cpu"), validation), rel=1e-5)
    evaluated = [entry["validation_loss"] for entry in result.log if entry["validation_loss"] is not None]
    assert len(evaluated) == 3
    assert min(evaluated[1:]) > evaluated[0], f"the rate should be absurd: {evaluated}"


def test_the_epoch_with_the_lowest_validation_loss_is_kept(source: ModelSource, rows: Sequence[Example]):
    result, model, before = fit(source, rows, LEARNS, validation=rows[:2], epochs=3)
    evaluated = [entry["validation_loss"] for entry in result.log if entry["validation_loss"] is not None]
    assert result.best_epoch == min(range(4), key=lambda epoch: evaluated[epoch]) > 0
    assert result.best_validation_nll == min(evaluated)
    assert nll(source, model, rows[:2]) == pytest.approx(result.best_validation_nll, rel=1e-5)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(model).items())


def test_a_validation_row_in_a_short_last_batch_weighs_like_any_other(source: ModelSource, rows: Sequence[Example]):
    result, model, _ = fit(source, rows, changed(LEARNS, batch_size=1), validation=rows[:3])  # 2 rows, then 1
    assert nll(source, model, rows[:3]) == pytest.approx(result.best_validation_nll, rel=1e-5)


def test_an_epoch_in_the_middle_can_be_the_best(source: ModelSource, rows: Sequence[Example]):
    # Rows 3 and 4 get worse as the model learns rows 0 to 2 by heart.
    result, model, _ = fit(
        source, rows[:3], changed(LEARNS, learning_rate=0.02), validation=rows[3:], epochs=8, schedule="constant"
    )
    evaluated = [entry["validation_loss"] for entry in result.log if entry["validation_loss"] is not None]
    assert 0 < result.best_epoch < 8, f"the example should have its minimum inside: {evaluated}"
    assert result.best_epoch == evaluated.index(min(evaluated))
    assert nll(source, model, rows[3:]) == pytest.approx(min(evaluated), rel=1e-5)


def test_on_a_tie_the_earlier_epoch_is_kept(source: ModelSource, rows: Sequence[Example]):
    result, model, before = fit(source, rows, changed(LEARNS, learning_rate=1e-30), validation=rows[:2])
    losses = {entry["validation_loss"] for entry in result.log} - {None}
    assert len(losses) == 1
    assert result.best_epoch == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(model).items())


def test_without_validation_rows_the_last_epoch_is_kept(source: ModelSource, rows: Sequence[Example]):
    result, model, before = fit(source, rows, LEARNS)
    assert result.best_epoch == 2
    assert math.isnan(result.best_validation_nll)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(model).items())
    assert nll(source, model, rows) < nll(source, source.load("cpu"), rows)


@pytest.mark.parametrize("n_validation", [0, 2])
def test_progress_adds_up_to_the_tokens_announced(source: ModelSource, rows: Sequence[Example], n_validation: int):
    told: list[int] = []
    validation = rows[:n_validation]
    result, _, _ = fit(source, rows, LEARNS, validation=validation, progress=told.append)
    n_tokens, n_validation_tokens = (sum(row.n_tokens for row in some) for some in (rows, validation))
    assert sum(told) == n_fit_tokens(rows, validation, 2) == 2 * n_tokens + 3 * n_validation_tokens
    assert min(told) >= 0
    assert result.n_tokens == 2 * n_tokens


def test_the_same_seed_gives_the_same_weights_and_log_and_another_seed_others(
    source: ModelSource, rows: Sequence[Example]
):
    (first, one, _), (second, two, _) = fit(source, rows, LEARNS), fit(source, rows, LEARNS)
    assert first.log == second.log
    assert all(torch.equal(tensor, weights(two)[name]) for name, tensor in weights(one).items())
    _, other, _ = fit(source, rows, changed(LEARNS, seed=4))
    assert any(not torch.equal(tensor, weights(other)[name]) for name, tensor in weights(one).items())


def test_only_the_lora_weights_are_trained(source: ModelSource, rows: Sequence[Example]):
    _, model, _ = fit(source, rows, LEARNS)
    trained = {name: p for name, p in model.named_parameters() if "lora_" not in name}
    fresh = add_lora(source.load("cpu"), LEARNS, source.name)
    assert trained
    assert all(torch.equal(p, trained[name]) for name, p in fresh.named_parameters() if name in trained)
    assert not model.training


def test_the_log_has_every_step_and_evaluation_and_no_times(source: ModelSource, rows: Sequence[Example]):
    result, _, _ = fit(source, rows, LEARNS, validation=rows[:2], schedule="linear")
    steps = [entry for entry in result.log if entry["train_loss"] is not None]
    assert [entry["step"] for entry in steps] == [1, 2, 3, 4, 5, 6]
    assert [entry["step"] for entry in result.log if entry["validation_loss"] is not None] == [0, 3, 6]
    rates = [float(entry["learning_rate"] or 0) for entry in steps]
    assert rates[0] == pytest.approx(5e-3)
    assert all(later < earlier for earlier, later in pairwise(rates))
    assert {key for entry in result.log for key in entry} == {
        "step", "epoch", "train_loss", "learning_rate", "validation_loss"
    }  # fmt: skip


def test_a_training_that_diverges_is_refused_and_names_the_rate(source: ModelSource, rows: Sequence[Example]):
    model = add_lora(source.load("cpu"), LEARNS, source.name)
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "lora_A" in name).fill_(torch.inf)
    with pytest.raises(ModelError, match=r"diverged.*lower learning_rate \(0.005\)"):
        fit_lora(model, source.tokenizer(), rows, LEARNS, epochs=1, schedule="constant")


def test_an_adapter_is_saved_with_the_kept_epoch(source: ModelSource, rows: Sequence[Example], tmp_path: Path):
    result, trained, _ = fit(source, rows, LEARNS, validation=rows[:2], packing=True)
    save_adapter(trained, tmp_path)
    model = load_adapter(source.load("cpu"), tmp_path)
    assert nll(source, model, rows[:2]) == pytest.approx(result.best_validation_nll, rel=1e-5)


def test_losses_come_in_the_order_of_the_rows_whatever_the_batches(source: ModelSource, rows: Sequence[Example]):
    model, template, told = source.load("cpu"), Template(source.tokenizer(), 128), []
    with torch.no_grad():
        expected = [plain_nll(model, row).item() for row in rows]
    for batch_tokens in (1, 64, 10_000):
        told.clear()
        losses = nll_and_choices(model, template, rows, (), batch_tokens, told.append)[0]
        assert losses == pytest.approx(expected, rel=1e-5)
        assert sum(told) == len(rows)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_packed_training_learns_what_padded_training_learns(source: ModelSource, rows: Sequence[Example], compute: str):
    given = {"validation": rows[:2], "epochs": 3, "compute": compute}
    _, padded, before = fit(source, rows, LEARNS, **given)
    _, packed, _ = fit(source, rows, LEARNS, packing=True, **given)
    tolerance = 1e-4 if compute == "float32" else 0.05
    for name, start in before.items():
        moved = (weights(padded)[name] - start).norm()
        assert (weights(packed)[name] - weights(padded)[name]).norm() <= tolerance * moved + 1e-7, name
        assert weights(packed)[name].dtype == torch.float32


def test_validation_rows_longer_than_a_window_are_packed_within_it(source: ModelSource, rows: Sequence[Example]):
    *_, longest = ordered = sorted(rows, key=lambda row: row.n_tokens)
    shape = {name: value for name, value in source.load("cpu").config.to_dict().items() if name != "model_type"}
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(MistralConfig(**shape | {"sliding_window": ordered[1].n_tokens}))
    model = add_lora(base, LEARNS, "tiny")
    untouched = nll(source, model.eval(), [longest])
    given = {"epochs": 1, "schedule": "constant", "validation": [longest], "packing": True}
    result = fit_lora(model, source.tokenizer(), ordered[:2], LEARNS, **given)
    assert result.log[0]["validation_loss"] == pytest.approx(untouched, rel=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_mixed_precision_holds_frozen_matrices_in_half_and_all_else_in_float32(source: ModelSource, tied: bool):
    config = source.load("cpu").config
    config.tie_word_embeddings = tied
    model = add_lora(AutoModelForCausalLM.from_config(config), LEARNS, "tiny")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    convert_frozen(model)
    types = {name: parameter.dtype for name, parameter in model.named_parameters()}
    halved = {name for name, dtype in types.items() if dtype == torch.bfloat16}
    assert halved == {name for name in types if ".lora_" not in name and "norm" not in name}
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) is tied
    assert model.get_input_embeddings()(torch.tensor([1])).dtype == torch.float32


def test_mixed_precision_is_another_training_of_the_same_rows(source: ModelSource, rows: Sequence[Example]):
    exact, mixed = (fit(source, rows, LEARNS, compute=compute)[0].log for compute in ("float32", "bfloat16"))
    first = [log[0]["train_loss"] for log in (exact, mixed)]
    assert first[0] != first[1]
    assert first[0] == pytest.approx(first[1], rel=0.02)
