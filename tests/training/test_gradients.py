"""Per-example gradients against the same model in float64, one row at a time; Adam's direction; the worker."""

import copy
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config

from g2is_assets.core.projection import Sketch
from g2is_assets.errors import ModelError
from g2is_assets.settings.config import GradientsSettings, LoraSettings
from g2is_assets.settings.selection import FeatureKind
from g2is_assets.training.gradients import INDEPENDENT, GradientWorker, smallest_cosine
from g2is_assets.training.lora import add_lora, load_adapter, lora_parameters
from g2is_assets.training.loss import (
    APART,
    _NegativeLogLikelihood,
    attending,
    per_example_gradients,
    row_losses,
    way_to_pack,
)
from g2is_assets.training.model import ModelSource, find_model, pick_compute
from g2is_assets.training.text import IGNORED, Example, collator
from g2is_assets.training.warmup import MOMENTS_FILE, Moments, load_moments
from support.models import fill_lora, plain_nll

VOCAB = 97
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
SPECIAL = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
# Weights larger than usual, so that attention is not uniform and q and k have gradients that matter.
GROUPED = SHAPE | SPECIAL | {"num_key_value_heads": 2, "initializer_range": 0.2}
Q_K_V_O = ("q_proj", "k_proj", "v_proj", "o_proj")

FAMILIES: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "llama-sdpa": (LlamaConfig(**GROUPED), Q_K_V_O, "sdpa"),
    "llama-eager": (LlamaConfig(**GROUPED), (*Q_K_V_O, "gate_proj", "up_proj", "down_proj"), "eager"),
    "llama-tied": (LlamaConfig(**GROUPED, tie_word_embeddings=True), Q_K_V_O, "sdpa"),
    "qwen2": (Qwen2Config(**GROUPED), Q_K_V_O, "sdpa"),
    "gemma2-softcapped": (
        Gemma2Config(
            **GROUPED, head_dim=8, query_pre_attn_scalar=8, final_logit_softcapping=5.0, attn_logit_softcapping=20.0
        ),
        Q_K_V_O,
        "eager",
    ),
    "gpt2": (
        GPT2Config(
            vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.2, **SPECIAL
        ),
        ("c_attn", "c_proj"),
        "sdpa",
    ),
}  # fmt: skip

LENGTHS = [(5, 2), (12, 1), (9, 8), (7, 4)]
"""(tokens, prompt tokens) of the rows: the third has a response of one token."""


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(2, VOCAB, (n,), generator=generator).tolist() for n, _ in LENGTHS]
    earlier = [((1, n_prompt - 2),) if n_prompt > 4 else () for _, n_prompt in LENGTHS]  # an answer of a turn before
    return [Example(f"row{i}", ids[i], n_prompt, earlier[i]) for i, (_, n_prompt) in enumerate(LENGTHS)]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Any:
    config, targets, attention = FAMILIES[request.param]
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation=attention)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "fan_in_fan_out"
        )  # PEFT tells that it fits itself to GPT-2's transposed layers
        lora = add_lora(base, LoraSettings(rank=3, alpha=6, targets=targets), "tiny")
    return fill_lora(lora).requires_grad_(False).eval()


@pytest.fixture(scope="module")
def expected(model: Any, examples: list[Example]) -> list[tuple[float, dict[str, Tensor]]]:
    """Per row the loss and the gradient of every LoRA parameter, in float64."""
    exact = copy.deepcopy(model).double()
    named = {n.replace(".default", ""): p.requires_grad_(True) for n, p in exact.named_parameters() if ".lora_" in n}
    found = []
    for example in examples:
        loss = plain_nll(exact, example)
        gradients = torch.autograd.grad(loss, list(named.values()))
        found.append((loss.item(), dict(zip(named, gradients, strict=True))))
    return found


def padded(examples: Sequence[Example], side: str) -> dict[str, Tensor]:
    longest = max(example.n_tokens for example in examples)
    batch: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for example in examples:
        for key, fill in (("input_ids", 0), ("attention_mask", 0), ("labels", IGNORED)):
            padding, values = [fill] * (longest - example.n_tokens), example.features()[key]
            batch[key].append(values + padding if side == "right" else padding + values)
    return {key: torch.tensor(values) for key, values in batch.items()}


