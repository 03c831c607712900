"""The warmup checkpoint: moments equal those of torch's own AdamW, and a damaged file is refused."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from g2is_assets.errors import ModelError
from g2is_assets.settings.config import WarmupSettings
from g2is_assets.training.lora import ADAPTER_FILE, add_lora, lora_parameters
from g2is_assets.training.model import ModelSource
from g2is_assets.training.text import Example
from g2is_assets.training.warmup import MOMENTS_FILE, Moments, load_moments, read_moments, save_moments, train_warmup
from support.models import WARMUP, plain_nll

N_STEPS = 3


@pytest.fixture(scope="module")
def whole_batches(rows: Sequence[Example]) -> WarmupSettings:
    """One batch per epoch, so that the order of the rows plays no part."""
    changed = {"batch_size": len(rows), "epochs": N_STEPS, "schedule": "constant"}
    return WarmupSettings(**(WARMUP.model_dump() | changed))


@pytest.fixture(scope="module")
def by_hand(source: ModelSource, rows: Sequence[Example], whole_batches: WarmupSettings) -> Any:
    """The same training with torch's optimizer and the plain loss: (model, optimizer, gradient norms).

    Gradients are clipped at norm 1 before they enter the moments, as transformers' Trainer and LESS do.
    """
    model = add_lora(source.load("cpu"), whole_batches, source.name).train()
    parameters = list(lora_parameters(model).values())
    optimizer = torch.optim.AdamW(parameters, lr=whole_batches.learning_rate, weight_decay=0.0)
    norms = []
    for _ in range(N_STEPS):
        optimizer.zero_grad()
        torch.stack([plain_nll(model, row) for row in rows]).mean().backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, 1.0).item())
        optimizer.step()
    return model, optimizer, norms


@pytest.fixture(scope="module")
def trained(source: ModelSource, rows: Sequence[Example], whole_batches: WarmupSettings, tmp_path_factory: Any) -> Path:
    folder = Path(tmp_path_factory.mktemp("whole_batches"))
    train_warmup(source, rows, whole_batches, folder, device="cpu")
    return folder


@pytest.fixture
def lora(source: ModelSource) -> Any:
    return add_lora(source.load("cpu"), WARMUP, source.name)


def test_moments_are_those_of_torchs_adamw_by_name(trained: Path, by_hand: Any, lora: Any):
    model, optimizer, norms = by_hand
    assert min(norms) > 1, f"the example should be one in which clipping acts: {norms}"
    found = load_moments(trained / MOMENTS_FILE, lora)
    assert found.exp_avg.keys() == found.exp_avg_sq.keys() == lora_parameters(lora).keys()
    for name, parameter in lora_parameters(model).items():
        for key in ("exp_avg", "exp_avg_sq"):
            expected = optimizer.state[parameter][key]
            error = (getattr(found, key)[name] - expected).norm() / expected.norm()
            assert error < 1e-4, f"{key} of {name}: relative error {error:.1e}"
    assert (found.step, found.beta1, found.beta2, found.epsilon) == (N_STEPS, 0.9, 0.999, 1e-8)


def test_the_adapter_saved_is_the_one_that_torchs_adamw_trains(trained: Path, by_hand: Any):
    saved = load_file(trained / "adapter" / ADAPTER_FILE)
    for name, parameter in lora_parameters(by_hand[0]).items():
        torch.testing.assert_close(saved[name], parameter.detach(), rtol=1e-3, atol=1e-4)
    assert all(saved[name].abs().max() > 1e-3 for name in saved if "lora_B" in name)


def test_the_same_settings_give_the_same_files(
    source: ModelSource, rows: Sequence[Example], checkpoint: Path, tmp_path: Path
):
    train_warmup(source, rows, WARMUP, tmp_path, device="cpu")
    for file in (f"adapter/{ADAPTER_FILE}", "adapter/adapter_config.json", MOMENTS_FILE):
        assert (tmp_path / file).read_bytes() == (checkpoint / file).read_bytes(), file


# --- reading and writing ------------------------------------------------------------------------------------------


def some_moments(model: Any) -> Moments:
    generator = torch.Generator().manual_seed(0)

    def draw() -> dict[str, Tensor]:
        return {name: torch.rand(p.shape, generator=generator) for name, p in lora_parameters(model).items()}

    return Moments(draw(), draw(), beta1=0.87, beta2=0.9985, epsilon=1.5e-8, step=17)


def test_checkpoints_of_earlier_epochs_are_those_of_shorter_trainings_with_the_mean_rate_of_each(
    source: ModelSource, rows: Sequence[Example], tmp_path: Path
):
    steps = -(-len(rows) // WARMUP.batch_size)
    asked = WARMUP.model_copy(update={"epochs": 3, "checkpoints": 2, "schedule": "constant"})
    fit = train_warmup(source, rows, asked, tmp_path / "three", device="cpu")
    shorter = asked.model_copy(update={"epochs": 2, "checkpoints": 1})
    train_warmup(source, rows, shorter, tmp_path / "two", device="cpu")
    assert not (tmp_path / "three" / "epoch_1").exists()
    for file in (Path("adapter") / ADAPTER_FILE, Path(MOMENTS_FILE)):
        early = (tmp_path / "three" / "epoch_2" / file).read_bytes()
        assert early == (tmp_path / "two" / file).read_bytes()
        assert early != (tmp_path / "three" / file).read_bytes()
    assert fit.rates == pytest.approx([WARMUP.learning_rate] * 3)
    linear = asked.model_copy(update={"schedule": "linear"})
    fit = train_warmup(source, rows, linear, tmp_path / "linear", device="cpu")
    used = [WARMUP.learning_rate * (1 - step / (3 * steps)) for step in range(3 * steps)]
    means = [sum(used[n * steps : (n + 1) * steps]) / steps for n in range(3)]
    assert fit.rates == pytest.approx(means)


def test_a_round_trip_keeps_every_tensor_and_constant(lora: Any, tmp_path: Path):
    moments = some_moments(lora)
    save_moments(moments, tmp_path / MOMENTS_FILE)
    found = load_moments(tmp_path / MOMENTS_FILE, lora)
    assert (found.beta1, found.beta2, found.epsilon, found.step) == (0.87, 0.9985, 1.5e-8, 17)
    for key in ("exp_avg", "exp_avg_sq"):
        first, second = getattr(found, key), getattr(moments, key)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_saves_have_equal_bytes(lora: Any, tmp_path: Path):
    for name in ("first", "second"):
        save_moments(some_moments(lora), tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


Damage = Callable[[Path, dict[str, Tensor]], None]


def rewrite(file: Path, tensors: dict[str, Tensor]) -> None:
    """Put other tensors into the file and leave its header's constants as they are."""
    with safe_open(file, framework="pt") as opened:
        constants = opened.metadata()
    save_file(tensors, file, metadata=constants)


