"""The sections without rows' text: what the subset is made of, what was kept out, and the chain behind the adapter."""

import json
from typing import Any, Final, Literal

import polars as pl

from g2is_assets.errors import StoreError
from g2is_assets.reports.page.material import Material
from g2is_assets.reports.words import printable

SHOWN: Final = 40
"""Sources or licences that are listed; the others are one line."""
QUANTILES: Final = {"least": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "most": 1.0}


def mix(material: Material, column: Literal["sources", "licenses"]) -> list[dict[str, Any]]:
    """The subset by source or licence beside the pool, the most taken first: `name`, numbers and shares of rows."""
    n_rows, parts = {}, []
    for whose, table in (("pool", material.pool), ("taken", material.taken)):
        n_rows[whose] = max(len(table), 1)
        parts.append(table.select(pl.col(column).explode().alias("name")).group_by("name").len(f"n_{whose}"))
    both = parts[0].join(parts[1], on="name", how="left").fill_null(0)
    both = both.sort(["n_taken", "n_pool", "name"], descending=[True, True, False])
    if len(both) > SHOWN:
        rest = both[SHOWN - 1 :]
        others = rest.select(pl.lit(f"{len(rest)} others").alias("name"), pl.sum("n_pool", "n_taken"))
        both = pl.concat([both.head(SHOWN - 1), others])
    shares = {f"{whose}_share": pl.col(f"n_{whose}") / n for whose, n in n_rows.items()}
    return [row | {"name": printable(row["name"])} for row in both.with_columns(**shares).iter_rows(named=True)]


def lengths(material: Material) -> list[dict[str, Any]]:
    """Quartiles of prompt and response lengths, in tokens, of the subset and of the pool."""
    return [
        {"name": name, "taken": _quantiles(material.taken[column]), "pool": _quantiles(material.pool[column])}
        for name, column in (("Prompt", "n_prompt_tokens"), ("Response", "n_response_tokens"))
    ]


def _quantiles(values: pl.Series) -> dict[str, int]:
    return {name: round(values.quantile(share, "nearest") or 0) for name, share in QUANTILES.items()}


def kept_out(material: Material) -> list[tuple[str, str, int]]:
    """What was kept out of pool, domain and subset: of what, why and how many, in the order in which it happens."""
    files = "rows of the pool's files"
    found = [
        *_rejected(files, material.rejected),
        *_rejected("rows of the domain's files", material.target_rejected),
        *_withheld("pool", material.withheld),
        *_withheld("domain", material.target_withheld),
    ]
    merged = int(material.pool["n_merged"].sum()) - len(material.pool)
    found.append((files, "equal to another row, of which they are a part since", merged))
    found.append(("pool rows", "no gradient: it is zero or not finite", len(material.pool) - len(material.places)))
    near = material.excluded["split"].null_count()
    found.append(("pool rows", "near-duplicate of another pool row", near))
    for split in ("validation", "test"):
        kinds = material.excluded.filter(split=split)["reason"].value_counts().sort("reason")
        found += [("pool rows", f"leak: repeats a {split} row ({kind})", n) for kind, n in kinds.iter_rows()]
        found += [] if len(kinds) else [("pool rows", f"leak: repeats a {split} row", 0)]
    return found


def _rejected(of: str, table: pl.DataFrame) -> list[tuple[str, str, int]]:
    # Reasons with the numbers of one row would be one line each.
    reasons = table["reason"].str.replace_all(r"\d+", "N").value_counts()
    reasons = reasons.sort(["count", "reason"], descending=[True, False])
    return [(of, f"unusable: {printable(reason)}", n) for reason, n in reasons.iter_rows()]


def _withheld(of: str, table: pl.DataFrame) -> list[tuple[str, str, int]]:
    """By reason; of licences by name too, but why somebody asked for a withdrawal is for the store alone."""
    counts = table.with_columns(pl.when(pl.col("reason") == "license").then("detail"))
    counts = counts.group_by("reason", "detail").len().sort("reason", "detail")
    words = {"withdrawn": "withdrawn on request", "license": "licence not allowed"}
    return [
        (f"{of} rows", words.get(reason, reason) + (f": {printable(detail)}" if detail else ""), n)
        for reason, detail, n in counts.iter_rows()
    ]


def head_of(lineage: pl.DataFrame) -> dict[str, Any]:
    """The adapter's own row.

    Raises:
        StoreError: The lineage does not have it.
    """
    found = lineage.filter(asset="finetune/adapter", depth=0).to_dicts()
    if len(found) != 1:
        raise StoreError("audit/lineage names no adapter; materialise it again")
    return found[0]


def versions_behind(lineage: pl.DataFrame, links: pl.DataFrame) -> list[dict[str, Any]]:
    """Every version of the chain, the nearest to the adapter first: its row of the lineage table, with these in words.

    `asset` has its partition in brackets. `settings` and `inputs` are pairs: names with a value, or with the digest of
    a manifest where the input is an asset, else of content. `libraries` is empty where they are those of the version
    before it in the list.
    """
    found, libraries = [], ""
    for record in lineage.iter_rows(named=True):
        said = _listed(json.loads(record["libraries"]))
        inputs = links.filter(manifest_sha256=record["manifest_sha256"]).select(
            "input", pl.coalesce("input_manifest_sha256", "input_data_version")
        )
        words = {
            "asset": record["asset"] + (f"[{record['partition']}]" if record["partition"] else ""),
            "n_rows": _listed(json.loads(record["n_rows"])),
            "settings": [(printable(name), printable(value)) for name, value in _flat(json.loads(record["settings"]))],
            "inputs": [(printable(name), digest) for name, digest in inputs.iter_rows()],
            "libraries": "" if said == libraries else said,
        }
        found.append(record | words)
        libraries = said
    return found


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for name, value in settings.items():
        if name == "withdrawn":  # who asked for it, and why, is for the store alone
            flat.append((prefix + name, f"{len(value)} in number"))
        elif isinstance(value, dict):
            flat += _flat(value, f"{prefix}{name}.")
        else:
            flat.append((prefix + name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return flat


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
