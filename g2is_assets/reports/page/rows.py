"""Rows with their text: those taken, with the trace in words, the domain's own, answers, and the map of the pool."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from g2is_assets.core.sampling import hash_sample
from g2is_assets.reports.page.material import Material
from g2is_assets.reports.why import taken_lines
from g2is_assets.reports.words import beginning, printable, readable

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

Text = tuple[str, str, str]
"""Heading, text and a note on what was cut."""


def taken_rows(material: Material) -> list[dict[str, Any]]:
    """The subset in its order: `row_id`, `words`, `source`, `licenses`, `why` in words, and `texts`."""
    rows = material.subset.join(material.pool, on="row_id", how="inner", maintain_order="left")
    # A trace names rows of the subset and of the domain, no others.
    prompts = dict(pl.concat([table.select("row_id", "prompt") for table in (rows, material.validation)]).iter_rows())
    shown = zip(_shown(rows), rows.iter_rows(named=True), strict=True)
    return [one | {"why": [printable(line) for line in taken_lines(row, material.made, prompts)]} for one, row in shown]


def validation_rows(material: Material) -> list[dict[str, Any]]:
    """The domain's validation rows, which steered the selection, likewise, but for why."""
    return [row | {"why": []} for row in _shown(material.validation)]


def answered_rows(material: Material) -> list[dict[str, Any]]:
    """The rows whose answers were kept, by id, with what the base model and the adapter answer."""
    own = material.target.unique("row_id", keep="first", maintain_order=True)
    wide = material.answers.pivot("model", index="row_id", values="response", sort_columns=True).sort("row_id")
    headings = {"prompt": "Prompt", "response": "Reference", "base": "Base model", "g2is": "This adapter"}
    rows = wide.join(own, on="row_id", how="inner", maintain_order="left")
    return [{"row_id": row["row_id"], "texts": _texts(row, headings, ANSWER_LIMIT)} for row in rows.to_dicts()]


def _shown(rows: pl.DataFrame) -> list[dict[str, Any]]:
    limit = min(TEXT_LIMIT, PAGE_LIMIT // max(2 * len(rows), 1))
    return [
        {
            "row_id": row["row_id"],
            "words": beginning(row["prompt"], SUMMARY),
            "source": printable(", ".join(row["sources"])),
            "licenses": printable(", ".join(row["licenses"])),
            "texts": _texts(row, {"prompt": "Prompt", "response": "Response"}, limit),
        }
        for row in rows.iter_rows(named=True)
    ]


def _texts(row: dict[str, Any], headings: dict[str, str], limit: int) -> list[Text]:
    return [(heading, *_cut(row[name], limit)) for name, heading in headings.items()]


def _cut(text: str, limit: int) -> tuple[str, str]:
    if len(text) <= limit:
        return readable(text), ""
    return readable(text[:limit]) + "…", f"The first {limit:,} of {len(text):,} characters."


@dataclass(frozen=True)
class Map:
    """A map.

    Attributes:
        data: For the script: taken rows first, in their order, then the others; `before` is the number of the row that
            a taken row follows or resembles most.
        row_ids: The rows on it, in that order.
        n_sampled: Points that are not taken rows.
        n_others: Rows that could be such points.
    """

    data: dict[str, Any]
    row_ids: list[str]
    n_sampled: int
    n_others: int


def draw_map(material: Material) -> Map:
    """Choose the points of a map and describe each; taken rows are always among them."""
    taken = material.subset["row_id"].to_list()
    others = material.places.filter(~pl.col("row_id").is_in(taken))["row_id"].to_list()
    sampled = sorted(hash_sample(others, min(len(others), MAX_POINTS), SALT))
    texts = material.pool.select("row_id", "prompt", pl.col("sources").list.join(", ").alias("source"))
    points = (
        pl.DataFrame({"row_id": [*taken, *sampled]}, schema={"row_id": pl.String})
        .join(material.places, on="row_id", how="left", maintain_order="left")
        .join(texts, on="row_id", how="left", maintain_order="left")
    )
    names = points.group_by("source").len().sort(["len", "source"], descending=[True, False])["source"].to_list()
    number = {name: place for place, name in enumerate(names)}
    order = {row_id: place for place, row_id in enumerate(taken)}
    nearest = material.subset.select(pl.coalesce("nearest_row", "predecessor")).to_series()
    x, y = _on_grid(points.select("x", "y").to_numpy())
    data = {
        "n_taken": len(taken),
        "x": x,
        "y": y,
        "source": [number[name] for name in points["source"]],
        "words": [beginning(prompt, WORDS) for prompt in points["prompt"]],
        "sources": [printable(name) for name in names],
        "before": [order.get(row_id, -1) for row_id in nearest],
    }
    return Map(data, [*taken, *sampled], len(sampled), len(others))


def _on_grid(places: np.ndarray) -> tuple[list[int], list[int]]:
    """Whole numbers from 0 with one scale for both axes."""
    if not len(places):
        return [], []
    low, high = places.min(axis=0), places.max(axis=0)
    scale = GRID / max(float((high - low).max()), 1e-9)
    x, y = np.rint((places - low) * scale).astype(int).T.tolist()
    return x, y
