"""What stands in the page's sections: rows with their text, the map, what the subset is made of, and what lies behind.

Text of rows comes from here alone: the rows taken, with the trace in words, the domain's own, answers, and the map.
"""

import json
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import polars as pl

from g2is_assets.contracts.instructions import count_lost
from g2is_assets.contracts.selection import SCREENED_OUT
from g2is_assets.core.sampling import hash_sample
from g2is_assets.errors import StoreError
from g2is_assets.reports.page.charts import MODELS
from g2is_assets.reports.page.material import Material
from g2is_assets.reports.why import excluded_line, left_line, taken_lines
from g2is_assets.reports.words import ID_SHOWN, beginning, counted, printable, readable

SHOWN: Final = 40
"""Sources or licences that are listed; the others are one line."""
QUANTILES: Final = {"least": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "most": 1.0}
TEXT_LIMIT: Final = 4000
"""Characters of a prompt or response that are shown."""
ANSWER_LIMIT: Final = 1200
"""The same of a row with answers."""
PAGE_LIMIT: Final = 1_000_000
"""Characters that all shown texts may have together: of many rows less is shown of each."""
SUMMARY: Final = 90
"""Characters of a row's one line."""
MAX_POINTS: Final = 10_000
"""Points of the map that are not taken rows; of larger pools a sample is drawn."""
SALT: Final = "report/map"
"""Seed of that sample."""
GRID: Final = 4095
"""The longer side of the map, in its own units."""
WORDS: Final = 60
"""Characters of a prompt that a point shows."""
CHOSEN: Final = {"best": "Improved most", "typical": "Typical", "worst": "Improved least"}
CHANGES: Final = 12
"""Rows that came, and as many that went, of which the page shows the words."""


