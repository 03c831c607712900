"""Models that cannot work: told in one line with the remedy, by `g2is doctor` and before anything is trained."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    LlamaForCausalLM,
    LlamaModel,
    MptConfig,
    MptForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    RwkvConfig,
    RwkvForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from g2is_assets.errors import ModelError
from g2is_assets.settings.config import LoraSettings
from g2is_assets.settings.project import load_project
from g2is_assets.stages.trainings import score
from g2is_assets.stages.workspace import Workspace
from g2is_assets.training.lora import add_lora, load_adapter, save_adapter
from g2is_assets.training.model import find_model
from g2is_assets.training.usable import try_gradients
from support.commands import answer, g2is
from support.models import byte_tokenizer
from support.processes import Commands
from support.projects import lake_of
from support.rows import answered
from support.runs import run

Spoil = Callable[[Path], object]
N_IDS = len(byte_tokenizer())
WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": N_IDS}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40, "vocab_size": N_IDS}
ANOTHER: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2)),
    "gptj": lambda: GPTJForCausalLM(GPTJConfig(rotary_dim=4, **GPT2)),
    "opt": lambda: OPTForCausalLM(OPTConfig(max_position_embeddings=40, ffn_dim=48, word_embed_proj_dim=32, **WIDE)),
    "mpt": lambda: MptForCausalLM(MptConfig(d_model=32, n_layers=2, n_heads=4, max_seq_len=40, vocab_size=N_IDS)),
    "masked": lambda: BertForMaskedLM(BertConfig(intermediate_size=48, **WIDE)),
    "bert": lambda: BertLMHeadModel(BertConfig(intermediate_size=48, initializer_range=0.5, **WIDE)),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(d_model=32, d_ff=48, num_layers=2, num_heads=4, vocab_size=N_IDS)
    ),
    "rwkv": lambda: RwkvForCausalLM(RwkvConfig(attention_hidden_size=32, context_length=96, **WIDE)),
}


@pytest.fixture
def project(make_project: Callable[[], Path], tiny_model: Path) -> Path:
    """The settings file of a project that has a model of its own."""
    settings = make_project()
    shutil.copytree(tiny_model, settings.parent / "model")
    settings.write_text(settings.read_text().replace(tiny_model.as_posix(), "model"))
    return settings


def weight(name: str, value: float) -> Spoil:
    def spoil(folder: Path) -> None:
        file = folder / "model.safetensors"
        weights = load_file(file)
        weights[name].view(-1)[-1] = value
        save_file(weights, file, metadata={"format": "pt"})

    return spoil


def config(**values: object) -> Spoil:
    def spoil(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return spoil


def tokenizer(**tokens: str) -> Spoil:
    def spoil(folder: Path) -> None:
        own = AutoTokenizer.from_pretrained(folder)
        own.add_special_tokens(tokens)
        own.save_pretrained(folder)

    return spoil


def replaced_by(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        shutil.rmtree(folder)
        torch.manual_seed(0)
        ANOTHER[name]().save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)

    return spoil


def without_special_tokens(folder: Path) -> None:
    byte_tokenizer(eos_token=None, pad_token=None).save_pretrained(folder)


def without_template_and_end(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    byte_tokenizer(None, eos_token=None).save_pretrained(folder)


def without_output_layer(folder: Path) -> None:
    whole = LlamaForCausalLM.from_pretrained(folder)
    assert isinstance(whole.model, LlamaModel)
    whole.model.save_pretrained(folder)


def in_shards_of_which_one_is_gone(folder: Path) -> None:
    whole = LlamaForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    whole.save_pretrained(folder, max_shard_size="20KB")
    (folder / "model-00002-of-00006.safetensors").unlink()


FAULTS: dict[str, tuple[Spoil, str]] = {
    "a padding token that was added": (
        tokenizer(pad_token="[PAD]"),
        "the tokenizer has ids up to 317, the model's embeddings 317 rows; save the model again after "
        "model.resize_token_embeddings(318), or take the tokens out that were added",
    ),
    "a positions table, GPT-2": (replaced_by("gpt2"), "max_length = 96 exceeds the model's 40 positions; set [instr"),
    "a positions table, OPT": (replaced_by("opt"), "max_length = 96 exceeds the model's 40 positions"),
    "rotary positions in a table": (replaced_by("gptj"), "max_length = 96 exceeds the model's 40 positions"),
    "no positions, but a longest row": (replaced_by("mpt"), "max_length = 96 exceeds the model's 40 positions"),
    "NaN in a linear layer": (
        weight("model.layers.1.mlp.down_proj.weight", float("nan")),
        "has weights that are not finite, in 1 of its tensors, such as model.layers.1.mlp.down_proj.weight: no setting "
        "helps; get its files again",
    ),
    "an infinity in a norm": (weight("model.norm.weight", float("inf")), "such as model.norm.weight: no setting helps"),
    "an infinity in embeddings": (
        weight("model.embed_tokens.weight", -float("inf")),
        "such as model.embed_tokens.weight",
    ),
    "weights for fewer layers": (config(num_hidden_layers=3), "lack 9 of its weights, such as model.layers.2."),
    "weights of another size": (config(vocab_size=100), "such as lm_head.weight of shape [100, 32], not [317, 32]"),
    "no output layer": (without_output_layer, "lack 1 of its weights, such as lm_head.weight; get them again, or set"),
    "a shard that is gone": (in_shards_of_which_one_is_gone, "model-00002-of-00006.safetensors; get its files again"),
    "no padding token": (without_special_tokens, "has no padding, end, unknown or start token; name one"),
    "no end token": (without_template_and_end, "neither a chat template nor an end token; name it as `eos_token`"),
    "encoder and decoder": (replaced_by("t5"), "is one of encoder and decoder; set `model` to a causal one"),
    "masked tokens": (replaced_by("masked"), "is one of masked tokens (BertForMaskedLM); set `model` to a causal one"),
    "padding that counts": (replaced_by("rwkv"), "gives a row another loss with padding on the left"),
    "attention that looks ahead": (replaced_by("bert"), "is not causal: a row's loss changes with the tokens that"),
}


def problems(settings: Path) -> list[str]:
    """What `g2is doctor` has against the model."""
    found = json.loads(g2is(settings, "doctor", "--json").stdout)
    assert {one["check"] for one in found if one["state"] == "problem"} == {"model"}
    return [one["said"] for one in found if one["state"] == "problem"]


def assert_told(settings: Path, instance: dg.DagsterInstance, message: str) -> None:
    """By doctor and by a refresh, in one line, and before the warmup has trained."""
    assert message in problems(settings)[0]
    with pytest.raises(ModelError) as refused:
        run(settings, instance, "refresh_pool")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert lake_of(settings).find("warmup/checkpoint") is None


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_that_cannot_work_is_told_by_doctor_and_before_it_is_trained(
    project: Path, instance: dg.DagsterInstance, fault: str
) -> None:
    spoil, message = FAULTS[fault]
    spoil(project.parent / "model")
    if any(name in fault for name in ("counts", "ahead")):
        project.write_text(project.read_text().replace("[warmup]", '[warmup]\ntargets = ["key", "value"]'))
        project.write_text(project.read_text().replace("[finetune]", '[finetune]\ntargets = ["key", "value"]'))
    assert_told(project, instance, message)


@pytest.mark.parametrize(
    ("section", "targets", "message"),
    [
        (
            "warmup",
            ["q_proj", "embed_tokens"],
            "'embed_tokens' is no linear layer (model.embed_tokens: Embedding); take",
        ),
        ("warmup", ["q_proj", "lm_head"], "'lm_head' is the output layer; take lm_head out of `targets`, of which"),
        ("warmup", ["mlp"], "'mlp' is no linear layer (model.layers.0.mlp: LlamaMLP); take mlp out of `targets`"),
        ("warmup", ["c_attn"], "'c_attn' is the name of no layer; take c_attn out of `targets`, of which these are"),
        (
            "warmup",
            ["wq", "q_proj", "norm"],
            "take wq, norm out of `targets`, of which these are possible: down_proj, ",
        ),
        ("finetune", ["q_proj", "embed_tokens"], "[finetune] targets: 'embed_tokens' is no linear layer"),
    ],
)
def test_targets_that_cannot_be_adapted_are_told_with_those_to_take_out(
    project: Path, instance: dg.DagsterInstance, section: str, targets: list[str], message: str
) -> None:
    project.write_text(project.read_text().replace(f"[{section}]", f"[{section}]\ntargets = {json.dumps(targets)}"))
    assert_told(project, instance, message)


def test_an_output_layer_tied_to_the_embeddings_is_no_target_and_untied_one_only_of_a_finetuning(
    project: Path,
) -> None:
    wanted = LoraSettings(rank=2, targets=("q_proj", "lm_head"))
    source = find_model(str(project.parent / "model"))
    add_lora(source.load("cpu"), wanted, "own")
    without_output_layer(source.folder)
    config(tie_word_embeddings=True, architectures=["LlamaForCausalLM"])(source.folder)
    source = find_model(str(project.parent / "model"))
    with pytest.raises(
        ModelError, match="is the output layer, whose weights are those of the embeddings; take lm_head"
    ):
        add_lora(source.load("cpu"), wanted, "own")


def test_layers_that_see_no_rows_are_refused_before_the_warmup_trains() -> None:
    experts = {"num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24}
    model = Qwen2MoeForCausalLM(Qwen2MoeConfig(num_key_value_heads=2, **WIDE, **experts))
    with pytest.raises(ModelError, match=r"shared_expert.*take it out of `targets`"):
        try_gradients(add_lora(model, LoraSettings(rank=2, targets=("q_proj", "down_proj")), "own"))


def test_weights_so_large_that_nothing_comes_through_end_the_command_before_the_warmup_trains(
    project: Path, commands: Commands
) -> None:
    file = project.parent / "model" / "model.safetensors"
    weights = load_file(file)
    weights["model.embed_tokens.weight"] *= 1e30
    save_file(weights, file, metadata={"format": "pt"})
    assert "gradients at `targets` come to 0 on plain rows: its weights are damaged" in commands.refused(project)
    assert lake_of(project).find("warmup/checkpoint") is None


def test_a_domain_whose_own_targets_cannot_be_adapted_is_named_by_doctor(project: Path) -> None:
    (project.parent / "domains" / "sums" / "domain.toml").write_text('[finetune]\ntargets = ["nope"]\n')
    (said,) = problems(project)
    assert said.startswith("sums: [finetune] targets: 'nope' is the name of no layer; take nope out of `targets`")


def test_more_tokens_than_rotary_positions_were_trained_for_is_said_and_computed(project: Path) -> None:
    config(max_position_embeddings=40)(project.parent / "model")
    (warning,) = [one for one in answer(project, "doctor") if (one["check"], one["state"]) == ("model", "warning")]
    said = "max_length = 96 exceeds the 40 positions that the model was trained for"
    assert said in warning["said"]
    source = find_model(str(project.parent / "model"))
    source.require_fit(96, {})
    config(
        rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 40}
    )(source.folder)
    assert [one for one in answer(project, "doctor") if (one["check"], one["state"]) == ("model", "warning")] == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("is_tied", [True, False])
def test_models_in_half_precision_and_in_shards_with_a_tied_or_untied_head_are_well(
    project: Path, dtype: torch.dtype, is_tied: bool
) -> None:
    folder = project.parent / "model"
    config(tie_word_embeddings=is_tied)(folder)
    whole = LlamaForCausalLM.from_pretrained(folder).to(dtype)
    (folder / "model.safetensors").unlink()
    whole.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    assert [one["said"] for one in answer(project, "doctor") if one["check"] == "model" and one["state"] != "ok"] == []


def test_answers_end_where_the_positions_of_a_table_do(project: Path) -> None:
    replaced_by("gpt2")(project.parent / "model")
    text = project.read_text().replace("max_length = 96", "max_length = 40")
    for section in ("[warmup]", "[finetune]"):
        text = text.replace(section, f'{section}\ntargets = ["c_attn"]')
    project.write_text(text)
    workspace = Workspace(load_project(project))
    turns = answered([{"role": "user", "content": "x"}], "y")  # every byte is a token, and so are the turns' marks
    rows = pl.DataFrame(
        [{"row_id": "a", "messages": turns, "tools": None, "response": "y", "answer": None, "choices": None}]
    )
    found = score(workspace, workspace.model.load("cpu"), rows, answer_tokens=64)
    assert len(found.texts) == 1


def test_an_adapter_with_a_weight_that_is_not_finite_is_refused_by_its_name(project: Path, tmp_path: Path) -> None:
    source = find_model(str(project.parent / "model"))
    model = add_lora(source.load("cpu"), LoraSettings(rank=2, targets=("q_proj",)), "own")
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "lora_B" in name)[0, 0] = float("nan")
    save_adapter(model, tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"not finite, in .*q_proj.lora_B.weight; materialise it again"):
        load_adapter(source.load("cpu"), tmp_path / "adapter")