def renamed(file: Path, tensors: dict[str, Tensor]) -> None:
    changed = {key.replace("layers.1", "layers.9"): tensor for key, tensor in tensors.items()}
    rewrite(file, changed)


def one_missing(file: Path, tensors: dict[str, Tensor]) -> None:
    rewrite(file, dict(list(tensors.items())[1:]))


def one_too_many(file: Path, tensors: dict[str, Tensor]) -> None:
    rewrite(file, tensors | {"exp_avg/other.weight": torch.ones(2)})


def of_another_kind(file: Path, tensors: dict[str, Tensor]) -> None:
    rewrite(file, tensors | {"max_exp_avg_sq/other.weight": torch.ones(2)})


def transposed(file: Path, tensors: dict[str, Tensor]) -> None:
    rewrite(file, {key: tensor.T.contiguous() for key, tensor in tensors.items()})


def with_nan(file: Path, tensors: dict[str, Tensor]) -> None:
    next(iter(tensors.values()))[0, 0] = torch.nan
    rewrite(file, tensors)


def without_constants(file: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, file)


def truncated(file: Path, tensors: dict[str, Tensor]) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def emptied(file: Path, tensors: dict[str, Tensor]) -> None:
    file.write_bytes(b"")


def deleted(file: Path, tensors: dict[str, Tensor]) -> None:
    file.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (renamed, "does not fit the adapter at .*layers.1"),
        (one_missing, "does not fit the adapter at 1 parameters"),
        (one_too_many, "does not fit the adapter at 1 parameters: .*other.weight"),
        (of_another_kind, "max_exp_avg_sq"),
        (transposed, "does not fit the adapter"),
        (with_nan, "not finite; materialise warmup/checkpoint again"),
        (without_constants, "cannot be read.*materialise warmup/checkpoint again"),
        (truncated, "cannot be read.*materialise warmup/checkpoint again"),
        (emptied, "cannot be read.*materialise warmup/checkpoint again"),
        (deleted, "cannot be read.*materialise warmup/checkpoint again"),
    ],
)
def test_moments_that_do_not_fit_or_are_damaged_are_refused(lora: Any, tmp_path: Path, damage: Damage, message: str):
    file = tmp_path / MOMENTS_FILE
    save_moments(some_moments(lora), file)
    damage(file, load_file(file))
    with pytest.raises(ModelError, match=message) as refusal:
        load_moments(file, lora)
    assert str(file) in str(refusal.value)


def test_an_optimizer_that_took_no_step_has_no_moments(lora: Any):
    optimizer = torch.optim.AdamW(list(lora_parameters(lora).values()))
    with pytest.raises(ModelError, match=r"no state for .*lora_A.*nothing was trained"):
        read_moments(lora, optimizer)


def test_parameters_with_different_steps_are_refused(by_hand: Any):
    model, optimizer, _ = by_hand
    parameter = next(iter(lora_parameters(model).values()))
    state = optimizer.state[parameter]
    before = state["step"]
    optimizer.state[parameter] = state | {"step": before + 1}
    try:
        with pytest.raises(ModelError, match=r"different numbers of steps: \[3, 4\]"):
            read_moments(model, optimizer)
    finally:
        optimizer.state[parameter] = state


def test_moments_are_frozen(lora: Any):
    with pytest.raises(dataclasses.FrozenInstanceError):
        some_moments(lora).step = 1  # type: ignore[misc]
