"""Speed and memory of per-example gradients against the floor and the usual loop; prints a table.

    python benchmarks/gradient_store.py --rows 300 --rank 8 --rank 128

Needs benchmarks/data/pool.parquet (see benchmarks/README.md) or another pool by --pool. The floor is plain training:
same padded batches, same LoRA layers, logits at response positions only, summed backward, no optimizer; floor and ours
alternate batch by batch in one process. Memory is taken from one process each. The usual loop takes one row at a time,
flattens its gradient and multiplies by a dense ±1 matrix, 16 rows at a time, in blocks that are generated as needed.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import torch
from rich.console import Console
from rich.table import Table

from g2is_assets.contracts.instructions import Instruction
from g2is_assets.settings.config import EMBEDDED_MODEL, GradientsSettings, Source, WarmupSettings
from g2is_assets.store.sources import read_rows
from g2is_assets.training.gradients import GradientWorker, floor_seconds, peak_memory_bytes
from g2is_assets.training.lora import lora_parameters
from g2is_assets.training.loss import row_losses
from g2is_assets.training.model import ModelSource, find_model
from g2is_assets.training.text import Example, Template, plan_batches
from g2is_assets.training.warmup import train_warmup

HERE = Path(__file__).parent
SKETCH_DIM = 8192
KINDS = ("adam", "adam_without_momentum")


def main() -> None:
    """Parse arguments and print the table, or measure one process's memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=HERE / "data" / "pool.parquet")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--rank", type=int, action="append", help="may be repeated; default 8 and 128")
    parser.add_argument("--batch-tokens", type=int, default=GradientsSettings().batch_tokens)
    parser.add_argument("--loop-rows", type=int, default=32, help="rows of the usual loop; 0 leaves it out")
    parser.add_argument("--memory-of", choices=("floor", "ours"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    source = find_model(EMBEDDED_MODEL)
    examples = draw(source, arguments.pool, arguments.rows)
    for rank in arguments.rank or [8, 128]:
        with tempfile.TemporaryDirectory() as folder:
            settings = WarmupSettings(rank=rank, alpha=4 * rank, epochs=1)
            train_warmup(source, examples[:8], settings, Path(folder))
            worker = GradientWorker(source, Path(folder), KINDS, GradientsSettings(sketch_dim=SKETCH_DIM))
        if arguments.memory_of:
            print(memory_of(arguments.memory_of, worker, examples, arguments.batch_tokens))
        else:
            report(rank, worker, examples, arguments)


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


def report(rank: int, worker: GradientWorker, examples: list[Example], arguments: argparse.Namespace) -> None:
    """Measure one rank and print its table."""
    parameters = list(lora_parameters(worker.model).values())
    batches = batches_of(examples, arguments.batch_tokens)
    worker(batches[0])
    floor = ours = mix = sketch = 0.0
    worker.n_calls = 1_000_000  # no samples inside the measurement
    for batch in batches:
        padded = worker.collate([example.features() for example in batch])
        floor += floor_seconds(worker.model, padded, parameters)
        cost = worker(batch).cost
        ours, mix, sketch = ours + cost.total_s, mix + cost.mix_s, sketch + cost.sketch_s
    n_tokens, n_rows = sum(e.n_tokens for e in examples), len(examples)
    p = sum(parameter.numel() for parameter in parameters)
    table = Table(
        title=f"rank {rank}, p = {p:,}, {n_rows} rows, {n_tokens:,} tokens, {torch.get_num_threads()} threads"
    )
    for column in ("", "tokens/s", "rows/s", "of the floor"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("floor", f"{n_tokens / floor:.1f}", f"{n_rows / floor:.3f}", "1.000")
    table.add_row("ours", f"{n_tokens / ours:.1f}", f"{n_rows / ours:.3f}", f"{floor / ours:.3f}")
    if arguments.loop_rows:
        backward, projection = usual_loop(worker, parameters, examples[: arguments.loop_rows])
        loop_tokens = sum(e.n_tokens for e in examples[: arguments.loop_rows])
        seconds = backward + projection
        rate = arguments.loop_rows / seconds
        table.add_row("usual loop", f"{loop_tokens / seconds:.1f}", f"{rate:.3f}", "")
        table.caption = (
            f"mix {mix / ours:.1%}, sketch {sketch / ours:.1%} of ours; loop: backward {backward:.1f} s, dense "
            f"projection {projection:.1f} s for {arguments.loop_rows} rows; ours / loop = {n_rows / ours / rate:.1f}"
        )
    else:
        table.caption = f"mix {mix / ours:.1%}, sketch {sketch / ours:.1%} of ours"
    Console(width=120).print(table)
    for name in ("floor", "ours"):
        command = [sys.executable, __file__, "--memory-of", name, "--rank", str(rank), "--rows", str(arguments.rows)]
        command += ["--pool", str(arguments.pool)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(f"peak memory, {name}: {int(out.splitlines()[-1]) / 1e9:.2f} GB")


def memory_of(what: str, worker: GradientWorker, examples: list[Example], batch_tokens: int) -> int:
    """Peak resident size of this process after the longest batches."""
    parameters = list(lora_parameters(worker.model).values())
    worker.n_calls = 1_000_000
    for batch in batches_of(examples, batch_tokens)[-6:]:
        if what == "ours":
            worker(batch)
        else:
            floor_seconds(worker.model, worker.collate([e.features() for e in batch]), parameters)
    return peak_memory_bytes()


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
