"""Rows/s of per-example LoRA gradients by bergson (EleutherAI) beside ours, on the CPU; prints a table.

    python benchmarks/bergson_comparison.py --bergson-python /path/to/bergson-venv/bin/python --rows 64

Same model, in float32 or bfloat16, same adapter, rows as token ids, label mask, loss (mean over response tokens) and
threads; every measurement is a process of its own, and contenders alternate. Only passes over the rows are timed: no
imports, no loading, no writing to disk, and a small pass goes before. Bergson's batch size is the fastest of the
--bergson-batch-tokens given; ours is not tuned but the default of --batch-tokens. See benchmarks/README.md for setting
up bergson's environment.

"As loaded" keeps the embeddings trainable, as bergson's loader leaves them; "frozen" computes no gradient for them.
What differs is the projection. Bergson's is per module: each of the 240 LoRA matrices is projected from both sides to
6 × 6, 8,640 numbers in all, the size nearest to 8,192. Ours sketches the whole gradient to 8,192 numbers, as it is or
mixed with Adam's moments (two kinds: 2 × 8,192). Bergson's Adam is g / (sqrt(v) + eps), without momentum. Its other
projection, global to one vector, generates a dense 8,192 × 921,600 matrix anew for every batch: minutes each, left out.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from gradient_store import HERE, KINDS, SKETCH_DIM, batches_of, draw
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from g2is_assets.settings.config import EMBEDDED_MODEL, GradientsSettings, WarmupSettings
from g2is_assets.training.engine import peak_memory_bytes
from g2is_assets.training.gradients import GradientWorker
from g2is_assets.training.loss import per_example_gradients, row_losses
from g2is_assets.training.model import ModelSource, find_model
from g2is_assets.training.text import Example
from g2is_assets.training.warmup import MOMENTS_FILE, train_warmup

Job = dict[str, Any]

PER_MODULE_DIM = 6
"""240 LoRA matrices × 6 × 6 = 8,640; 5 × 5 would be 6,000."""
PROJECTED: Job = {"side": "bergson", "compute": "float32", "projection_dim": PER_MODULE_DIM, "adam": False}
CONTENDERS: dict[str, Job] = {
    # Its loader asks for the embeddings' gradient to start the graph; tied weights make it the output layer's too.
    "bergson as loaded": PROJECTED | {"frozen_embeddings": False},
    "bergson frozen": PROJECTED | {"frozen_embeddings": True},
    "bergson frozen, Adam": PROJECTED | {"frozen_embeddings": True, "adam": True},
    "bergson frozen, bfloat16": PROJECTED | {"frozen_embeddings": True, "compute": "bfloat16"},
    "ours, plain": {"side": "ours", "compute": "float32", "kinds": ["sgd"]},
    "ours, two kinds": {"side": "ours", "compute": "float32", "kinds": list(KINDS)},
    "ours, two kinds, bfloat16": {"side": "ours", "compute": "bfloat16", "kinds": list(KINDS)},
}
WHOLE_ROWS = 4
"""Rows whose unprojected gradients are compared; each has 921,600 numbers."""

TOLERANCE = 1e-4
"""Relative difference of whole gradients, and of losses in nats, beyond which the two compute different things."""
BASELINES = {
    "bergson as loaded": "× as loaded",
    "bergson frozen": "× frozen",
    "bergson frozen, bfloat16": "× its bfloat16",
}
"""What the ratios divide by, with their columns."""


def main() -> None:
    """Prepare the rows and the adapter, check agreement, measure and print; or be our side of one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bergson-python", type=Path, help="interpreter of the environment that holds bergson")
    parser.add_argument("--pool", type=Path, default=HERE / "data" / "pool.parquet")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each contender; medians are printed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bergson-batch-tokens", type=int, action="append", help="default 512, 1024, 2048, 4096")
    parser.add_argument("--batch-tokens", type=int, default=GradientsSettings().batch_tokens, help="of ours")
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        our_side(json.loads(arguments.ours.read_text()))
        return
    if not arguments.bergson_python:
        parser.error("--bergson-python is needed; see benchmarks/README.md")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), arguments)
        agreement = bench.agreement()
        choices = arguments.bergson_batch_tokens or [512, 1024, 2048, 4096]
        formats = {"float32": "bergson frozen", "bfloat16": "bergson frozen, bfloat16"}
        trials = {compute: bench.batch_trials(name, choices) for compute, name in formats.items()}
        best = {compute: min(tried, key=tried.__getitem__) for compute, tried in trials.items()}
        results: dict[str, list[Job]] = {name: [] for name in CONTENDERS}
        for _ in range(arguments.rounds):
            for name, contender in CONTENDERS.items():
                tokens = best[contender["compute"]] if contender["side"] == "bergson" else arguments.batch_tokens
                results[name].append(bench.run(contender | {"batch_tokens": [tokens]}))
        tried = "; ".join(
            f"{compute} " + ", ".join(f"{tokens}: {len(bench.examples) / s:.3f}" for tokens, s in of.items())
            for compute, of in trials.items()
        )
        batches = f"batches of {best} tokens for bergson (rows/s tried: {tried}), {arguments.batch_tokens} for ours"
        report(results, bench.examples, arguments, f"{agreement}\n{batches}")


