"""A small project of two domains, and what a lake holds."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from support.rows import arithmetic_row, write_jsonl

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
    settings = root / "g2is.toml"
    settings.write_text(SETTINGS.format(model=model.as_posix()), encoding="utf-8")
    return settings


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
    for shard in sorted(lake.glob("vectors/shard/*/[!.]*/*.parquet")):
        digests[str(shard.relative_to(lake))] = hashlib.sha256(shard.read_bytes()).hexdigest()
    return digests


@dataclass(frozen=True)
class Undisturbed:
    """A project in which one domain was refreshed after the other.

    Attributes:
        settings: Its settings file.
        sums: Digests of all payload when `sums` had been refreshed.
        both: The same when `words` had been refreshed too.
    """

    settings: Path
    sums: dict[str, str]
    both: dict[str, str]


STUDY = """
title = "Small"
budgets = [0.15]
seeds = [0, 1]
rates = [0.03, 0.003]
development_rows = 4
cells = "../cells"

[variants.base]
selector = "base"
[variants.random]
selector = "random"
[variants.less]
selector = "less"
seeds = [0]
[variants.embedding]
selector = "embedding"
"""
