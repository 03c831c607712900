"""A small project of two domains, and what a lake holds."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl

import g2is_assets
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import read_manifest
from g2is_assets.store.version import Version
from support.rows import arithmetic_row, write_jsonl

PRINTED_STAYS = """
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""
DOMAINS = ("sums", "words")

SETTINGS = """
model = "{model}"
device = "cpu"
[instructions]
sources = ["pool/*.jsonl"]
max_length = 96
[warmup]
share = 0.2
epochs = 1
rank = 2
alpha = 4
[gradients]
compute = "float32"
sketch_dim = 256
batch_tokens = 256
shard_rows = 8
[graph]
n_neighbors = 4
n_conflicts = 2
[selection]
budget = 0.15
[finetune]
rank = 2
alpha = 4
epochs = 1
"""


def write_project(root: Path, model: Path, n_pool: int = 40) -> Path:
    """A project with pool rows from two sources and the domains `sums` and `words`; returns its settings file."""
    write_jsonl(root / "pool" / "sums.jsonl", [arithmetic_row(n) for n in range(n_pool // 2)])
    write_jsonl(root / "pool" / "words.jsonl", [arithmetic_row(n, "words") for n in range(n_pool - n_pool // 2)])
    for domain, first in (("sums", 200), ("words", 300)):
        rows = [arithmetic_row(n, domain) for n in range(first, first + 12)]
        write_jsonl(root / "domains" / domain / "validation.jsonl", rows[:5])
        write_jsonl(root / "domains" / domain / "test.jsonl", rows[5:])
    write_instance(root)
    settings = root / "g2is.toml"
    settings.write_text(SETTINGS.format(model=model.as_posix()), encoding="utf-8")
    return settings


def write_instance(root: Path) -> None:
    """The shipped settings of Dagster, but no copy of what steps print, for which each would start four processes."""
    (root / ".dagster").mkdir()
    shipped = Path(g2is_assets.__file__).parent / "orchestration" / "dagster.yaml"
    (root / ".dagster" / "dagster.yaml").write_text(
        shipped.read_text(encoding="utf-8") + PRINTED_STAYS, encoding="utf-8"
    )


def payload(lake: Path) -> dict[str, str]:
    """Digest of every payload file of every current version and of every shard, by place and file.

    Without `audit/lineage`, which is made of manifests: run ids and times are its content.
    """
    digests = {}
    for pointer in sorted(set(lake.rglob("current.json")) - set(lake.glob("audit/**/current.json"))):
        version = pointer.parent / json.loads(pointer.read_text())["version"]
        for file in sorted(version.rglob("*")):
            if file.is_file() and file.name not in ("manifest.json", ".pictures.json"):
                name = f"{pointer.parent.relative_to(lake)}/{file.relative_to(version)}"
                digests[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    for file in sorted(lake.glob("vectors/shard/*/[!.]*/*.parquet")):
        if not (file.parent / "pruned.json").exists():
            shard = Version(file.parent, read_manifest(file.parent))
            digests[f"{shard.part_name}/{file.name}"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return digests


def rows_of(version: Version, table: str) -> list[str]:
    """Row ids of one of a version's tables, in its order."""
    return pl.read_parquet(version.folder / f"{table}.parquet")["row_id"].to_list()


def lake_of(settings: Path) -> Lake:
    """The project's lake."""
    return Lake(settings.parent / "lake")


def flip(file: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def tamper_with_manifest(settings: Path) -> Path:
    """Say that another run made the pool; returns the manifest."""
    file = lake_of(settings).current("instructions/pool").folder / "manifest.json"
    file.write_text(file.read_text().replace('"run_id": "', '"run_id": "0'))
    return file


@dataclass(frozen=True)
class Undisturbed:
    """A project in which one domain was refreshed after the other; not to be changed.

    Attributes:
        settings: Its settings file.
        settings_before: That of a copy from when only `sums` had been refreshed.
        sums: Digests of all payload when `sums` had been refreshed.
        both: The same when `words` had been refreshed too.
        computed: Of every asset and partition, whether its materialisation did work.
    """

    settings: Path
    settings_before: Path
    sums: dict[str, str]
    both: dict[str, str]
    computed: dict[str, bool]


def study_of(said: str, *selectors: str) -> str:
    """A study file with a variant for each selector, of its name."""
    variants = "".join(f'[variants.{name}]\nselector = "{name}"\n' for name in selectors)
    rest = 'title = "Small"\nrates = [0.03, 0.003]\ndevelopment_rows = 4\ncells = "../cells"\n'
    return f"{said}\n{rest}{variants}"


STUDY = study_of("budgets = [0.15]\nseeds = [0, 1]", "base", "random", "embedding", "less") + "seeds = [0]\n"