def gradients_of(model: Any, batch: dict[str, Tensor], packed: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses and gradients by row; packed rows attend each by itself where the model can."""
    found: dict[str, Tensor] = {}
    lengths = batch["attention_mask"].sum(dim=1).tolist() if packed else ()
    way = way_to_pack(model, batch, [APART], 1e-5) if packed else None

    def consume(name: str, gradient: Tensor) -> None:
        assert name not in found, f"{name} arrived twice"
        found[name] = gradient

    with per_example_gradients(model, consume, lengths), attending(model, way):
        losses = row_losses(model, batch, packed=packed)
        losses.sum().backward()
    return losses.detach(), found


def flat(gradients: dict[str, Tensor], row: int) -> Tensor:
    return torch.cat([gradients[name][row].flatten() for name in sorted(gradients)])


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_gradients_of_a_batch_are_those_of_each_row_alone_in_float64(
    model: Any, examples: list[Example], expected: list[tuple[float, dict[str, Tensor]]], side: str, packed: bool
):
    _, found = gradients_of(model, padded(examples, side), packed)
    assert found.keys() == lora_parameters(model).keys()
    for row, (_, exact) in enumerate(expected):
        for name, gradient in exact.items():
            error = ((found[name][row].double() - gradient).norm() / gradient.norm()).item()
            assert error < 1e-5, f"row {row}, {name}: relative error {error:.1e}, norm {gradient.norm():.1e}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_losses_are_torchs_cross_entropy_whatever_the_blocks_they_are_formed_in(
    monkeypatch: pytest.MonkeyPatch, block: int, dtype: torch.dtype
):
    monkeypatch.setattr("g2is_assets.training.loss.BLOCK", block)
    random = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(7, 50, generator=random)).to(dtype).requires_grad_()
    labels, weights = torch.randint(50, (7,), generator=random), torch.rand(7, generator=random)
    nll = _NegativeLogLikelihood.apply(logits, labels)
    whole = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    assert torch.equal(nll, whole)
    found, exact = (torch.autograd.grad((each * weights).sum(), logits)[0] for each in (nll, whole))
    assert found.dtype == dtype
    torch.testing.assert_close(found, exact)


@pytest.mark.parametrize("side", ["right", "left"])
def test_losses_of_a_padded_batch_are_those_of_each_row_alone_in_float64(
    model: Any, examples: list[Example], expected: list[tuple[float, dict[str, Tensor]]], side: str
):
    with torch.no_grad():
        losses = row_losses(model, padded(examples, side))
    assert losses.dtype == torch.float32
    assert losses.tolist() == pytest.approx([loss for loss, _ in expected], rel=1e-5)


@pytest.mark.parametrize("apart", [False, True], ids=["under one mask", "each by itself"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_packed_rows_have_the_losses_and_summed_gradients_of_padded_ones(
    model: Any, examples: list[Example], expected: list[tuple[float, dict[str, Tensor]]], side: str, apart: bool
):
    trained, batch = copy.deepcopy(model), padded(examples, side)
    named = {n.replace(".default", ""): p.requires_grad_(True) for n, p in trained.named_parameters() if ".lora_" in n}
    ways = [APART, trained.config._attn_implementation]
    with attending(trained, way_to_pack(trained, batch, ways if apart else ways[1:], 1e-4)):
        losses = row_losses(trained, batch, packed=True)
        losses.sum().backward()
    assert losses.tolist() == pytest.approx([loss for loss, _ in expected], rel=1e-5)
    for name, parameter in named.items():
        exact = sum(gradients[name] for _, gradients in expected)
        error = ((parameter.grad.double() - exact).norm() / exact.norm()).item()
        assert error < 1e-5, f"{name}: relative error {error:.1e}"


def test_the_first_token_of_a_packed_row_is_not_predicted_by_the_row_before(model: Any, examples: list[Example]):
    bare = [Example(str(i), example.input_ids, 0) for i, example in enumerate(examples)]  # no prompt: all carry loss
    batch = padded(bare, "right")
    assert row_losses(model, batch, packed=True).tolist() == pytest.approx(row_losses(model, batch).tolist(), rel=1e-5)


class Wrapped(torch.nn.Module):
    """A model behind another forward."""

    def __init__(self, model: Any, **changes: Any) -> None:
        super().__init__()
        self.model, self.config, self.changes = model, model.config, changes

    def get_output_embeddings(self) -> Any:
        return self.model.get_output_embeddings()

    def set_attn_implementation(self, name: str) -> None:
        self.model.set_attn_implementation(name)

    def forward(self, **given: Any) -> Any:
        if given["attention_mask"] is None:
            given |= {name: change(given) for name, change in self.changes.items()}
        return self.model(**given)


def test_a_model_that_lets_packed_rows_see_each_other_is_found_out(model: Any, examples: list[Example]):
    batch, usual = padded(examples, "right"), model.config._attn_implementation
    softcapped = getattr(model.config, "attn_logit_softcapping", None) is not None
    # No attention of ours caps.
    assert way_to_pack(Wrapped(model), batch, [APART, usual], 1e-4) == (usual if softcapped else APART)
    leaks = {"position_ids": lambda given: torch.arange(given["input_ids"].shape[1]).unsqueeze(0)}
    for way in (APART, usual):  # however loose the bound
        assert way_to_pack(Wrapped(model, **leaks), batch, [way], math.inf) is None
    other = {"input_ids": lambda given: given["input_ids"].flip(1)}
    assert way_to_pack(Wrapped(model, **other), batch, [APART, usual], 1e-5) is None
    assert model.config._attn_implementation == usual


def test_a_window_of_attention_is_kept(examples: list[Example]):
    torch.manual_seed(0)
    for window, apart in [(4, False), (12, True)]:  # the longest row has 12 tokens
        model = AutoModelForCausalLM.from_config(MistralConfig(**GROUPED, sliding_window=window)).eval()
        usual = model.config._attn_implementation
        found = way_to_pack(model, padded(examples, "right"), [APART, usual], 1e-4)
        assert found == (APART if apart else usual)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_a_row_has_the_same_gradient_alone_and_in_a_batch(model: Any, examples: list[Example], packed: bool):
    _, together = gradients_of(model, padded(examples, "right"), packed)
    for row, example in enumerate(examples):
        _, alone = gradients_of(model, padded([example], "right"))
        cosine = torch.cosine_similarity(flat(together, row).double(), flat(alone, 0).double(), dim=0).item()
        assert cosine >= 0.99999, f"row {row}: cosine {cosine}"


def test_no_parameter_gathers_a_gradient_and_no_hook_stays(model: Any, examples: list[Example]):
    _, found = gradients_of(model, padded(examples, "right"))
    assert found
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not row_losses(model, padded(examples, "right")).requires_grad


def test_hooks_are_gone_after_an_error_too(model: Any, examples: list[Example]):
    def fail(name: str, gradient: Tensor) -> None:
        raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"), per_example_gradients(model, fail):
        row_losses(model, padded(examples, "right")).sum().backward()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# --- Adam's direction ---------------------------------------------------------------------------------------------


def adam_direction(gradient: Tensor, exp_avg: Tensor | float, exp_avg_sq: Tensor, moments: Moments) -> Tensor:
    """Γ of LESS, the plain way: no bias correction, ε inside the root; `exp_avg` 0.0 is the kind without momentum."""
    numerator = moments.beta1 * exp_avg + (1 - moments.beta1) * gradient
    return numerator / torch.sqrt(moments.beta2 * exp_avg_sq + (1 - moments.beta2) * gradient**2 + moments.epsilon)


def moments(beta1: float, beta2: float, epsilon: float) -> Moments:
    return Moments({}, {}, beta1, beta2, epsilon, step=1)


def test_adam_direction_of_a_hand_worked_row():
    # (.9 * 1 + .1 * 2) / sqrt(.99 * 4 + .01 * 4) = 1.1 / 2, and (.45 - .3) / sqrt(15.84 + .09) = .15 / 3.991240...
    found = adam_direction(
        torch.tensor([[2.0, -3.0]]), torch.tensor([1.0, 0.5]), torch.tensor([4.0, 16.0]), moments(0.9, 0.99, 0.0)
    )
    torch.testing.assert_close(found, torch.tensor([[0.55, 0.15 / 15.93**0.5]]), rtol=1e-6, atol=0)


def test_without_momentum_only_the_fresh_gradient_is_in_the_numerator():
    found = adam_direction(torch.tensor([[2.0], [-2.0]]), 0.0, torch.tensor([4.0]), moments(0.9, 0.99, 0.0))
    torch.testing.assert_close(found, torch.tensor([[0.1], [-0.1]]))


def test_epsilon_stands_inside_the_root_and_there_is_no_bias_correction():
    # .9 * 1 / sqrt(1e-4): outside the root it would be 9000.
    found = adam_direction(torch.zeros(1, 1), torch.ones(1), torch.zeros(1), moments(0.9, 0.999, 1e-4))
    assert found.item() == pytest.approx(90.0, rel=1e-6)


# --- the worker ---------------------------------------------------------------------------------------------------

KINDS: tuple[FeatureKind, ...] = ("adam", "adam_without_momentum", "sgd")
SKETCH = GradientsSettings(sketch_dim=256, nnz=2, seed=3, compute="float32")
HALF = SKETCH.model_copy(update={"compute": "bfloat16"})


@pytest.fixture(scope="module")
def worker(source: ModelSource, checkpoint: Path) -> GradientWorker:
    return GradientWorker(source, checkpoint, KINDS, SKETCH, device="cpu")


def test_the_fused_mix_is_adams_direction_followed_by_the_sketch(
    worker: GradientWorker, source: ModelSource, checkpoint: Path, rows: Sequence[Example]
):
    model = load_adapter(source.load("cpu"), checkpoint / "adapter")
    state = load_moments(checkpoint / MOMENTS_FILE, model)
    batch = worker.collate([row.features() for row in rows])
    losses, gradients = gradients_of(model, batch)
    sizes = {name: p.numel() for name, p in lora_parameters(model).items()}
    sketch = Sketch(sizes, SKETCH.sketch_dim, SKETCH.nnz, SKETCH.seed)
    expected = {kind: sketch.zeros(len(rows)) for kind in KINDS}
    for name, gradient in gradients.items():
        g, m, v = gradient.flatten(1), state.exp_avg[name].flatten(), state.exp_avg_sq[name].flatten()
        sketch.add(expected["sgd"], name, g)
        sketch.add(expected["adam"], name, adam_direction(g, m, v, state))
        sketch.add(expected["adam_without_momentum"], name, adam_direction(g, 0.0, v, state))
    found = worker(rows)
    torch.testing.assert_close(found.losses, losses, rtol=1e-6, atol=0)
    for kind in KINDS:
        error = (found.features[kind] - expected[kind]).norm(dim=1) / expected[kind].norm(dim=1)
        assert error.max() < 1e-5, f"{kind}: relative errors {error.tolist()}"
    assert not torch.allclose(expected["adam"], expected["adam_without_momentum"], rtol=0.1)


def test_a_row_has_the_same_features_alone_in_a_batch_and_in_another_order(
    worker: GradientWorker, rows: Sequence[Example]
):
    assert smallest_cosine(worker, rows) >= INDEPENDENT["float32"]
    together, backwards = worker(rows), worker(rows[::-1])
    for kind in KINDS:
        cosines = torch.cosine_similarity(together.features[kind], backwards.features[kind].flip(0))
        assert cosines.min() >= 0.99999, f"{kind}: {cosines.tolist()}"


def test_rows_are_packed_unless_one_is_longer_than_a_window_of_attention(
    worker: GradientWorker, rows: Sequence[Example]
):
    narrow = copy.copy(worker)
    narrow.longest_packed = max(row.n_tokens for row in rows) - 1
    together, apart = worker(rows), narrow(rows)
    assert (together.cost.packed_rows, apart.cost.packed_rows) == (len(rows), 0)
    for kind in KINDS:
        error = (together.features[kind] - apart.features[kind]).norm(dim=1) / apart.features[kind].norm(dim=1)
        assert error.max() < 1e-5, kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_does_not_depend_on_which_others_are_computed(
    worker: GradientWorker, source: ModelSource, checkpoint: Path, rows: Sequence[Example], kind: FeatureKind
):
    alone = GradientWorker(source, checkpoint, [kind], SKETCH, device="cpu")(rows)
    assert alone.features.keys() == {kind}
    assert torch.equal(alone.features[kind], worker(rows).features[kind])


def test_passes_in_bfloat16_give_float32_features_close_to_those_of_float32(
    worker: GradientWorker, source: ModelSource, checkpoint: Path, rows: Sequence[Example]
):
    rough = GradientWorker(source, checkpoint, KINDS, HALF, device="cpu")
    exact, found = worker(rows), rough(rows)
    assert found.cost.packed_rows == len(rows)
    assert found.losses.dtype == torch.float32
    assert smallest_cosine(rough, rows) >= INDEPENDENT["bfloat16"]
    for kind in KINDS:
        assert found.features[kind].dtype == torch.float32
        assert not torch.equal(found.features[kind], exact.features[kind])
        cosines = torch.cosine_similarity(found.features[kind], exact.features[kind], dim=1)
        assert cosines.min() > 0.95, f"{kind}: {cosines.tolist()}"


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_half_weights_are_those_of_float32_rounded_once_whatever_the_files_hold(
    source: ModelSource, checkpoint: Path, tmp_path: Path, stored: torch.dtype
):
    folder = tmp_path / "model"
    source.load("cpu").to(stored).save_pretrained(folder)
    source.tokenizer().save_pretrained(folder)
    written = find_model(str(folder))
    whole, worker = written.load("cpu"), GradientWorker(written, checkpoint, ["sgd"], HALF, "cpu")
    exact = load_adapter(whole, checkpoint / "adapter")
    for (name, parameter), half in zip(exact.named_parameters(), worker.model.parameters(), strict=True):
        is_half = ".lora_" not in name and "norm" not in name
        assert half.dtype == (torch.bfloat16 if is_half else torch.float32), name
        assert torch.equal(half, parameter.to(half.dtype)), name


@pytest.mark.parametrize(
    ("has", "rate", "picked"),
    [
        ({"amx_bf16", "avx512_bf16"}, None, "bfloat16"),
        ({"avx512_bf16"}, 2.7, "bfloat16"),
        ({"avx512_bf16"}, 0.6, "float32"),
        (set(), None, "float32"),
        (None, None, "float32"),
    ],
)
def test_compute_is_bfloat16_where_the_processors_instructions_pay_unless_it_is_set(
    monkeypatch: pytest.MonkeyPatch, has: set[str] | None, rate: float | None, picked: str
):
    timed = []

    def peak(_: str, compute: str) -> float:
        timed.append(compute)
        return rate if compute == "bfloat16" else 1.0

    monkeypatch.setattr("g2is_assets.training.model.bf16_instructions", lambda: has)
    monkeypatch.setattr("g2is_assets.training.engine.peak_flops", peak)
    assert pick_compute("auto", "cpu") == picked
    assert bool(timed) is (rate is not None)
    assert pick_compute("auto", "auto") == ("bfloat16" if torch.cuda.is_available() else picked)
    assert [pick_compute(compute, "cpu") for compute in ("float32", "bfloat16")] == ["float32", "bfloat16"]


def test_the_worker_gives_the_same_bytes_twice(worker: GradientWorker, rows: Sequence[Example]):
    first, second = worker(rows), worker(rows)
    assert torch.equal(first.losses, second.losses)
    assert all(torch.equal(first.features[kind], second.features[kind]) for kind in KINDS)


def test_the_losses_are_those_of_the_warmed_up_model(
    worker: GradientWorker, source: ModelSource, checkpoint: Path, rows: Sequence[Example]
):
    model = load_adapter(source.load("cpu"), checkpoint / "adapter")
    with torch.no_grad():
        expected = [plain_nll(model, row).item() for row in rows]
    assert worker(rows).losses.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_output_layer_is_refused_since_it_does_not_see_each_row_once(source: ModelSource, rows: Sequence[Example]):
    model = add_lora(source.load("cpu"), LoraSettings(rank=2, targets=("q_proj", "lm_head")), source.name)
    model.requires_grad_(False)
    with pytest.raises(ModelError, match=r"lm_head.*take it out of `targets`"):
        gradients_of(model, collator(source.tokenizer())([row.features() for row in rows[:2]]))
