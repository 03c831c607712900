"""A lake of which one row is to be erased, made by hand; erasing it, and what is left of it then."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from g2is_assets.contracts.audit import PAGE, QUOTED
from g2is_assets.contracts.gradients import INDEX
from g2is_assets.contracts.instructions import POOL, WITHHELD
from g2is_assets.contracts.warmup import SAMPLE
from g2is_assets.core.codes import quantise
from g2is_assets.hashing import file_sha256
from g2is_assets.store.erasure import Erased, erase
from g2is_assets.store.features import MAPPED, StoredFeatures
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import ERASED, PRUNED, Input
from g2is_assets.store.vectors import VectorStore
from g2is_assets.store.version import Draft, Recipe, Version
from g2is_assets.store.versions import assets_of, versions_of
from support.rows import UNREMARKABLE, answered
from support.vectors import SETTINGS, by_name, fill, vector, write_index

ROWS = [f"row{i:02d}" for i in range(6)]
GONE = "row02"
WHY = "asked"


def record(row_id: str) -> dict[str, Any]:
    text = f"secret of {row_id}"
    return {
        "row_id": row_id,
        "ids": [f"id {text}"],
        "sources": ["s"],
        "licenses": ["MIT"],
        "messages": answered([{"role": "user", "content": text}], "r"),
        "prompt": text,
        "response": text,
        "n_prompt_tokens": 3,
        "n_response_tokens": 3,
        "answer": text,
        "choices": [text, "no"],
        **UNREMARKABLE,
    }


def pool_of(lake: Lake, code: str, rows: Iterable[str], withheld: Iterable[str] = ()) -> Version:
    def write(draft: Draft) -> None:
        draft.write(POOL, pl.DataFrame([record(row) for row in rows], schema=POOL.schema))
        out = [record(row) | {"reason": "withdrawn", "detail": WHY} for row in withheld]
        table = pl.DataFrame([{name: row[name] for name in WITHHELD.columns} for row in out], schema=WITHHELD.schema)
        draft.write(WITHHELD, table)

    return lake.make(Recipe("instructions/pool", None, code, {}), "run", write)[0]


def sample_of(lake: Lake, rows: Iterable[str]) -> Version:
    def write(draft: Draft) -> None:
        table = pl.DataFrame([{n: record(row)[n] for n in SAMPLE.columns} for row in rows], schema=SAMPLE.schema)
        draft.write(SAMPLE, table)

    return lake.make(Recipe("warmup/sample", None, "1", {}), "run", write)[0]


def store_of(lake: Lake) -> VectorStore:
    return VectorStore(lake, SETTINGS | {"asset": "gradients/pool"})


def gradients_of(
    lake: Lake, code: str, rows: list[str], asset: str = "gradients/pool", partition: str | None = None
) -> tuple[Version, list[str]]:
    """A version of these rows' gradients, with mapped copies; and the rows that were computed."""
    computed: list[str] = []

    def write(draft: Draft) -> None:
        filled, rows_computed = fill(VectorStore(lake, SETTINGS | {"asset": asset}), rows)
        computed.extend(rows_computed)
        write_index(draft, filled)
        StoredFeatures(by_name(filled), filled.index, "sgd").array()

    return lake.make(Recipe(asset, partition, code, {}), "run", write)[0], computed


def components_of(lake: Lake, gradients: Version, nodes: str) -> Version:
    def write(draft: Draft) -> None:
        rows = gradients.read(INDEX)["row_id"] if nodes == "rows" else ["a mean"]
        (draft.folder / "directions.bin").write_bytes(b"".join(vector(row, "sgd").tobytes() for row in rows))

    inputs = {"gradients/target": Input(data_version=gradients.manifest.data_version)}
    recipe = Recipe("knowledge/components", gradients.manifest.partition, "1", {"nodes": nodes}, inputs)
    return lake.make(recipe, "run", write)[0]


