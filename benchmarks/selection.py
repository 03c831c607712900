"""Speed and memory of walk and graph: prints tables and, with --out, writes them as Markdown.

    python benchmarks/selection.py published scale graph growth --store lake --domain math_gsm8k --out results.md
    python benchmarks/selection.py --check

Parts: `published` compares the walk with the published way; `balanced` the balanced walk with bare matrix-vector
products; `scale` walks stored features of large pools and streams a store; `graph` compares the graph with bare matrix
products; `growth` fits exponents; `million`, only where named, walks 10⁶ rows read from disk (8 GB below TMPDIR).
Counterparts run up to `--bare-max` rows. `--store` is a lake with gradients/pool, whose rows are drawn on (mapped
copies of its shards are made there); without it rows are synthetic.
selection_data.py says how larger pools are drawn. Every measurement runs in a process of its own; what takes less than
20 s runs three times, taking turns with its counterpart, and medians are shown. Peaks are resident sizes of the whole
process, libraries and mapped pages included. The largest pool needs 3.5 GB below TMPDIR, which must not be a memory
disk. Exits with 1 if our rows and the published ones differ; whether a time target was met is only printed.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report import Report

# This process stays small: a new process's peak starts at the size of the one that starts it.
HERE = Path(__file__).parent
CONFORMANCE = HERE.parent / "tests" / "conformance"
SHORT_S = 20.0
Result = dict[str, Any]


def measure(what: str, task: Result) -> Result:
    """Run one measurement in a process of its own."""
    command = [sys.executable, str(HERE / "selection_measures.py"), json.dumps({"what": what, **task})]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:  # its own message stands above
        sys.exit(f"measurement '{what}' failed with {done.returncode}: {task}")
    return json.loads(done.stdout.splitlines()[-1])


def in_turns(task: Result, *whats: str) -> list[Result]:
    """Medians of one task measured in several ways that take turns; what takes SHORT_S or more runs once."""
    results = [[measure(what, task)] for what in whats]
    for _ in range(2):
        for what, found in zip(whats, results, strict=True):
            if found[0]["seconds"] < SHORT_S:
                found.append(measure(what, task))
    return [median(found) for found in results]


def median(found: Sequence[Result]) -> Result:
    """Median of every number over repeated runs; lists are those of the first."""
    return {
        key: value if isinstance(value, list) else statistics.median(result[key] for result in found)
        for key, value in found[0].items()
    }


def exponent(sizes: Sequence[int], values: Sequence[float]) -> str:
    """Slope of a least-squares line through the logarithms."""
    if len(sizes) < 2:
        return "-"
    return f"{statistics.linear_regression([math.log(n) for n in sizes], [math.log(v) for v in values]).slope:.2f}"


def grown(result: Result) -> float:
    """Bytes of the peak above the start, libraries not counted."""
    return max(1.0, result["peak_bytes"] - result["start_bytes"])


def gb(n_bytes: float) -> str:
    """Bytes in GB."""
    return f"{n_bytes / 1e9:.3f}"


def met(good: bool) -> str:
    """Whether a target was met."""
    return "yes" if good else "NO"


def part_published(pool: Result, options: argparse.Namespace, report: Report) -> None:
    """Our walks against the published way: the published rules on float32 rows, and the same rules on codes."""
    lines, memory, notes = [], {}, []
    for n in options.published_n:
        for percent, target in ((1, 8.0), (5, 2.0)):
            task = {**pool, "n": n, "budget": n * percent // 100, "method": "reference"}
            theirs, ours, coded = in_turns(task, "published", "walk", "coherent")
            memory[n] = (theirs, ours)
            same = ours["rows"] == theirs["rows"]
            if not same:
                found = measure("difference", {**task, "ours": ours["rows"], "theirs": theirs["rows"]})
                notes.append(f" N = {n:,} at {percent} %: {found['text']}.")
            ratios = [theirs["seconds"] / found["seconds"] for found in (ours, coded)]
            lines.append(
                [
                    *(f"{n:,}", f"{percent} %", len(ours["rows"]), met(same)),
                    len(set(coded["rows"]) & set(theirs["rows"])),
                    *(f"{theirs[key]:.2f}" for key in ("adjacency_s", "walk_s", "seconds")),
                    *(f"{found['seconds']:.3f}" for found in (ours, coded)),
                    *(f"{ratio:.2f}" for ratio in ratios),
                    f">= {target:g}: {', '.join(met(ratio >= target) for ratio in ratios)}",
                    *(gb(theirs["adjacency_bytes"]), *(gb(found["peak_bytes"]) for found in (theirs, ours, coded))),
                ]
            )
    powers = [exponent(list(memory), [grown(pair[side]) for pair in memory.values()]) for side in (0, 1)]
    columns = "rows N|budget|taken|identical rows|of codes in common|adjacency s|published walk s|published in all s"
    columns += "|float32 in all s|codes in all s|ratio float32|ratio codes|target|adjacency GB"
    report.table(
        "The walk against the published way",
        [*columns.split("|"), "published GB", "float32 GB", "codes GB"],
        lines,
        "In all: reading stored features included on both sides. The adjacency's size is exact, N (N - 1) pairs of "
        "int32 and float32; peaks hold the features too. Peak above start grows as N to the power "
        f"{powers[0]} (published) and {powers[1]} (float32), at 5 %; the peak of codes holds torch.{''.join(notes)}",
    )
    report.failures += notes


def part_balanced(pool: Result, options: argparse.Namespace, report: Report) -> None:
    """The balanced walk, fair and not, against the products that it cannot do without."""
    lines = []
    for n in options.balanced_n:
        task = {**pool, "n": n, "budget": n // 100}
        if n > options.bare_max:
            plain, fair = in_turns(task, "balanced", "fair")
            both, times = len(set(plain["rows"]) & set(fair["rows"])), [f"{r['seconds']:.2f}" for r in (plain, fair)]
            lines.append([f"{n:,}", n // 100, both, "-", *times, "-", "-", "-"])
            lines[-1] += [gb(plain["peak_bytes"]), gb(fair["peak_bytes"])]
            continue
        bare, plain, fair = in_turns(task, "steps", "balanced", "fair")
        lines.append(
            [
                *(f"{n:,}", n // 100, len(set(plain["rows"]) & set(fair["rows"]))),
                *(f"{result['seconds']:.2f}" for result in (bare, plain, fair)),
                *(f"{result['seconds'] / bare['seconds']:.2f}" for result in (plain, fair)),
                *(gb(result["peak_bytes"]) for result in (bare, plain, fair)),
            ]
        )
    columns = "rows N|taken|in both|products s|balanced s|fair s|balanced / products|fair / products"
    report.table(
        "The balanced walk against bare products",
        [*columns.split("|"), "products GB", "balanced GB", "fair GB"],
        lines,
        "Budget 1 %. Products: reading and normalising the rows, then one matrix-vector product for every row taken.",
    )


def part_scale(pool: Result, options: argparse.Namespace, report: Report) -> None:
    """Walks of large stored pools, and the store's streaming rate."""
    lines = []
    for n in options.scale_n:
        (found,) = in_turns({**pool, "n": n, "budget": options.budget}, "walk")
        seconds, limit = (30, 1.5e9) if n <= 100_000 else (600, 3e9)
        target = met(found["seconds"] <= seconds and found["peak_bytes"] < limit)
        lines.append(
            [
                *(f"{n:,}", options.budget, len(found["rows"])),
                f"{found['seconds']:.2f}",
                *(gb(found["peak_bytes"]), f"<= {seconds} s, < {limit / 1e9:g} GB: {target}"),
            ]
        )
    columns = ["rows N", "budget", "taken", "in all s", "peak GB", "target"]
    report.table("Walks of stored features", columns, lines, "Mapped copies are there already; page cache warm.")
    (found,) = in_turns(pool, "stream")
    rate = found["n_bytes"] / 1e9 / found["seconds"]
    report.table(
        "Streaming the store",
        ["rows N", "GB of codes", "open s", "stream s", "GB/s", "GB/s with opening", "peak GB", "start GB", "target"],
        [
            [
                *(f"{found['n_rows']:,}", gb(found["n_bytes"]), f"{found['open_s']:.2f}", f"{found['seconds']:.2f}"),
                *(f"{rate:.2f}", f"{found['n_bytes'] / 1e9 / (found['seconds'] + found['open_s']):.2f}"),
                *(gb(found["peak_bytes"]), gb(found["start_bytes"]), f">= 1 GB/s: {met(rate >= 1)}"),
            ]
        ],
        "Warm page cache; memory for one block. Opening reads and checks the digest of every shard; streaming copies "
        f"each mapped shard into one block. Making the mapped copies took {pool['mapped_s']:.2f} s.",
    )


