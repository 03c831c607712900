"""Speed, memory and error of per-example gradients, packed and padded, in float32 and bfloat16; prints tables.

    python benchmarks/gradient_store.py --rows 300 --rank 8 --rank 128

Needs benchmarks/data/pool.parquet (see benchmarks/README.md) or another pool by --pool. All ways and the floor take
turns batch by batch in one process; the first is what the others are compared with. The floor is plain training: same
padded batches and LoRA layers in float32, logits at response positions only, summed backward, no optimizer. Seconds are
of the processor and by the clock: with OMP_NUM_THREADS=1 the former hardly depend on what else runs. Memory is taken
from one process each. The usual loop takes one row at a time, flattens its gradient and multiplies by a dense ±1
matrix, 16 rows at a time, in blocks that are generated as needed.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from report import Report
from torch import Tensor

from g2is_assets.contracts.instructions import Instruction
from g2is_assets.settings.config import EMBEDDED_MODEL, GradientsSettings, Source, WarmupSettings
from g2is_assets.store.sources import read_rows
from g2is_assets.training.engine import peak_flops, peak_memory_bytes
from g2is_assets.training.gradients import GradientWorker
from g2is_assets.training.lora import lora_parameters
from g2is_assets.training.loss import per_example_gradients, row_losses
from g2is_assets.training.model import ModelSource, find_model
from g2is_assets.training.text import Example, Template, plan_batches
from g2is_assets.training.warmup import train_warmup

HERE = Path(__file__).parent
SKETCH_DIM = 8192
KINDS = ("adam", "adam_without_momentum")
WAYS = {
    "padded, float32": (False, "float32"),
    "packed, float32": (True, "float32"),
    "padded, bfloat16": (False, "bfloat16"),
    "packed, bfloat16": (True, "bfloat16"),
}
COLUMNS = (
    *("way", "CPU s", "clock s", "tokens a CPU s", "times the first way", "mix", "sketch", "of a bare product"),
    *("error of a pair's cosine, rms", "smallest cosine of a row"),
)
SAMPLED = 3
"""Batches on which the sketch is compared with exact products."""


def main() -> None:
    """Parse arguments and print the tables, or measure one process's memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=HERE / "data" / "pool.parquet")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--rank", type=int, action="append", help="may be repeated; default 8 and 128")
    parser.add_argument("--batch-tokens", type=int, default=GradientsSettings().batch_tokens)
    parser.add_argument("--loop-rows", type=int, default=0, help="rows of the usual loop; 0 leaves it out")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory-of", choices=("floor", *WAYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    source = find_model(EMBEDDED_MODEL)
    examples = draw(source, arguments.pool, arguments.rows)
    shown = None if arguments.memory_of else Report("Per-example gradients, packed and padded", arguments.out)
    for rank in arguments.rank or [8, 128]:
        with tempfile.TemporaryDirectory() as folder:
            settings = WarmupSettings(rank=rank, alpha=4 * rank, epochs=1)
            train_warmup(source, examples[:8], settings, Path(folder))

            def make(name: str, folder: str = folder) -> GradientWorker:
                packed, compute = WAYS[name]
                asked = GradientsSettings(sketch_dim=SKETCH_DIM, compute=compute)
                worker = GradientWorker(source, Path(folder), KINDS, asked)
                worker.packs &= packed
                return worker

            if shown:
                report(shown, rank, {name: make(name) for name in WAYS}, examples, arguments)
            else:
                print(memory_of(arguments.memory_of, make, examples, arguments.batch_tokens))


def draw(source: ModelSource, pool: Path, n_rows: int) -> list[Example]:
    """A fixed random sample of the pool's rows as token ids."""
    template = Template(source.tokenizer(), max_length=512)
    rows = [row for row in read_rows(str(pool), Source(path=pool.name), pool.parent) if isinstance(row, Instruction)]
    chosen = pl.Series(rows, dtype=pl.Object).sample(n_rows, seed=0).to_list()
    encoded = [template.encode(row.row_id, row.turns, row.tools).cut(template.max_length) for row in chosen]
    return [example for example in encoded if example.n_loss]