def rows_with_text(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows for people: `row_id`, `words`, `source`, `licenses`, `texts`, and `why`, which is empty here."""
    limit = min(TEXT_LIMIT, PAGE_LIMIT // max(2 * len(rows), 1))
    return [
        {
            "row_id": row["row_id"],
            "words": beginning(row["prompt"], SUMMARY),
            "source": printable(", ".join(row["sources"])),
            "licenses": printable(", ".join(row["licenses"])),
            "texts": _texts(row, {"prompt": "Prompt", "response": "Response"}, limit),
            "why": [],
        }
        for row in rows.iter_rows(named=True)
    ]


def taken_rows(material: Material) -> list[dict[str, Any]]:
    """The subset in its order, likewise, with `why` in words."""
    rows = material.subset.join(material.pool, on="row_id", how="inner", maintain_order="left")
    # A trace names rows of the subset and of the domain, no others.
    prompts = dict(pl.concat([table.select("row_id", "prompt") for table in (rows, material.validation)]).iter_rows())
    shown = zip(rows_with_text(rows), rows.iter_rows(named=True), strict=True)
    return [one | {"why": [printable(line) for line in taken_lines(row, material.made, prompts)]} for one, row in shown]


def answered_rows(material: Material) -> list[dict[str, Any]]:
    """The rows whose answers were kept, the most improved first: before and after, with losses and what is right."""
    own = material.target.unique("row_id", keep="first", maintain_order=True)
    said, rated = (
        table.pivot("model", index=index, values=values)
        for table, index, values in (
            (material.answers.rename({"response": "said"}), ["row_id", "chosen"], ["said", "right"]),
            (material.scores, "row_id", "nll"),
        )
    )
    rows = said.join(rated, on="row_id").join(own.drop("answer"), on="row_id")
    found = []
    for row in rows.sort(pl.col("g2is") - pl.col("base"), "row_id").iter_rows(named=True):
        sides = (("Before: base model", "base"), ("After: this adapter", "g2is"))
        answers = [
            {"name": name, "text": _text(row[f"said_{key}"], ANSWER_LIMIT)[0], "right": row[f"right_{key}"]}
            for name, key in sides
        ]
        prompt, reference = (_text(row[column], ANSWER_LIMIT) for column in ("prompt", "response"))
        found.append(
            {
                "chosen": CHOSEN[row["chosen"]],
                "losses": [row[key] for _, key in sides],
                "texts": [("Prompt", *prompt)],
                "reference": [("Reference", *reference)],
                "answers": answers,
            }
        )
    return found


def _texts(row: dict[str, Any], headings: dict[str, str], limit: int) -> list[tuple[str, str, str]]:
    """Of each column its heading, its text, and a note on what was cut of it."""
    return [(heading, *_text(row[column], limit)) for column, heading in headings.items()]


def _text(text: str, limit: int) -> tuple[str, str]:
    if len(text) <= limit:
        return readable(text), ""
    return readable(text[:limit]) + "…", f"The first {limit:,} of {len(text):,} characters."


class Map(NamedTuple):
    """A map of the pool.

    Attributes:
        data: For the script: taken rows first, in their order, then the others, then the domain's own; `before` is the
            number of the row that a taken row follows or resembles most, `why` of the others why each was left, `left`
            their ids, and `own` of the domain's the number in the list of its validation rows.
        row_ids: The pool's rows on it, in that order.
        n_sampled, n_others: Points that are not taken rows, and rows that could be such points.
    """

    data: dict[str, Any]
    row_ids: list[str]
    n_sampled: int
    n_others: int


def points_of(subset: pl.DataFrame, places: pl.DataFrame) -> list[str]:
    """The pool's rows on the map: those taken, in their order, then the others, or a sample of them, by id."""
    taken = subset["row_id"].to_list()
    others = places.filter(~pl.col("row_id").is_in(taken))["row_id"].to_list()
    return [*taken, *sorted(hash_sample(others, min(len(others), MAX_POINTS), SALT))]


def draw_map(material: Material) -> Map:
    """Describe every point of the map."""
    row_ids, taken = points_of(material.subset, material.places), material.subset["row_id"].to_list()
    texts = material.pool.select("row_id", "prompt", pl.col("sources").list.join(", ").alias("source"))
    points = (
        pl.DataFrame({"row_id": row_ids}, schema={"row_id": pl.String})
        .join(material.places, on="row_id", how="left", maintain_order="left")
        .join(texts, on="row_id", how="left", maintain_order="left")
    )
    names = points.group_by("source").len().sort(["len", "source"], descending=[True, False])["source"].to_list()
    number = {name: place for place, name in enumerate(names)}
    order = {row_id: place for place, row_id in enumerate(taken)}
    nearest = material.subset.select(pl.coalesce("nearest_row", "predecessor")).to_series()
    numbers = {row_id: number for number, row_id in enumerate(material.validation["row_id"], start=1)}
    own = material.own_places.filter(pl.col("row_id").is_in(list(numbers)))
    x, y = _on_grid(np.concatenate([table.select("x", "y").to_numpy() for table in (points, own)]))
    data = {
        "n_taken": len(taken),
        "x": x,
        "y": y,
        "source": [number[name] for name in points["source"]],
        "words": [beginning(prompt, WORDS) for prompt in points["prompt"]],
        "sources": [printable(name) for name in names],
        "before": [order.get(row_id, -1) for row_id in nearest],
        "why": _whys_left(material, row_ids[len(taken) :]),
        "left": [row_id[:ID_SHOWN] for row_id in row_ids[len(taken) :]],
        "own": [numbers[row_id] for row_id in own["row_id"]],
    }
    return Map(data, row_ids, len(row_ids) - len(taken), len(material.places) - len(taken))


def _whys_left(material: Material, row_ids: list[str]) -> list[str]:
    """Of rows that were not taken, why, each in one line."""
    here = pl.col("row_id").is_in(row_ids)
    found = {row["row_id"]: excluded_line(row) for row in material.excluded.filter(here).iter_rows(named=True)}
    records: dict[str, list[dict[str, Any]]] = {}
    for row in material.left.filter(here).iter_rows(named=True):
        records.setdefault(row["row_id"], []).append(row)
    found |= {row_id: left_line(rows, material.made, material.budgets) for row_id, rows in records.items()}
    return [printable(found.get(row_id, "Left.")) for row_id in row_ids]


def _on_grid(places: np.ndarray) -> tuple[list[int], list[int]]:
    """Whole numbers from 0 with one scale for both axes."""
    if not len(places):
        return [], []
    low, high = places.min(axis=0), places.max(axis=0)
    scale = GRID / max(float((high - low).max()), 1e-9)
    x, y = np.rint((places - low) * scale).astype(int).T.tolist()
    return x, y


def mix(material: Material, column: Literal["sources", "licenses"]) -> list[dict[str, Any]]:
    """The subset by source or licence beside the pool, the most taken first: `name`, numbers, shares and `lift`."""
    tables = {"pool": material.pool, "taken": material.taken}
    pool, taken = (
        table.select(pl.col(column).explode().alias("name")).group_by("name").len(f"n_{whose}")
        for whose, table in tables.items()
    )
    both = pool.join(taken, on="name", how="left").fill_null(0)
    both = both.sort(["n_taken", "n_pool", "name"], descending=[True, True, False])
    if len(both) > SHOWN:
        rest = both[SHOWN - 1 :]
        others = rest.select(pl.lit(counted(len(rest), "other")).alias("name"), pl.sum("n_pool", "n_taken"))
        both = pl.concat([both.head(SHOWN - 1), others])
    shares = {f"{whose}_share": pl.col(f"n_{whose}") / max(len(table), 1) for whose, table in tables.items()}
    lift = pl.when(pl.col("pool_share") > 0).then(pl.col("taken_share") / pl.col("pool_share"))
    both = both.with_columns(**shares).with_columns(lift=lift)
    return [row | {"name": printable(row["name"])} for row in both.iter_rows(named=True)]


def changed(material: Material) -> dict[str, Any] | None:
    """What is other than with the adapter before: rows in and out, their words where the pool still has them."""
    if material.before is None:
        return None
    made, change = material.before.made, material.before.change
    texts = dict(material.pool.select("row_id", "prompt").iter_rows())
    sides = []
    for came in (True, False):
        rows = [row for row in change.changes if row.came == came]
        shown = [(row.row_id, beginning(texts.get(row.row_id, ""), SUMMARY), row.why) for row in rows[:CHANGES]]
        sides.append({"n": len(rows), "rows": shown})
    now = material.evaluated
    losses = [(name, [run.metrics.get(f"nll_{key}") for run in (made, now)]) for key, name in MODELS.items()]
    return {
        "created_at": made.created_at,
        "n_kept": change.n_kept,
        "sides": sides,
        "causes": [printable(cause) for cause in change.causes],
        "same_rows": made.inputs["instructions/target"].data_version == now.inputs["instructions/target"].data_version,
        "losses": [(name, *values) for name, values in losses if None not in values],
    }


def lengths(material: Material) -> list[dict[str, Any]]:
    """Quartiles of prompt and response lengths, in tokens, of the subset and of the pool."""

    def quantiles(values: pl.Series) -> dict[str, int]:
        return {name: round(values.quantile(share, "nearest") or 0) for name, share in QUANTILES.items()}

    return [
        {"name": name, "taken": quantiles(material.taken[column]), "pool": quantiles(material.pool[column])}
        for name, column in (("Prompt", "n_prompt_tokens"), ("Response", "n_response_tokens"))
    ]


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
    found.append((files, "equal to another row, merged into it", merged))
    for of, table in (("pool rows", material.pool), ("domain rows", material.target)):
        lost = count_lost(table).items()
        found += [(of, f"used, but tokenizer and chat template do not keep: {what}", n) for what, n in lost]
        found.append((of, "used, but max_length cut the end off", int(table["truncated"].sum())))
    screened = material.excluded.filter(reason=SCREENED_OUT)
    without = material.pool.join(material.places, on="row_id", how="anti").join(screened, on="row_id", how="anti")
    found.append(("pool rows", "no gradient: it is zero or not finite", len(without)))
    if len(screened):
        found.append(("pool rows", "screened out by a cheap score", len(screened)))
    near = material.excluded["split"].null_count() - len(screened)
    found.append(("pool rows", "near-duplicate of another pool row", near))
    for split in ("validation", "test"):
        kinds = material.excluded.filter(split=split)["reason"].value_counts().sort("reason")
        found += [("pool rows", f"leak: repeats a {split} row ({kind})", n) for kind, n in kinds.iter_rows()]
        found += [] if len(kinds) else [("pool rows", f"leak: repeats a {split} row", 0)]
    return found


def _rejected(of: str, table: pl.DataFrame) -> list[tuple[str, str, int]]:
    # Reasons with the numbers of one row would be one line each.
    reasons = table["reason"].str.replace_all(r"\b\d+\b", "N").value_counts()
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
    """The adapter's own row; a StoreError if the lineage does not have it."""
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
