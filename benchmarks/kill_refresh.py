"""Refreshes killed at random moments, each followed by a restart, compared byte for byte with an undisturbed one.

    python benchmarks/kill_refresh.py --kills 20 --out benchmarks/results/kill_refresh.md

Runs `g2is demo --domain sums` on the tests' project with a tiny random model (needs the test requirements), a new copy
for each kill. A kill is SIGKILL to the whole process group, in a stage drawn uniformly, after a share, drawn uniformly,
of the time that this stage took undisturbed: counted from the moment when the stage before became current.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import Report

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from g2is_assets.stages.catalog import refreshed  # noqa: E402
from support.models import write_tiny_model  # noqa: E402
from support.projects import payload, write_project  # noqa: E402

DOMAIN = "sums"
COLUMNS = ("kill in", "after s", "was at", "assets done", "scratch left", "s to recover", "computed anew", "equal")


def main() -> None:
    """Parse arguments, kill, print the table; exit code 1 if an end state differed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    report, draw = Report("Refreshes killed at random moments", arguments.out), random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "model").mkdir()
        model = write_tiny_model(root / "model")
        undisturbed = write_project(root / "undisturbed", model)
        took_s = run(undisturbed)
        expected = payload(undisturbed.parent / "lake")
        rows, n_equal = [], 0
        for number in range(arguments.kills):
            settings = write_project(root / f"killed-{number}", model)
            stage = draw.randrange(len(keys()))
            row, equal = kill_once(settings, stage, draw.random() * stage_s(undisturbed, stage), expected)
            rows.append(row)
            n_equal += equal
            print(*rows[-1], flush=True)
    caption = (
        f"Undisturbed: {took_s:.1f} s, most of it the start of Python and Dagster; {len(expected)} files of payload. "
        f"Seed {arguments.seed}. {n_equal} of {arguments.kills} end states are equal to the byte."
    )
    report.table(f"{arguments.kills} kills", COLUMNS, rows, caption)
    sys.exit(n_equal != arguments.kills)


def start(settings: Path) -> subprocess.Popen[bytes]:
    """Start a refresh in a process group of its own."""
    command = [sys.executable, "-c", "from g2is_assets.cli import main; main()", "demo", "--domain", DOMAIN]
    with (settings.parent / "demo.log").open("ab") as log:
        return subprocess.Popen(
            [*command, "--config", str(settings)], stdout=log, stderr=log, start_new_session=True, cwd=HERE.parent
        )


def run(settings: Path) -> float:
    """Seconds of a refresh that must succeed."""
    begun = time.monotonic()
    if start(settings).wait() != 0:
        raise SystemExit((settings.parent / "demo.log").read_text())
    return time.monotonic() - begun


def became_current(settings: Path, stage: int) -> Path:
    """The file that appears when a stage is done; before the first, the mark of a run at work."""
    if stage < 0:
        return next((settings.parent / ".dagster" / "processes").glob("*.lock"), settings.parent / "no run yet")
    return settings.parent / "lake" / keys()[stage] / "current.json"


def stage_s(undisturbed: Path, stage: int) -> float:
    """Seconds that a stage took; the first one is taken for as long as the second."""
    then, now = (became_current(undisturbed, n).stat().st_mtime for n in (max(stage, 1) - 1, max(stage, 1)))
    return now - then


def kill_once(settings: Path, stage: int, after_s: float, expected: dict[str, str]) -> tuple[tuple[object, ...], bool]:
    """Start, kill, start again; a row of the table, and whether the end state is the expected one."""
    process = start(settings)
    while not became_current(settings, stage - 1).exists() and process.poll() is None:
        time.sleep(0.002)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise SystemExit((settings.parent / "demo.log").read_text())
    lake = settings.parent / "lake"
    done = [key for key in keys() if (lake / key / "current.json").exists()]
    at = next((key for key in keys() if key not in done), "the end")
    n_scratch = len(list(lake.rglob(".*")))
    before = (settings.parent / "demo.log").stat().st_size
    recovered_s = run(settings)
    shown = (settings.parent / "demo.log").read_bytes()[before:].decode()
    equal = payload(lake) == expected
    row = (keys()[stage], f"{after_s:.2f}", at, len(done), n_scratch, f"{recovered_s:.1f}", shown.count(": done in "))
    return (*row, "yes" if equal else "NO"), equal


def keys() -> list[str]:
    """Places of all assets below the lake, in the order of the run."""
    pool, domain = ([stage.key for stage in refreshed(partition)] for partition in ("project", "domain"))
    return pool + [f"{key}/{DOMAIN}" for key in domain]


if __name__ == "__main__":
    main()
