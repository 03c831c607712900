"""Speed and memory of reading a pool in each file format: the reader alone, and all of `instructions/pool`.

    python benchmarks/reading.py --rows 1000000 --out benchmarks/results/reading.md

Writes made-up short rows (a prompt of 20 to 30 words, a response of 5 to 10) in every format, then reads each file in a
process of its own. The reader alone gives rows as they are before tokens are counted; the whole counts tokens with a
tokenizer of single bytes and a ChatML template, merges equal rows, holds the table to its contract and writes it.
"""

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from report import Report

from g2is_assets.contracts.instructions import POOL
from g2is_assets.settings.config import Source
from g2is_assets.store.records import zstd
from g2is_assets.store.sources import read_rows

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))  # for a tiny tokenizer

FORMATS = ("jsonl", "json", "csv", "parquet", "jsonl.gz", "jsonl.zst")
WORDS = ("apple", "bread", "cloud", "drum", "eagle", "flute", "grape", "house", "island", "jacket", "kettle", "lamp")


def main() -> None:
    """Parse arguments and print the tables, or measure in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--whole-rows", type=int, help="rows of the second table, if others; 0 leaves it out")
    parser.add_argument("--format", choices=FORMATS, action="append", help="may be repeated; default all")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", choices=("reader", "whole"), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measured(arguments.file, arguments.measure)))
        return
    report = Report("Reading a pool", arguments.out)
    whole = arguments.rows if arguments.whole_rows is None else arguments.whole_rows
    columns = ("file", "MB", "rows/s", "seconds", "CPU seconds", "peak MB")
    for what, title, n in (("reader", "The reader", arguments.rows), ("whole", "All of instructions/pool", whole)):
        if n:
            report.table(f"{title}, {n:,} rows", columns, [line(what, n, form) for form in arguments.format or FORMATS])


def line(what: str, n: int, form: str) -> list[str]:
    """A format's line of the table, measured in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"rows.{form}"
        write(file, n)
        command = [sys.executable, __file__, "--measure", what, "--file", str(file)]
        said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        size, seconds = file.stat().st_size / 1e6, said["seconds"]
    assert said["rows"] == n, said
    numbers = [f"{size:.0f}", f"{n / seconds:,.0f}", f"{seconds:.1f}", f"{said['cpu']:.1f}", f"{said['peak']:.0f}"]
    return [f".{form}", *numbers]


def rows(n: int) -> Iterator[dict[str, str]]:
    """Distinct rows that depend on their number alone."""
    draw = random.Random(0)
    for number in range(n):
        prompt = " ".join(draw.choices(WORDS, k=draw.randint(20, 30)))
        yield {"prompt": f"{number}: {prompt}?", "response": " ".join(draw.choices(WORDS, k=draw.randint(5, 10)))}


def write(file: Path, n: int) -> None:
    """Write rows in the format that the name says."""
    if file.suffix == ".parquet":
        pl.DataFrame(list(rows(n))).write_parquet(file)
        return
    opened = {".gz": gzip.open, ".zst": zstd.open}.get(file.suffix, open)
    with opened(file, "wt", encoding="utf-8") as stream:
        if file.suffix == ".csv":
            stream.write("prompt,response\n")
            stream.writelines(f'"{row["prompt"]}","{row["response"]}"\n' for row in rows(n))
        elif file.suffix == ".json":
            stream.write("[")
            stream.writelines((", " if number else "") + json.dumps(row) for number, row in enumerate(rows(n)))
            stream.write("]")
        else:
            stream.writelines(json.dumps(row) + "\n" for row in rows(n))


def measured(file: Path, what: str) -> dict[str, float]:
    """Rows, seconds and the peak of memory in MB, of this process, with its libraries."""
    if what == "whole":
        from g2is_assets.training.text import Template, normalise
        from support.models import byte_tokenizer

        template = Template(byte_tokenizer(), 512, None)
    found = read_rows(str(file), Source(path=file.name), file.parent)
    next(found)  # what is imported is not measured
    found.close()
    begun, cpu = time.monotonic(), time.process_time()
    found = read_rows(str(file), Source(path=file.name), file.parent)
    if what == "reader":
        n = sum(1 for _ in found)
    else:
        made = POOL.validate(normalise(found, template).rows)
        n = len(made)
        made.write_parquet(file.with_name("pool.parquet"))
    used = {"seconds": time.monotonic() - begun, "cpu": time.process_time() - cpu}
    return {"rows": n, "peak": peak_mb()} | used


def peak_mb() -> float:
    """The most memory that this process had; `getrusage` may tell that of the one it was started from."""
    (line,) = (said for said in Path("/proc/self/status").read_text().splitlines() if said.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3


if __name__ == "__main__":
    main()