class Bench:
    """The prepared rows and adapter, and one subprocess per measurement."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        """Draw rows as gradient_store.py does and train an adapter on 8 of them, so that A and B are both at work."""
        self.folder, self.arguments, self.n_runs = folder, arguments, 0
        found = find_model(EMBEDDED_MODEL)
        self.source = dataclasses.replace(found, name=str(found.folder))  # bergson finds the base by the adapter
        self.examples = draw(self.source, arguments.pool, arguments.rows)
        train_warmup(self.source, self.examples[:8], WarmupSettings(rank=8, alpha=32, epochs=1), folder, device="cpu")

    def run(self, job: Job, examples: list[Example] | None = None) -> Job:
        """Measure in a fresh process; seconds, losses, feature size, peak memory and versions."""
        self.n_runs += 1
        rows, file = (self.folder / f"{self.n_runs}.{kind}.json" for kind in ("rows", "job"))
        rows.write_text(json.dumps([dataclasses.asdict(e) | e.features() for e in examples or self.examples]))
        paths = {"rows": rows, "adapter": self.folder / "adapter", "moments": self.folder / MOMENTS_FILE}
        paths |= {"model": self.source.folder, "result": self.folder / f"{self.n_runs}.result.json"}
        job = job | {name: str(path) for name, path in paths.items()} | {"threads": self.arguments.threads}
        file.write_text(json.dumps(job))
        command = [str(self.arguments.bergson_python), str(HERE / "bergson_side.py"), str(file)]
        if job["side"] == "ours":
            command = [sys.executable, __file__, "--ours", str(file)]
        environment = os.environ | {"OMP_NUM_THREADS": str(self.arguments.threads), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
        return json.loads(Path(job["result"]).read_text())

    def batch_trials(self, contender: str, choices: list[int]) -> dict[int, float]:
        """Seconds of one pass over the rows by bergson, for each batch size."""
        seconds = self.run(CONTENDERS[contender] | {"batch_tokens": choices})["seconds"]
        return dict(zip(choices, seconds, strict=True))

    def agreement(self) -> str:
        """Compare whole gradients of a few rows, matrix by matrix, without any projection."""
        some = self.examples[:WHOLE_ROWS]
        job = CONTENDERS["bergson frozen"] | {"projection_dim": 0, "batch_tokens": [2048]}
        theirs_size = self.run(job, some)["feature_size"]
        theirs = load_file(self.folder / f"{self.n_runs}.result.safetensors")
        ours = whole_gradients(self.source, self.folder, some)
        if theirs.keys() != ours.keys():
            raise SystemExit(f"different LoRA matrices: {sorted(theirs.keys() ^ ours.keys())[:4]}")
        # Both in our order of names; (rows, 921600) each.
        a, b = (torch.cat([of[name] for name in ours], dim=1).double() for of in (ours, theirs))
        error = ((a - b).norm(dim=1) / a.norm(dim=1)).max()
        if not error < TOLERANCE:
            raise SystemExit(f"bergson's gradients and ours differ by {error:.1e} (relative): nothing to compare")
        norms = ((b.norm(dim=1) / a.norm(dim=1)) - 1).abs().max()
        return (
            f"unprojected gradients of {len(some)} rows, {theirs_size:,} numbers each: norms differ by at most "
            f"{norms:.1e}, vectors by {error:.1e} (relative)"
        )


def whole_gradients(source: ModelSource, checkpoint: Path, examples: list[Example]) -> dict[str, torch.Tensor]:
    """Our unprojected gradients by parameter name, (n_rows, size) each."""
    worker = GradientWorker(source, checkpoint, ["sgd"], GradientsSettings(compute="float32"), "cpu")
    gradients: dict[str, torch.Tensor] = {}

    def keep(name: str, gradient: torch.Tensor) -> None:
        gradients[name] = gradient.flatten(start_dim=1)

    with per_example_gradients(worker.model, keep):
        row_losses(worker.model, worker.collate([e.features() for e in examples])).sum().backward()
    return gradients


def our_side(job: Job) -> None:
    """Run one job with our code and write its result, as bergson_side.py does with bergson's."""
    torch.set_num_threads(job["threads"])
    rows = json.loads(Path(job["rows"]).read_text())
    examples = [Example(row["row_id"], row["input_ids"], row["n_prompt"]) for row in rows]
    source = ModelSource(job["model"], Path(job["model"]), files={})
    settings = GradientsSettings(sketch_dim=SKETCH_DIM, compute=job["compute"])
    worker = GradientWorker(source, Path(job["adapter"]).parent, job["kinds"], settings, "cpu")
    worker(examples[:2])
    losses: dict[str, float] = {}
    begun = time.perf_counter()
    (batch_tokens,) = job["batch_tokens"]
    for batch in batches_of(examples, batch_tokens):
        done = worker(batch)
        losses |= zip([e.row_id for e in batch], done.losses.tolist(), strict=True)
    result = {
        "seconds": [time.perf_counter() - begun],
        "losses": [losses[example.row_id] for example in examples],
        "feature_size": SKETCH_DIM * len(job["kinds"]),
        "peak_bytes": peak_memory_bytes(),
        "versions": {name: version(name) for name in ("g2is_assets", "torch", "transformers", "peft")},
    }
    Path(job["result"]).write_text(json.dumps(result))