def part_graph(pool: Result, options: argparse.Namespace, report: Report) -> None:
    """The graph against bare products."""
    lines = []
    for n in options.graph_n:
        if n > options.bare_max:
            (ours,) = in_turns({**pool, "n": n}, "graph")
            target = met(ours["seconds"] <= 200 and ours["peak_bytes"] < 1e9)
            lines.append([f"{n:,}", "-", f"{ours['seconds']:.2f}", "-", f"<= 200 s, < 1 GB: {target}", "-"])
            lines[-1].append(gb(ours["peak_bytes"]))
            continue
        ours, bare = in_turns({**pool, "n": n}, "graph", "products")
        ratio = ours["seconds"] / bare["seconds"]
        lines.append(
            [
                *(f"{n:,}", f"{bare['seconds']:.2f}", f"{ours['seconds']:.2f}", f"{ratio:.3f}"),
                *(f"<= 0.3: {met(ratio <= 0.3)}", gb(bare["peak_bytes"]), gb(ours["peak_bytes"])),
            ]
        )
    report.table(
        "The graph against bare matrix products",
        ["rows N", "products s", "graph s", "ratio", "target", "products GB", "graph GB"],
        lines,
        "The products from float32 rows in memory, reading not counted; the graph from the stored codes, all counted.",
    )


