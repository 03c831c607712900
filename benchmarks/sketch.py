"""How wide and in how many bits a gradient is to be stored: the walk's rows against those from gradients as they are.

    python benchmarks/sketch.py --config benchmarks/sketch.toml --folder sketch-exact --out benchmarks/results/sketch.md

Needs benchmarks/data (see benchmarks/README.md). The gradients of the pool's and the domains' rows are computed once,
without a sketch and in float32, into `--folder` (p = 0.92 million float16 numbers a row: 4 GB for 2,000 rows); with
`--half` once more in bfloat16, to see what that costs. From them each sketch is made as the project makes it. What a
domain takes by them, at the default settings of the balanced walk, is compared with what a plain float64 walk takes
over cosines of the gradients themselves. With `--trained SEED` adapters are trained on what the widths of `TRAINED`
take with that sketch seed, and scored on the domains' test rows; each is kept in `--folder`, so that this may be
stopped and goes on.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from report import Report

from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.core.balance import node_weights
from g2is_assets.core.codes import quantise
from g2is_assets.core.projection import Sketch
from g2is_assets.settings.config import GradientsSettings
from g2is_assets.settings.project import load_project
from g2is_assets.stages.frame import make
from g2is_assets.stages.stage import PROJECT, Place
from g2is_assets.stages.trainings import fit, pool_rows, score, tuned
from g2is_assets.stages.workspace import Workspace
from g2is_assets.training.gradients import GradientWorker
from g2is_assets.training.lora import lora_parameters
from g2is_assets.training.text import Example, examples, plan_batches

Features = NDArray[np.floating[Any]]

KIND: Final = "adam_without_momentum"
"""What the balanced walk reads by default."""
BUDGETS: Final = (0.01, 0.05)
REDUNDANCY: Final = 0.25
WAYS: Final = {
    "2,048 x 8": (2048, 8),
    "4,096 x 8": (4096, 8),
    "8,192 x 4": (8192, 4),
    "8,192 x 8": (8192, 8),
    "8,192 x 16": (8192, 16),
    "16,384 x 4": (16384, 4),
    "16,384 x 8": (16384, 8),
    "32,768 x 4": (32768, 4),
    "32,768 x 8": (32768, 8),
}
"""Numbers a row, and bits of each; 16 are not quantised."""
TRAINED: Final = ("exact", "8,192 x 8", "16,384 x 4", "32,768 x 4")
SEEDS: Final = (0, 1, 2)
BATCH_TOKENS: Final = 1024


def main() -> None:
    """Parse arguments, compute what is not there, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--half", action="store_true", help="compare with passes in bfloat16 too")
    parser.add_argument("--trained", type=int, action="append", help="sketch seed; may be repeated")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    workspace = Workspace(load_project(given.config))
    names = sorted(workspace.project.domains)
    for key in ("instructions/pool", "warmup/sample", "warmup/checkpoint"):
        make(workspace, key, PROJECT, "sketch")
    for name in names:
        make(workspace, "instructions/target", Place(name), "sketch")
    report, exact = Report("Width and bits of the sketch", given.out), Exact(workspace, given.folder, names, "float32")
    taken = {("exact", 0): exact.walks(exact.cosines, exact.to_nodes)}
    for seed in SEEDS:
        for width in sorted({width for width, _ in WAYS.values()}):
            sketched = exact.sketched(width, seed)
            for way, (_, bits) in ((way, said) for way, said in WAYS.items() if said[0] == width):
                taken[way, seed] = exact.walks_of(sketched, bits)
            print(f"seed {seed}, width {width:,}", flush=True)
    show_overlap(report, exact, taken, names)
    if given.half:
        show_half(report, exact, Exact(workspace, given.folder, names, "bfloat16"), taken, names)
    if given.trained:
        show_trained(report, workspace, given.folder, exact, taken, names, given.trained)


