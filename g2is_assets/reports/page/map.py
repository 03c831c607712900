"""The map of the pool: places, sources and first words for the script that draws it."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from g2is_assets.core.sampling import hash_sample
from g2is_assets.reports.page.material import Material
from g2is_assets.reports.words import printable

MAX_POINTS: Final = 10_000
"""Points that are not taken rows; of larger pools a sample is drawn."""
SALT: Final = "report/map"
"""Seed of that sample."""
GRID: Final = 4095
"""The longer side of the map, in its own units."""
WORDS: Final = 60
"""Characters of a prompt that a point shows."""


@dataclass(frozen=True)
class Map:
    """A map.

    Attributes:
        data: For the script: taken rows first, in their order, then the others; `before` is the number of the row that
            a taken row follows or resembles most.
        row_ids: The rows on it, in that order.
        n_sampled: Points that are not taken rows.
        n_others: Rows that could be such points.
        sources: Names of the sources, the most frequent first.
    """

    data: dict[str, Any]
    row_ids: list[str]
    n_sampled: int
    n_others: int
    sources: list[str]


def draw_map(material: Material) -> Map:
    """Choose the points of a map and describe each; taken rows are always among them."""
    taken = material.subset["row_id"].to_list()
    others = material.places.filter(~pl.col("row_id").is_in(taken))["row_id"].to_list()
    sampled = sorted(hash_sample(others, min(len(others), MAX_POINTS), SALT))
    texts = material.pool.select(
        "row_id",
        "prompt",
        pl.col("sources").list.join(", ").alias("source"),
    )
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
    sources = [printable(name) for name in names]
    data = {
        "n_taken": len(taken),
        "x": x,
        "y": y,
        "source": [number[name] for name in points["source"]],
        "words": [first_words(prompt) for prompt in points["prompt"]],
        "sources": sources,
        "before": [order.get(row_id, -1) for row_id in nearest],
    }
    return Map(data, [*taken, *sampled], len(sampled), len(others), sources)


def first_words(prompt: str, limit: int = WORDS) -> str:
    """The beginning of a prompt, in one line."""
    line = printable(prompt[: 4 * limit])
    return line if len(line) <= limit and len(prompt) <= 4 * limit else line[: limit - 1] + "…"


def _on_grid(places: np.ndarray) -> tuple[list[int], list[int]]:
    """Whole numbers from 0 with one scale for both axes."""
    if not len(places):
        return [], []
    low, high = places.min(axis=0), places.max(axis=0)
    scale = GRID / max(float((high - low).max()), 1e-9)
    x, y = np.rint((places - low) * scale).astype(int).T.tolist()
    return x, y