def batches_of(examples: list[Example], batch_tokens: int) -> list[list[Example]]:
    """The batches that the store would plan."""
    return [[examples[i] for i in batch] for batch in plan_batches([e.n_tokens for e in examples], batch_tokens)]


def report(
    shown: Report, rank: int, workers: Mapping[str, GradientWorker], examples: list[Example], arguments: Any
) -> None:
    """Measure one rank and show its tables."""
    first = workers[next(iter(WAYS))]
    parameters = list(lora_parameters(first.model).values())
    batches = batches_of(examples, arguments.batch_tokens)
    ways: dict[str, Callable[[list[Example]], Any]] = {
        "floor": lambda batch: floor(first, batch, parameters),
        **workers,
    }
    for way in ways.values():
        way(batches[0])
    spent = {name: [0.0, 0.0, 0.0, 0.0, 0.0] for name in ways}
    vectors: dict[str, list[Tensor]] = {name: [] for name in workers}
    for batch in batches:
        for name, way in ways.items():
            cpu, clock = time.process_time(), time.perf_counter()
            done = way(batch)
            taken = [time.process_time() - cpu, time.perf_counter() - clock]
            taken += [done.cost.mix_s, done.cost.sketch_s, done.cost.peak_s] if name in workers else [0.0] * 3
            spent[name] = [a + b for a, b in zip(spent[name], taken, strict=True)]
            if name in workers:
                vectors[name].append(torch.nn.functional.normalize(done.features[KINDS[1]].double(), dim=1))
    n_tokens, before = sum(e.n_tokens for e in examples), spent[next(iter(WAYS))]
    exact, table = torch.cat(vectors[next(iter(WAYS))]), []
    pair = torch.triu_indices(len(exact), len(exact), 1)
    for name, (cpu, clock, mix, sketch, peak) in spent.items():
        row = [name, f"{cpu:.1f}", f"{clock:.1f}", f"{n_tokens / cpu:.1f}", f"{before[0] / cpu:.2f}"]
        if name in workers:
            found = torch.cat(vectors[name])
            error = (found @ found.T - exact @ exact.T)[pair[0], pair[1]].square().mean().sqrt()
            lowest = (found * exact).sum(dim=1).min()
            row += [
                f"{mix / clock:.1%}",
                f"{sketch / clock:.1%}",
                f"{peak / clock:.0%}",
                f"{error:.1e}",
                f"{lowest:.6f}",
            ]
        table.append(row + [""] * (len(COLUMNS) - len(row)))
    errors = torch.tensor([e for batch in batches[:: len(batches) // SAMPLED] for e in distortion(first, batch)])
    rates = ", ".join(f"{kind} {peak_flops('cpu', kind) / 1e9:.0f}" for kind in ("float32", "bfloat16"))
    shown.table(
        f"Rank {rank}: p = {sum(map(torch.Tensor.numel, parameters)):,}, {len(examples)} rows, {n_tokens:,} tokens, "
        f"{torch.get_num_threads()} threads",
        COLUMNS,
        table,
        f"Compared with the first way: {KINDS[1]}, all pairs of rows. The sketch's own error of a pair's cosine, on "
        f"{SAMPLED} batches and both kinds: {errors.square().mean().sqrt():.4f} rms, {errors.abs().max():.3f} at most. "
        f"Bare products, GFLOP/s: {rates}.",
    )
    if arguments.loop_rows:
        rows = examples[: arguments.loop_rows]
        backward, projection = usual_loop(first, parameters, rows)
        print(f"usual loop: backward {backward:.1f} s, dense projection {projection:.1f} s for {len(rows)} rows")
    peaks = []
    for name in ways:
        command = [sys.executable, __file__, "--memory-of", name, "--rank", str(rank), "--rows", str(arguments.rows)]
        command += ["--pool", str(arguments.pool)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks.append((name, f"{int(out.splitlines()[-1]) / 1e9:.2f}"))
    shown.table(f"Rank {rank}: peak memory of a process of its own, loading included", ["way", "GB"], peaks)


def floor(worker: GradientWorker, batch: list[Example], parameters: Sequence[Tensor]) -> None:
    """One step of plain training; the model is left as it was."""
    for parameter in parameters:
        parameter.requires_grad_(True)
    row_losses(worker.model, worker.collate([e.features() for e in batch])).sum().backward()
    for parameter in parameters:
        parameter.requires_grad_(False)
        parameter.grad = None


def memory_of(what: str, make: Callable[[str], GradientWorker], examples: list[Example], batch_tokens: int) -> int:
    """Peak resident size of this process after the longest batches."""
    worker = make(next(iter(WAYS)) if what == "floor" else what)
    parameters = list(lora_parameters(worker.model).values())
    for batch in batches_of(examples, batch_tokens)[-6:]:
        if what == "floor":
            floor(worker, batch, parameters)
        else:
            worker(batch)
    return peak_memory_bytes()


def distortion(worker: GradientWorker, batch: list[Example]) -> list[float]:
    """Sketched minus exact cosine of every pair of a batch's rows, for every kind.

    Exact products are summed parameter by parameter: no (n_rows, p) array is needed.
    """
    products = {kind: torch.zeros(len(batch), len(batch), dtype=torch.float64) for kind in worker.kinds}

    def consume(name: str, gradient: Tensor) -> None:
        for kind, direction in worker.directions(name, gradient.flatten(start_dim=1)).items():
            products[kind] += direction.double() @ direction.double().T

    with per_example_gradients(worker.model, consume):
        row_losses(worker.model, worker.collate([e.features() for e in batch])).sum().backward()
    pair, features = torch.triu_indices(len(batch), len(batch), 1), worker(batch).features
    errors = []
    for kind, exact in products.items():
        rows = features[kind].double()
        errors += (cosines(rows @ rows.T) - cosines(exact))[pair[0], pair[1]].tolist()
    return errors


def cosines(products: Tensor) -> Tensor:
    """From inner products of rows with each other."""
    norms = products.diagonal().sqrt()
    return products / (norms[:, None] * norms[None, :])


def usual_loop(worker: GradientWorker, parameters: list[torch.Tensor], rows: list[Example]) -> tuple[float, float]:
    """Seconds of backward and of dense projection, one row at a time, 16 rows a projection."""
    for parameter in parameters:
        parameter.requires_grad_(True)
    backward = projection = 0.0
    waiting: list[torch.Tensor] = []
    for number, row in enumerate(rows):
        begun = time.perf_counter()
        worker.model.zero_grad()
        row_losses(worker.model, worker.collate([row.features()])).sum().backward()
        waiting.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
        backward += time.perf_counter() - begun
        if len(waiting) == 16 or number == len(rows) - 1:
            begun = time.perf_counter()
            dense_projection(torch.stack(waiting))
            projection += time.perf_counter() - begun
            waiting.clear()
    for parameter in parameters:
        parameter.requires_grad_(False)
        parameter.grad = None
    return backward, projection


def dense_projection(rows: torch.Tensor, block: int = 16384) -> torch.Tensor:
    """Project rows (n, p) with a seeded dense ±1 matrix (p, sketch_dim), generated block by block."""
    generator = torch.Generator().manual_seed(0)
    out = torch.zeros(len(rows), SKETCH_DIM)
    for start in range(0, rows.shape[1], block):
        part = rows[:, start : start + block]
        signs = torch.randint(0, 2, (part.shape[1], SKETCH_DIM), generator=generator, dtype=torch.int8)
        out += part @ signs.float().mul_(2).sub_(1)
    return out


if __name__ == "__main__":
    main()