class Whole:
    """In the place of a sketch: the parameters side by side."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        ends = np.cumsum(list(sizes.values())).tolist()
        self.at = {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}
        self.width = ends[-1]

    def zeros(self, n_rows: int) -> torch.Tensor:
        """As a sketch has it."""
        return torch.zeros(n_rows, self.width)

    def add(self, into: torch.Tensor, name: str, values: torch.Tensor) -> None:
        """As a sketch has it."""
        into[:, self.at[name]] += values


class Exact:
    """Gradients without a sketch, as unit rows in float16, of the pool and of the domains' validation rows."""

    def __init__(self, workspace: Workspace, folder: Path, names: Sequence[str], compute: str) -> None:
        self.workspace, self.folder, self.compute = workspace, folder, compute
        folder.mkdir(parents=True, exist_ok=True)
        pool = workspace.lake.current("instructions/pool").read(POOL)
        rows = {"pool": examples(pool, workspace.template)}
        for name in names:
            own = workspace.lake.current("instructions/target", name).read(TARGET)
            rows[name] = examples(own.filter(pl.col("split") == "validation"), workspace.template)
        self.files = {name: self._file(name) for name in rows}
        for name in (name for name in rows if not self.files[name].exists()):
            self._compute(name, rows[name])
        self.row_ids = [example.row_id for example in rows["pool"]]
        self.of = {name: np.load(file, mmap_mode="r", allow_pickle=False) for name, file in self.files.items()}

    @cached_property
    def cosines(self) -> Features:
        """(n, n) of the pool's rows."""
        return _cosines(self.of["pool"], self.of["pool"])

    @cached_property
    def eligible(self) -> NDArray[np.int64]:
        """Of rows whose gradients are alike the first stays, as in a refresh."""
        alike = np.triu(self.cosines >= self.workspace.project.settings.graph.duplicate_cosine, 1)
        return np.flatnonzero(~alike.any(axis=0))

    @property
    def budget(self) -> int:
        """Rows to take, of which any smaller number is the beginning."""
        return round(max(BUDGETS) * len(self.eligible))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.{self.compute}.npy"

    def _compute(self, name: str, rows: Sequence[Example]) -> None:
        settings = GradientsSettings(compute=self.compute)
        checkpoint = self.workspace.lake.current("warmup/checkpoint").folder
        worker = GradientWorker(self.workspace.model, checkpoint, (KIND if name == "pool" else "sgd",), settings, "cpu")
        sizes = {n: p.numel() for n, p in lora_parameters(worker.model).items()}
        (self.folder / "sizes.json").write_text(json.dumps(sizes))
        worker.sketch = Whole(sizes)  # type: ignore[assignment]
        part, begun, done = self.folder / "part.npy", time.monotonic(), 0
        out = np.lib.format.open_memmap(part, mode="w+", dtype=np.float16, shape=(len(rows), sum(sizes.values())))
        for batch in plan_batches([row.n_tokens for row in rows], BATCH_TOKENS):
            (found,) = worker([rows[i] for i in batch]).features.values()
            out[list(batch)] = torch.nn.functional.normalize(found.double(), dim=1).half().numpy()
            done += sum(rows[i].n_tokens for i in batch)
        out.flush()
        part.rename(self.files[name])
        print(f"{name}, {self.compute}: {done} tokens, {done / (time.monotonic() - begun):.0f} tokens/s", flush=True)

    @cached_property
    def to_nodes(self) -> dict[str, Features]:
        """Of each domain (v, n): cosines of its rows to the pool's."""
        return {name: _cosines(rows, self.of["pool"]) for name, rows in self.of.items() if name != "pool"}

    def walks_of(self, sketched: Mapping[str, Features], bits: int) -> dict[str, NDArray[np.int64]]:
        """Rows that a walk takes for each domain over these sketches in so many bits."""
        stored = {name: rows if bits == 16 else quantise(rows, bits) for name, rows in sketched.items()}
        pool = stored["pool"]
        return self.walks(
            _cosines(pool, pool), {name: _cosines(rows, pool) for name, rows in stored.items() if name != "pool"}
        )

    def walks(self, cosines: Features, to_nodes: Mapping[str, Features]) -> dict[str, NDArray[np.int64]]:
        """Rows that a fair balanced walk takes for each domain, told plainly, as `tests/core` has it."""
        return {name: walk(cosines, own, self.eligible, self.budget) for name, own in to_nodes.items()}

    def pull(self, name: str, rows: NDArray[np.int64]) -> float:
        """Mean cosine of these rows to the domain's rows, both without a sketch."""
        return float(self.to_nodes[name][:, rows].mean())

    def sketched(self, width: int, seed: int) -> dict[str, Features]:
        """Sketches of the gradients, not quantised, of the pool's rows and each domain's."""
        sizes = json.loads((self.folder / "sizes.json").read_text())
        whole, sketch = Whole(sizes), Sketch(sizes, width, seed=seed)

        def of(rows: Features) -> Features:
            done = []
            for block in _blocks(rows):
                into = sketch.zeros(len(block))
                for name, place in whole.at.items():
                    sketch.add(into, name, block[:, place])
                done.append(into.numpy())
            return np.concatenate(done)

        return {name: of(rows) for name, rows in self.of.items()}


