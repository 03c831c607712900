"""What a refresh costs in which nothing has changed, and what more domains add to it.

    g2is demo                                       # once, so that there is something to find unchanged
    python benchmarks/refresh_overhead.py           # this checkout
    python benchmarks/refresh_overhead.py --package ../other-checkout   # the code of another, on the same project

The project is copied to a scratch folder, its model by a link. Domains are added as folders with the rows of the first
one; with --refreshed all of them are refreshed before, so that the lake holds as many. Every figure is the median
wall-clock of whole processes, seconds; machine and load belong beside it (`benchmarks/README.md`).
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOAD = """
import sys, time
begun = time.perf_counter()
try:
    from g2is_assets.orchestration.definitions import build_defs
except ImportError:
    from g2is_assets.definitions import build_defs
build_defs(sys.argv[1]).get_repository_def()
print(time.perf_counter() - begun)
"""
COMMAND = "from g2is_assets.cli import main; main()"


def main() -> None:
    """Print one row per number of domains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "data" / "g2is.toml", help="settings of the project")
    parser.add_argument("--package", type=Path, default=ROOT, help="checkout whose code is measured")
    parser.add_argument("--domains", type=int, nargs="+", default=[1, 100, 500], help="domain folders present")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--refreshed", action="store_true", help="refresh all domains before measuring")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="g2is-overhead-") as scratch:
        bench = Bench(arguments.config.resolve(), Path(scratch), arguments.package.resolve(), arguments.repeats)
        print("| domains | unchanged demo | load definitions | domain list |\n|---|---|---|---|", flush=True)
        for n in arguments.domains:
            bench.add_domains(n)
            if arguments.refreshed:
                bench.run("demo", "--all")
            row = bench.of(["demo"]), bench.loading(), bench.of(["domain", "list"])
            print(f"| {n} | {' | '.join(f'{seconds:.2f}' for seconds in row)} |", flush=True)


class Bench:
    """A copy of the project, and commands in it."""

    def __init__(self, config: Path, scratch: Path, package: Path, repeats: int) -> None:
        import tomllib

        said = tomllib.loads(config.read_text(encoding="utf-8"))
        self.repeats, self.package = repeats, package
        self.settings = scratch / "data" / config.name
        self.home = (self.settings.parent / said.get("home", ".")).resolve()
        shutil.copytree(config.parent, self.settings.parent, ignore=shutil.ignore_patterns("generate"))
        home = (config.parent / said.get("home", ".")).resolve()
        self.home.mkdir(parents=True, exist_ok=True)
        if not (home / "lake").is_dir():
            raise SystemExit(f"{home} holds no lake; run g2is demo first")
        shutil.copytree(home / "lake", self.home / "lake", dirs_exist_ok=True)
        shutil.copytree(home / ".dagster", self.home / ".dagster", dirs_exist_ok=True)
        self.domains = self.settings.parent / said.get("domains", "domains")
        self.first = sorted(folder for folder in self.domains.iterdir() if folder.is_dir())[0]
        for other in self.domains.iterdir():
            if other.is_dir() and other != self.first:
                shutil.rmtree(other)
        shutil.rmtree(self.settings.parent / "studies", ignore_errors=True)
        self.added: list[str] = []

    def add_domains(self, n: int) -> None:
        """Have so many domain folders in all; names sort behind the first's."""
        while len(self.added) < n - 1:
            name = f"zz_{len(self.added):04d}"
            shutil.copytree(self.first, self.domains / name)
            self.added.append(name)

    def run(self, *arguments: str) -> float:
        """Seconds of one command."""
        begun = time.perf_counter()
        self._python("-c", COMMAND, *arguments, "--config", str(self.settings))
        return time.perf_counter() - begun

    def of(self, arguments: list[str]) -> float:
        """Median seconds of a command, after one run that does not count."""
        self.run(*arguments)
        return statistics.median(self.run(*arguments) for _ in range(self.repeats))

    def loading(self) -> float:
        """Median seconds in which the definitions load, imports included."""
        return statistics.median(float(self._python("-c", LOAD, str(self.settings))) for _ in range(self.repeats))

    def _python(self, *arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.package), "DAGSTER_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=self.package
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments[1:])} failed:\n{done.stdout}{done.stderr}")
        return done.stdout


if __name__ == "__main__":
    main()
