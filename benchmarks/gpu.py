"""What a GPU does: gradients, graph and walk, and one domain from its pool to its adapter. One command, eight minutes.

    python benchmarks/gpu.py --out benchmarks/results/gpu.md
    python benchmarks/gpu.py --tiny            # all but the domain once, small, on whatever device there is

Models of the larger sizes have random weights, made on the device in bfloat16, and rows of random tokens: nothing is
downloaded but the embedded model. What the GPU finds is held to what the CPU finds of the same: products of codes are
equal to the bit, so graph and walk must be; gradients differ by their rounding, which is measured. Parts that did not
fit into `--minutes` are named and left out; a graph that is not done by then says how far it came.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from report import Report
from selection_data import FileFeatures, make_files

from g2is_assets.core import codes
from g2is_assets.core.balance import balanced_walk
from g2is_assets.core.features import ArrayFeatures, FeatureSource
from g2is_assets.core.graph import build_graph
from g2is_assets.settings.config import EMBEDDED_MODEL, GradientsSettings, WarmupSettings
from g2is_assets.training.engine import peak_flops
from g2is_assets.training.gradients import GradientWorker, smallest_cosine
from g2is_assets.training.lora import convert_frozen, lora_parameters
from g2is_assets.training.model import find_model, pick_device
from g2is_assets.training.text import Example, plan_batches
from g2is_assets.training.warmup import train_warmup

LLAMA: Final = {
    "vocab_size": 128256,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 4096,
}
SHAPES: Final[dict[str, dict[str, Any]]] = {
    "1B": LLAMA
    | {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "tie_word_embeddings": True},
    "8B": LLAMA | {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
}
TINY: Final[dict[str, Any]] = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
RANKS: Final = (8, 128)
PART: Final = 16384
"""Rows drawn at a time."""
KINDS: Final = ("adam", "adam_without_momentum")


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    shapes: dict[str, dict[str, Any]]
    ranks: Sequence[int]
    n_rows: int
    n_tokens: int
    batch_tokens: int
    sketch_dim: int
    graphs: Sequence[int]
    walk: int
    budget: int
    compared: int
    edges: int


WHOLE: Final = Sizes(SHAPES, RANKS, 512, 512, 32768, 8192, (100_000, 1_000_000), 1_000_000, 1000, 2000, 32)
SMALL: Final = Sizes({"tiny": TINY}, (2,), 12, 24, 96, 256, (300,), 300, 12, 100, 4)


class RandomModel:
    """A Llama of a shape with random weights, made on the device; in the place of a `ModelSource`."""

    def __init__(self, name: str, shape: dict[str, Any], device: str) -> None:
        self.name, self.shape, self.device = name, shape, device

    def load(self, device: str = "auto", *, halved: bool = False) -> Any:
        """Equal weights at every call, made in bfloat16; for a training in float32."""
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.device(self.device):
                model = LlamaForCausalLM(LlamaConfig(**self.shape)).eval()
        finally:
            torch.set_default_dtype(torch.float32)
        model.requires_grad_(False)
        if halved:
            convert_frozen(model)
        return (model if halved else model.float()).to(pick_device(device))

    def tokenizer(self) -> Any:
        """Padding is all that is asked of it."""
        return find_model(EMBEDDED_MODEL).tokenizer() if self.name != "tiny" else _Padding()


class _Padding:
    pad_token_id, padding_side = 0, "right"

    def pad(self, rows: Sequence[dict[str, list[int]]], **_: Any) -> dict[str, torch.Tensor]:
        """Rows of one length."""
        width = max(len(row["input_ids"]) for row in rows)
        return {
            name: torch.tensor([row[name] + [0] * (width - len(row[name])) for row in rows])
            for name in ("input_ids", "attention_mask")
        }


def main() -> None:
    """Parse arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    sizes, device = SMALL if given.tiny else WHOLE, pick_device("auto")
    if device == "cpu" and not given.tiny:
        parser.error("torch finds no GPU here; --tiny runs everything once on the CPU")
    name = torch.cuda.get_device_name() if device.startswith("cuda") else "CPU, so that nothing here is of a GPU"
    report, ends = Report(f"On one device: {name}", given.out), time.monotonic() + 60 * given.minutes
    sources = {name: RandomModel(name, shape, device) for name, shape in sizes.shapes.items()}
    every: dict[str, Any] = sources if given.tiny else {"135M, real": find_model(EMBEDDED_MODEL)} | sources
    parts: list[tuple[str, Callable[[], None]]] = [
        ("gradients", partial(gradients, report, every, device, sizes, ends)),
        ("graph", partial(graphs, report, sizes, ends)),
        ("walk", partial(walks, report, sizes)),
        *([] if given.tiny else [("one domain", partial(domain, report))]),
    ]
    left = []
    for part, run in parts:
        if time.monotonic() < ends:
            run()
        else:
            left.append(part)
    report.table("Left out for want of time", ("part",), [[part] for part in left or ["nothing"]])