def report_of(lake: Lake, code: str, rows: Iterable[str], domain: str = "shop") -> Version:
    """A page with some rows' text, and the table that names them."""

    def write(draft: Draft) -> None:
        (draft.folder / PAGE).write_text("".join(f"<p>secret of {row}</p>" for row in rows))
        quoted = [{"domain": domain, "row_id": row, "place": "pool"} for row in rows]
        draft.write(QUOTED, pl.DataFrame(quoted, schema=QUOTED.schema))

    return lake.make(Recipe("audit/report", domain, code, {}), "run", write)[0]


def build(root: Path, **domains: str) -> Lake:
    """A lake in which the row has left everything but the sample: two versions of most, one withheld list."""
    lake, rest = Lake(root), [row for row in ROWS if row != GONE]
    pool_of(lake, "1", ROWS)
    pool_of(lake, "2", rest, [GONE])
    sample_of(lake, ROWS[1:4])
    gradients_of(lake, "1", ROWS)
    gradients_of(lake, "2", rest)
    report_of(lake, "1", ROWS)
    report_of(lake, "2", rest)
    for domain, nodes in domains.items():
        components_of(lake, gradients_of(lake, "1", ROWS[:4], "gradients/target", domain)[0], nodes)
        current, _ = gradients_of(lake, "2", ["row00", "row03"], "gradients/target", domain)
        components_of(lake, current, nodes)
    return lake


def in_use(*domains: str) -> list[tuple[str, str | None]]:
    shared = [("instructions/pool", None), ("gradients/pool", None)]
    return [*shared, *((a, d) for a in ("gradients/target", "knowledge/components", "audit/report") for d in domains)]


def run(lake: Lake, *rows: str, dry_run: bool = False) -> Erased:
    return erase(lake, rows or (GONE,), WHY, in_use("shop", "other"), dry_run=dry_run)


def every_version(lake: Lake) -> list[Version]:
    return [version for asset in assets_of(lake) for version in versions_of(lake, asset)[0]]


def whole(lake: Lake, version: Version) -> bool:
    manifest = version.manifest
    return lake.find_whole(manifest.asset, manifest.data_version, manifest.partition) is not None


def features_of(lake: Lake, version: Version) -> dict[str, np.ndarray]:
    """Vectors by row id, as graph and walk read them."""
    index = version.read(INDEX)
    return dict(zip(index["row_id"], StoredFeatures(lake.parts_of(version), index, "sgd").array(), strict=True))


def residue(lake: Lake, row: str = GONE) -> list[Path]:
    """Files that still hold the row's text or one of its vectors."""
    codes = {quantise(vector(row, kind)[None]).tobytes() for kind in SETTINGS["kinds"]}
    needles = [f"secret of {row}".encode(), vector(row, "sgd").tobytes(), *codes]
    found = []
    for file in lake.root.rglob("*"):
        if not file.is_file() or file.name == "g2is.duckdb":
            continue
        content = file.read_bytes()
        if file.suffix == ".parquet":
            table = pl.read_parquet(file)
            content += repr(table.select(~pl.selectors.array()).rows()).encode()
            for name in table.select(pl.selectors.array()).columns:
                content += table[name].to_numpy().tobytes()
        if any(needle in content for needle in needles):
            found.append(file)
    return found


def snapshot(lake: Lake) -> dict[str, str]:
    """Digest of every file but views and mapped copies, which readers make; records without their times."""
    found = {}
    for file in sorted(lake.root.rglob("*")):
        name = file.relative_to(lake.root).as_posix()
        if file.name in (ERASED, PRUNED):
            found[name] = json.dumps(without_times(json.loads(file.read_text())), sort_keys=True)
        elif file.is_file() and file.name != "g2is.duckdb" and file.parent.name != MAPPED:
            found[name] = file_sha256(file)
    return found


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in ("erased_at", "pruned_at")}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def shard_with(lake: Lake, row: str) -> Path:
    return next(s.folder for s in store_of(lake).shards()[0] if row in str(s.manifest.settings["batches"]))