def part_growth(pool: Result, options: argparse.Namespace, report: Report) -> None:
    """Time and memory over the pool's size."""
    lines, fits = [], []
    for what, limit in (("walk", math.inf), ("graph", options.graph_max)):
        sizes = [n for n in options.growth_n if n <= limit]
        found = [in_turns({**pool, "n": n, "budget": n // 100}, what)[0] for n in sizes]
        for n, result in zip(sizes, found, strict=True):
            taken = len(result["rows"]) if what == "walk" else "-"
            lines.append(
                [what, f"{n:,}", taken, f"{result['seconds']:.3f}", gb(result["peak_bytes"]), gb(grown(result))]
            )
        powers = [exponent(sizes, [f(result) for result in found]) for f in (lambda r: r["seconds"], grown)]
        fits.append(f"{what}: time N^{powers[0]}, peak above start N^{powers[1]}")
    columns = ["", "rows N", "taken", "seconds", "peak GB", "above start GB"]
    report.table("Growth", columns, lines, f"Budget 1 %, so the walk's steps grow with N. {'; '.join(fits)}.")


def part_million(options: argparse.Namespace, report: Report) -> None:
    """Walks of a pool larger than the memory that they may use."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        task = {"folder": folder, "n": options.million_n, "dim": options.dim, "budget": options.budget}
        n_bytes = measure("make_files", task)["n_bytes"]
        for walk in options.million_walks:
            found = measure("million", {**task, "walk": walk})
            target = met(found["seconds"] <= 600 and found["peak_bytes"] < 3e9)
            lines.append(
                [
                    *(walk, f"{options.million_n:,}", gb(n_bytes), options.budget, len(found["rows"])),
                    *(int(found["n_passes"]), f"{found['seconds']:.0f}", gb(found["peak_bytes"])),
                    f"<= 600 s, < 3 GB: {target}",
                ]
            )
    report.table(
        "Walks of codes read from disk",
        ["walk", "rows N", "GB of codes", "budget", "taken", "passes", "in all s", "peak GB", "target"],
        lines,
        "The balanced one is fair to 50 rows. Codes in the form of the store's mapped copies, in the page cache as far "
        "as that holds them.",
    )


PARTS = {
    "published": part_published,
    "balanced": part_balanced,
    "scale": part_scale,
    "graph": part_graph,
    "growth": part_growth,
}


def make_pool(folder: str, options: argparse.Namespace, report: Report) -> Result:
    """Make the store that all parts read; returns where it is."""
    sizes = {"published": options.published_n, "balanced": options.balanced_n, "scale": options.scale_n}
    sizes |= {"graph": options.graph_n, "growth": options.growth_n}
    n = max(n for part in options.parts for n in sizes[part])
    lake = str(options.store) if options.store else None
    pool: Result = {"features": options.features, "n": n}
    source = {"lake": lake, "domain": options.domain, "kind": options.kind, "dim": options.dim}
    made = measure("make_pool", {**pool, **source, "folder": folder})
    pool["store"] = made["store"]
    pool["mapped_s"] = measure("mapped", pool)["seconds"]
    report.table(
        "Rows",
        ["", "negative edges, raw", "mean cosine, raw", "negative edges, mean removed", "mean cosine, mean removed"],
        [
            [name, f"{raw:.3%}", f"{mean:.4f}", f"{removed:.2%}", f"{rest:.4f}"]
            for name, (raw, mean, removed, rest) in made["edges"].items()
        ],
        f"{made['n_given']:,} {'real' if lake else 'synthetic'} rows given, dimension {made['dim']}, all others "
        f"resampled (scale {made['scale']:.3f}); measured features: {options.features}; domain: "
        f"{options.domain or 'rows resampled around four pool rows'}, {made['n_components']} components.",
    )
    return pool


def check(folder: Path, report: Report) -> None:
    """Run the conformance cases; exits with 1 if a walk differs."""
    cases = measure("check", {"folder": str(folder)})["cases"]
    lines = [[name, n, met(ours), met(theirs)] for name, n, ours, theirs in cases]
    report.table("Conformance", ["case", "rows", "our walk identical", "published way identical"], lines)
    if not all(ours and theirs for _, _, ours, theirs in cases):
        sys.exit("a walk differs from the published rows")


def main() -> None:
    """Parse arguments, make the pool and measure the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(PARTS)}; default all; or million")
    parser.add_argument("--check", nargs="?", type=Path, const=CONFORMANCE, help="run conformance cases only")
    parser.add_argument("--store", type=Path, help="lake with gradients/pool")
    parser.add_argument("--domain", help="domain with gradients/target in the same lake; needs --store")
    parser.add_argument("--kind", default="adam", help="feature kind in the lake")
    parser.add_argument("--features", choices=("raw", "mean_removed"), default="raw")
    parser.add_argument("--dim", type=int, default=8192, help="of synthetic rows")
    parser.add_argument("--budget", type=int, default=1000, help="rows to take in part scale")
    parser.add_argument("--million-n", type=int, default=1_000_000, help="rows in part million")
    parser.add_argument("--million-walks", nargs="+", default=["balanced", "coherence"], help="walks in part million")
    parser.add_argument("--bare-max", type=int, default=20_000, help="rows up to which counterparts run as well")
    parser.add_argument("--graph-max", type=int, default=20_000, help="largest graph in part growth")
    growth = [1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000]
    sizes = {
        "published": [2000, 5000, 10_000],
        "balanced": [8000, 20_000, 100_000],
        "scale": [20_000, 100_000],
        "graph": [20_000],
        "growth": growth,
    }
    for part, default in sizes.items():
        parser.add_argument(f"--{part}-n", type=int, nargs="+", default=default, metavar="N")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    options.parts = options.parts or list(PARTS)
    if unknown := set(options.parts) - PARTS.keys() - {"million"}:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    if options.domain and not options.store:
        parser.error("--domain needs --store")
    report = Report("Walk and graph", options.out)
    if options.check:
        check(options.check, report)
        return
    if "million" in options.parts:
        part_million(options, report)
        options.parts.remove("million")
        if not options.parts:
            return
    with tempfile.TemporaryDirectory() as folder:
        pool = make_pool(folder, options, report)
        for part in options.parts:
            PARTS[part](pool, options, report)
    if report.failures:
        sys.exit("\n".join(["rows differ from the published way:", *report.failures]))


if __name__ == "__main__":
    main()
