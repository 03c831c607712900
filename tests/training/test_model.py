"""Models from a local folder: what identifies one, and what is refused with a remedy."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from g2is_assets.errors import ModelError
from g2is_assets.settings.config import EMBEDDED_MODEL
from g2is_assets.training.model import find_model, pick_device
from support.models import byte_tokenizer


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def flip_last_byte(file: Path) -> None:
    """Change one byte; the clock that dates the file is coarse, so it is moved on as well."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))


def test_a_folder_is_named_after_itself_and_loads_frozen_in_float32(copy: Path):
    source = find_model(str(copy))
    model = source.load("cpu")
    assert (source.name, source.folder) == ("copy", copy)
    assert not model.training
    assert {(p.dtype, p.requires_grad) for p in model.parameters()} == {(torch.float32, False)}


def test_a_model_stored_in_half_precision_loads_in_float32(copy: Path):
    find_model(str(copy)).load("cpu").to(torch.bfloat16).save_pretrained(copy)
    assert json.loads((copy / "config.json").read_text())["dtype"] == "bfloat16"
    assert next(find_model(str(copy)).load("cpu").parameters()).dtype == torch.float32


def test_a_tokenizer_without_a_padding_token_pads_with_its_end_token(copy: Path):
    byte_tokenizer(pad_token=None).save_pretrained(copy)
    tokenizer = find_model(str(copy)).tokenizer()
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"


def test_a_tokenizer_keeps_its_own_padding_token(copy: Path):
    assert find_model(str(copy)).tokenizer().pad_token == "<|pad|>"


def test_equal_folders_have_equal_digests(copy: Path, model_folder: Path):
    assert find_model(str(copy)).digest == find_model(str(model_folder)).digest


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_the_digest_changes_when_one_byte_of_a_file_changes(copy: Path, name: str):
    before = find_model(str(copy)).digest
    flip_last_byte(copy / name)
    assert find_model(str(copy)).digest != before


def test_files_that_do_not_matter_leave_the_digest_alone(copy: Path):
    before = find_model(str(copy)).digest
    (copy / "README.md").write_text("A model card.")
    assert find_model(str(copy)).digest == before


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as refused:
        find_model(str(folder)).load("cpu")
    return str(refused.value)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_folder_without_weights_or_config_is_refused(copy: Path, name: str):
    (copy / name).unlink()
    message = refusal(copy)
    assert str(copy) in message
    assert "config.json and at least one .safetensors file are needed" in message


def test_a_folder_with_pickled_weights_only_is_refused(copy: Path):
    model = find_model(str(copy)).load("cpu")
    torch.save(model.state_dict(), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    assert "at least one .safetensors file" in refusal(copy)


@pytest.mark.parametrize("kept", [0, 7, 2000])
def test_truncated_weights_are_refused_with_a_remedy(copy: Path, kept: int):
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    message = refusal(copy)
    assert "copy' cannot be loaded" in message
    assert "set `model` in the settings file" in message


def test_a_config_that_is_not_json_is_refused_with_a_remedy(copy: Path):
    (copy / "config.json").write_text("{")
    assert "set `model` in the settings file" in refusal(copy)


def test_a_model_of_an_unknown_kind_is_refused_with_a_remedy(copy: Path):
    (copy / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    assert "set `model` in the settings file" in refusal(copy)


def test_code_that_lies_in_the_folder_is_not_run(copy: Path):
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "own.py").write_text(f"import pathlib\npathlib.Path({str(copy / 'ran')!r}).touch()\n")
    assert "cannot be loaded" in refusal(copy)
    assert not (copy / "ran").exists()


def test_a_folder_without_tokenizer_is_refused_with_a_remedy(copy: Path):
    for file in copy.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="set `model` in the settings file"):
        find_model(str(copy)).tokenizer()


def test_a_device_that_is_named_is_used_and_auto_follows_the_machine():
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


def test_looking_fetches_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="not on this machine yet; a refresh of the pool fetches it"):
        find_model(EMBEDDED_MODEL, fetch=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ModelError, match="cannot be loaded"):
        find_model("nobody/nothing-of-that-name", fetch=False)
    (tmp_path / "g2is").write_text("in the way")
    with pytest.raises(
        ModelError, match=r"g2is/models, which the model goes to, cannot be written: .*; .*XDG_CACHE_HOME"
    ):
        find_model(EMBEDDED_MODEL)


def test_loading_shows_no_bars_of_other_libraries(tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    logging.enable_progress_bar()
    find_model(str(tiny_model)).load("cpu")
    assert capfd.readouterr().err == ""