def walk(cosines: Features, to_nodes: Features, eligible: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """Rows that a fair balanced walk takes among these, from cosines of all rows and of a domain's rows to them."""
    to_nodes, served, repeated = to_nodes[:, eligible], np.zeros(len(to_nodes)), np.zeros(len(eligible))
    taken: list[int] = []
    for _ in range(budget):
        score = node_weights(served) @ to_nodes - REDUNDANCY / (len(taken) + 1) * repeated
        score[taken] = -np.inf
        row = int(score.argmax())
        taken.append(row)
        served += to_nodes[:, row]
        repeated += cosines[eligible[row], eligible]
    return eligible[taken]


def _blocks(rows: Features, size: int = 64) -> Iterator[torch.Tensor]:
    for start in range(0, len(rows), size):
        yield torch.from_numpy(rows[start : start + size].astype(np.float32))


def _cosines(rows: Features, others: Features) -> NDArray[np.float64]:
    found = np.zeros((len(rows), len(others)))
    for start in range(0, rows.shape[1], 65536):
        columns = slice(start, start + 65536)
        found += rows[:, columns].astype(np.float32) @ others[:, columns].astype(np.float32).T
    lengths = (np.sqrt([np.square(row.astype(np.float64)).sum() for row in part]) for part in (rows, others))
    return found / np.outer(*lengths)


def show_overlap(report: Report, exact: Exact, taken: Mapping[tuple[str, int], Any], names: Sequence[str]) -> None:
    """By way: share of rows that it has in common with the exact walk, and with itself under other seeds."""
    for share in BUDGETS:
        n, table = round(share * len(exact.eligible)), []
        drawn = np.random.default_rng(0).choice(exact.eligible, (200, n))
        by_chance = {name: np.mean([exact.pull(name, rows) for rows in drawn[:5]]) for name in names}
        best = {name: exact.pull(name, taken["exact", 0][name][:n]) for name in names}
        for way, (width, bits) in WAYS.items():
            own = {name: [set(taken[way, seed][name][:n].tolist()) for seed in SEEDS] for name in names}
            same = {name: np.mean([_common(s, taken["exact", 0][name][:n]) for s in own[name]]) for name in names}
            among = np.mean([len(a & b) / n for name in names for a, b in zip(own[name], own[name][1:], strict=False)])
            kept = np.mean(
                [
                    (exact.pull(name, np.array(sorted(rows))) - by_chance[name]) / (best[name] - by_chance[name])
                    for name in names
                    for rows in own[name]
                ]
            )
            cells = [f"{same[name]:.0%}" for name in names]
            size, mean = f"{width * bits / 8 / 1024:.0f}", f"{np.mean(list(same.values())):.1%}"
            table.append([way, size, mean, *cells, f"{among:.0%}", f"{kept:.1%}"])
        report.table(
            f"Rows in common with the walk over unsketched gradients: {n} of {len(exact.eligible):,}, mean of "
            f"{len(SEEDS)} sketch seeds",
            ("numbers x bits", "KiB a row", "mean", *names, "two seeds", "pull kept"),
            table,
            "Two seeds: rows in common of the same way under two of the seeds. Pull kept: mean cosine of the rows "
            "taken to the domain's rows, without a sketch, above that of random rows, as a share of the exact walk's.",
        )


def _common(rows: set[int], others: NDArray[np.int64]) -> float:
    return len(rows & set(others.tolist())) / len(others)


def show_half(
    report: Report, exact: Exact, half: Exact, taken: Mapping[tuple[str, int], Any], names: Sequence[str]
) -> None:
    """What passes in bfloat16 change: with and without a sketch."""
    plain_half, own_half = half.walks(half.cosines, half.to_nodes), half.walks_of(half.sketched(8192, 0), 8)
    table = []
    for share in BUDGETS:
        n = round(share * len(exact.eligible))
        plain = [_common(set(plain_half[name][:n].tolist()), taken["exact", 0][name][:n]) for name in names]
        own = {name: own_half[name][:n] for name in names}
        same = [_common(set(own[name].tolist()), taken["8,192 x 8", 0][name][:n]) for name in names]
        true = [_common(set(own[name].tolist()), taken["exact", 0][name][:n]) for name in names]
        full = [_common(set(taken["8,192 x 8", 0][name][:n].tolist()), taken["exact", 0][name][:n]) for name in names]
        table.append([n, *(f"{np.mean(part):.1%}" for part in (plain, same, true, full))])
    error = np.sqrt(np.mean(np.square(half.cosines - exact.cosines)))
    report.table(
        f"Passes in bfloat16: error of a pair's cosine {error:.4f} rms, without a sketch",
        ("rows taken", "no sketch", "8,192 x 8, same seed", "that against exact float32", "float32's against exact"),
        table,
        "Rows in common with those that float32 passes take, mean of the domains.",
    )


def show_trained(
    report: Report,
    workspace: Workspace,
    folder: Path,
    exact: Exact,
    taken: Mapping[tuple[str, int], Any],
    names: Sequence[str],
    seeds: Sequence[int],
    ways: Sequence[str] = TRAINED,
    known: str = "trained.json",
) -> None:
    """Mean NLL on test rows of adapters trained on what each way takes at the smaller budget, the first way's beside.

    They stand in the file `known` of the folder.
    """
    n = round(BUDGETS[0] * len(exact.eligible))
    pool, file = workspace.lake.current("instructions/pool").read(POOL), folder / known
    scores: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}
    for seed in seeds:
        for name in names:
            own = workspace.lake.current("instructions/target", name).read(TARGET)
            test, validation = (own.filter(pl.col("split") == split) for split in ("test", "validation"))
            for way in ways:
                drawn = 0 if way == ways[0] else seed
                key = f"{name}/{way}/{drawn}"
                if key in scores:
                    continue
                rows = pool_rows(pool, [exact.row_ids[i] for i in taken[way, drawn][name][:n]], "this benchmark")
                fit(workspace, rows, validation, workspace.project.settings.finetune, folder / "adapter", key)
                scores[key] = score(workspace, tuned(workspace, folder / "adapter"), test).nll
                file.write_text(json.dumps(scores))
                print(key, np.mean(scores[key]), flush=True)
    rng = np.random.default_rng(0)
    table = []
    for way in ways[1:]:
        cells, every = [], []
        for name in names:
            best = np.array(scores[f"{name}/{ways[0]}/0"])
            gaps = np.mean([np.array(scores[f"{name}/{way}/{seed}"]) - best for seed in seeds], axis=0)
            drawn = rng.choice(gaps, (2000, len(gaps))).mean(axis=1)
            cells.append(f"{gaps.mean():+.4f} [{np.quantile(drawn, 0.025):+.4f}, {np.quantile(drawn, 0.975):+.4f}]")
            every.append(gaps.mean())
        table.append([way, f"{np.mean(every):+.4f}", *cells])
    report.table(
        f"NLL on test rows of adapters trained on the {n} rows, less that of the {ways[0]} walk's; sketch seeds "
        f"{', '.join(map(str, seeds))}",
        ("rows of", "mean", *names),
        table,
        "In brackets 95 % of 2,000 bootstrap draws over test rows.",
    )


if __name__ == "__main__":
    main()
