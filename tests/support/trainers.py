"""Other trainers, each in an environment of its own that is made once per machine and kept."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

TORCH = "torch<=2.13.0"
WANTED: dict[str, tuple[tuple[str, ...], ...]] = {
    "trl": (
        (TORCH, "trl==1.16.0", "datasets==5.2.0", "transformers==5.24.0", "addict", "colorama"),
        ("--no-deps", "axolotl==0.19.0"),  # it reads and masks rows without most of what it trains with
    ),
    "llama_factory": (
        (
            *(TORCH, "transformers==5.6.0", "datasets==4.0.0", "peft==0.18.1", "accelerate==1.11.0", "trl==0.24.0"),
            *("omegaconf", "pillow", "pyyaml", "tyro<0.9"),
        ),
        ("--no-deps", "llamafactory==0.9.5"),  # without the pages, sounds and pictures that it could do, too
    ),
}
"""By environment: what pip is told, one call after the other."""


def interpreter(name: str) -> Path:
    """Python of that environment, in `$G2IS_TRAINERS` or in the user's cache."""
    cache = Path(os.environ.get("G2IS_TRAINERS") or Path.home() / ".cache" / "g2is" / "trainers")
    folder = cache / f"{name}-{sha256(repr((WANTED[name], sys.version_info[:2])).encode()).hexdigest()[:12]}"
    done = folder / "done"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            for words in WANTED[name]:
                subprocess.run([folder / "bin" / "pip", "install", "--quiet", *words], check=True)
            done.touch()
    return folder / "bin" / "python"


def call(name: str, script: Path, arguments: Sequence[str]) -> None:
    """Run a script in that environment, offline; what it printed is told if it fails."""
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    apart = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    command = [str(interpreter(name)), str(script), *arguments]
    made = subprocess.run(command, capture_output=True, text=True, env=apart | quiet, check=False)
    assert made.returncode == 0, made.stderr[-4000:]
