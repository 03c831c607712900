"""`benchmarks/gpu.py`, small and on the device that there is: it runs to its end and finds what the CPU finds."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_of_a_gpu_runs_to_its_end_small_on_any_device(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--tiny", "--out", str(tmp_path / "gpu.md")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = (tmp_path / "gpu.md").read_text()
    compared = re.findall(r"CPU's(?: to the bit)?: ([\w, ]+)\.", told)
    assert compared == ["not compared, there is no GPU"] * 2 or compared == ["True"] * 2
    alone, to_cpu = re.search(r"\| tiny \| 2 \| 896 \|.*\| ([\d.]+) \| ([\d.]+) \|", told).groups()  # type: ignore[union-attr]
    assert float(alone) > 0.99
    assert float(to_cpu) > 0.95
    assert re.search(r"\| 300 \| [\d.]+ \| 100.0 % \|", told)
    assert re.search(r"\| 300 \| 12 \| \d+ \|", told)
    assert "| nothing |" in told