def rows_of(source: Any, sizes: Sizes) -> list[Example]:
    """Rows of random tokens, of a half to all of the longest."""
    rng, n_ids = np.random.default_rng(0), getattr(source, "shape", {"vocab_size": 49152})["vocab_size"]
    lengths = rng.integers(sizes.n_tokens // 2, sizes.n_tokens + 1, sizes.n_rows)
    return [Example(str(n), rng.integers(3, n_ids, size).tolist(), size // 2) for n, size in enumerate(lengths)]


def gradients(report: Report, sources: dict[str, Any], device: str, sizes: Sizes, ends: float) -> None:
    """Tokens a second at every size and rank, whether rows depend on each other, and the CPU's values beside them."""
    table = []
    for (name, source), rank in ((item, rank) for item in sources.items() for rank in sizes.ranks):
        if time.monotonic() > ends:
            table.append([name, rank, *["no time"] * 6])
            continue
        rows = rows_of(source, sizes)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            warmup = WarmupSettings(rank=rank, alpha=4 * rank, epochs=1)
            train_warmup(source, rows[:8], warmup, folder, device=device)
            asked = GradientsSettings(sketch_dim=sizes.sketch_dim, compute="bfloat16", batch_tokens=sizes.batch_tokens)
            worker = GradientWorker(source, folder, KINDS, asked, device)
            beside = ""
            if name.startswith(("135M", "tiny")) and rank == sizes.ranks[0]:
                cpu = GradientWorker(source, folder, KINDS, asked.model_copy(update={"compute": "float32"}), "cpu")
                beside = f"{least(worker, cpu, rows[:8]):.4f}"
                del cpu
        batches = [[rows[i] for i in batch] for batch in plan_batches([r.n_tokens for r in rows], sizes.batch_tokens)]
        worker(batches[0])
        begun, peak_s, n_tokens = time.perf_counter(), 0.0, 0
        for batch in batches:
            peak_s += worker(batch).cost.peak_s
            n_tokens += sum(row.n_tokens for row in batch)
        seconds = time.perf_counter() - begun
        memory = torch.cuda.max_memory_allocated() / 1e9 if device.startswith("cuda") else float("nan")
        p = sum(parameter.numel() for parameter in lora_parameters(worker.model).values())
        cells = [f"{p:,}", f"{n_tokens / seconds:,.0f}", f"{100 * peak_s / seconds:.0f} %", f"{memory:.1f}"]
        table.append([name, rank, *cells, f"{smallest_cosine(worker, rows[:4]):.5f}", beside])
        del worker
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    report.table(
        f"Per-example gradients in bfloat16, {sizes.n_rows} rows of {sizes.n_tokens // 2} to {sizes.n_tokens} tokens",
        ("model", "rank", "p", "tokens/s", "of a bare product", "GPU memory, GB", "alone and beside", "to the CPU"),
        table,
        f"Bare product in bfloat16: {peak_flops(device, 'bfloat16') / 1e12:.2f} TFLOP/s. Alone and beside: smallest "
        "cosine of a row's features alone and beside others. To the CPU: smallest cosine with its float32 features.",
    )


def least(worker: GradientWorker, other: GradientWorker, rows: Sequence[Example]) -> float:
    """Smallest cosine of the features of two workers, over rows and kinds."""
    one, two = worker(rows).features, other(rows).features
    return min(float(torch.cosine_similarity(one[k].double(), two[k].double()).min()) for k in KINDS)


def drawn(n: int, dim: int) -> np.ndarray:
    """Codes of rows around 64 directions."""
    rng, found = np.random.default_rng(0), np.empty((n, dim), dtype=np.int8)
    near = rng.standard_normal((64, dim), dtype=np.float32)
    for start in range(0, n, PART):
        few = found[start : start + PART]
        few[:] = codes.quantise(near[rng.integers(64, size=len(few))] + 2 * rng.standard_normal(few.shape, np.float32))
    return found


class OutOfTime(Exception):
    """Raised by a progress that may not go on."""


def graph_within(rows: np.ndarray, n_neighbors: int, ends: float) -> tuple[float, float]:
    """Seconds of a graph, and the share of it that was done by then."""
    begun, done = time.perf_counter(), 0

    def progress(n_rows: int) -> None:
        nonlocal done
        done += n_rows
        if time.monotonic() > ends and done < len(rows):
            raise OutOfTime

    with suppress(OutOfTime):
        build_graph(rows, n_neighbors, 8, progress=progress)
    return time.perf_counter() - begun, done / len(rows)


def agree(one: bool) -> str:
    """What is said of a comparison with the CPU: nothing, where that is all there is."""
    return "not compared, there is no GPU" if codes.product_device() == "cpu" else str(one)


def on_cpu(run: Callable[[], Any]) -> Any:
    """What a step gives with products of the CPU."""
    before = codes.product_device
    codes.product_device = lambda: "cpu"  # type: ignore[assignment]
    try:
        return run()
    finally:
        codes.product_device = before


def graphs(report: Report, sizes: Sizes, ends: float) -> None:
    """Seconds of the graph, and whether a small one is the CPU's to the bit."""
    few = drawn(sizes.compared, sizes.sketch_dim)
    one, two = (run(partial(build_graph, few, 10, 10)) for run in (lambda call: call(), on_cpu))
    same = np.array_equal(one.neighbors, two.neighbors) and np.array_equal(one.neighbor_cosines, two.neighbor_cosines)
    table = []
    for number, n in enumerate(sizes.graphs):
        # What is left is for all sizes to come, and as much again for the parts after.
        share = (ends - time.monotonic()) / (len(sizes.graphs) - number + 1)
        seconds, done = graph_within(drawn(n, sizes.sketch_dim), sizes.edges, time.monotonic() + share)
        table.append([f"{n:,}", f"{seconds:.1f}", f"{100 * done:.1f} %", f"{seconds / max(done, 1e-9):,.0f}"])
    caption = (
        f"Products on {codes.product_device()}. Of {sizes.compared} rows equal to the CPU's to the bit: {agree(same)}."
    )
    report.table("Graph", ("rows", "s", "done by then", "s in all, at that rate"), table, caption)


def walks(report: Report, sizes: Sizes) -> None:
    """Seconds of a walk that streams its rows, and whether a small one takes the CPU's rows."""
    with tempfile.TemporaryDirectory() as scratch:
        make_files({"n": sizes.walk, "dim": sizes.sketch_dim, "folder": scratch})
        validation = np.load(Path(scratch) / "knowledge.npz", allow_pickle=False)["validation"]
        source = FileFeatures(Path(scratch), sizes.walk)
        few: FeatureSource = ArrayFeatures(source.rows(np.arange(min(sizes.compared, sizes.walk))))
        walk = partial(balanced_walk, few, validation, sizes.budget // 10 + 2)
        same = np.array_equal(walk().rows, on_cpu(walk).rows)
        begun = time.perf_counter()
        taken = balanced_walk(source, validation, sizes.budget, memory_bytes=1)
        seconds = time.perf_counter() - begun
    caption = f"Streamed from disk. Of {sizes.compared} rows the same as the CPU's: {agree(same)}."
    cells = [f"{sizes.walk:,}", len(taken.rows), source.n_passes, f"{seconds:.1f}"]
    report.table("Balanced walk", ("rows", "taken", "passes", "s"), [cells], caption)


def domain(report: Report) -> None:
    """The demo on this device: from the sample's pool to an adapter and its scores."""
    from g2is_assets.cli.init import make_project
    from g2is_assets.settings.project import SETTINGS_FILE, load_project
    from g2is_assets.stages.catalog import refreshed
    from g2is_assets.stages.frame import make
    from g2is_assets.stages.stage import PROJECT, Place
    from g2is_assets.stages.workspace import Workspace

    def steps() -> Iterator[tuple[str, Place]]:
        for stage in refreshed("project"):
            yield stage.key, PROJECT
        for stage in refreshed("domain"):
            if stage.key.startswith(("instructions", "gradients", "knowledge", "selection", "finetune")):
                yield stage.key, Place("schedule_reasoning")

    with tempfile.TemporaryDirectory() as scratch:
        make_project(Path(scratch), sample=True)
        workspace, table = Workspace(load_project(Path(scratch) / SETTINGS_FILE)), []
        for key, place in steps():
            begun = time.perf_counter()
            make(workspace, key, place, "gpu")
            table.append([key, f"{time.perf_counter() - begun:.1f}"])
        found = workspace.lake.current("finetune/evaluation", "schedule_reasoning").manifest.metrics
    said = ", ".join(f"{name} {float(found[f'nll_{name}']):.4f}" for name in ("base", "random", "g2is"))
    report.table("One domain of the sample data", ("stage", "s"), table, f"NLL on test rows: {said}.")


if __name__ == "__main__":
    main()