def report(results: dict[str, list[Job]], examples: list[Example], arguments: argparse.Namespace, notes: str) -> None:
    """Print the table of medians, with what was checked below it."""
    n_rows, n_tokens = len(examples), sum(example.n_tokens for example in examples)
    table = Table(
        title=f"rank 8, {n_rows} rows, {n_tokens:,} tokens, {arguments.threads} threads, {arguments.rounds} rounds"
    )
    for column in ("", "rows/s", "tokens/s", "range, rows/s", *BASELINES.values(), "peak memory", "numbers per row"):
        table.add_column(column, justify="right" if column else "left")
    seconds = {name: [run["seconds"][0] for run in runs] for name, runs in results.items()}
    baselines = [statistics.median(seconds[name]) for name in BASELINES]
    for name, runs in results.items():
        median, peak = statistics.median(seconds[name]), max(run["peak_bytes"] for run in runs)
        table.add_row(
            name,
            f"{n_rows / median:.3f}",
            f"{n_tokens / median:.1f}",
            f"{n_rows / max(seconds[name]):.3f}–{n_rows / min(seconds[name]):.3f}",
            *(f"{baseline / median:.2f}" for baseline in baselines),
            f"{peak / 1e9:.2f} GB",
            f"{runs[0]['feature_size']:,}",
        )
    Console(width=120).print(table)
    exact = [name for name in results if CONTENDERS[name]["compute"] == "float32"]
    losses = torch.tensor([results[name][0]["losses"] for name in exact])
    spread = (losses.max(dim=0).values - losses.min(dim=0).values).max()
    if not spread < TOLERANCE:
        raise SystemExit(f"losses differ by {spread:.1e} nats between contenders: the table compares different work")
    print(f"{notes}\nlosses of all rows differ by at most {spread:.1e} nats between contenders in float32")
    for name in (next(iter(results)), next(reversed(results))):
        print(", ".join(f"{package} {number}" for package, number in results[name][0]["versions"].items()))


if __name__ == "__main__":
    main()
