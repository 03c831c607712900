"""Pictures of the stage `graph`: how rows stand to each other, and the map of the pool."""

from typing import Any, Final

import numpy as np
import polars as pl

from g2is_assets.reports.pictures.common import (
    BLUE,
    ORANGE,
    OTHERS,
    PALE,
    PALETTE,
    counts_of,
    largest,
    name,
    new_figure,
    nothing,
    plain,
    png,
    point_size,
    sample,
    title,
)

N_SOURCES: Final = 8
"""Sources with a colour of their own: more could not be told apart."""


def cosine_picture(cosines: pl.DataFrame) -> bytes:
    """How the cosines of pairs of rows are spread, of features as they are and with the mean removed.

    Args:
        cosines: Contract `graph/neighbors cosines`.
    """
    if not cosines["n_pairs"].sum():
        return nothing("There are no pairs of rows.")
    figure = new_figure(7, 3)
    ax = figure.subplots()
    seen = cosines.filter(pl.col("n_pairs") > 0)
    for features, label, color in (("raw", "as they are", BLUE), ("mean_removed", "mean removed", ORANGE)):
        part = cosines.filter(pl.col("features") == features)
        counts = part["n_pairs"].to_numpy()
        if not counts.sum():
            continue
        edges = np.append(part["low"].to_numpy(), part["high"][-1])
        shares, negative = counts / counts.sum(), counts[edges[1:] < 1e-9].sum() / counts.sum()
        ax.stairs(shares, edges, fill=True, color=color, alpha=0.35)
        ax.stairs(shares, edges, color=color, linewidth=1.2, label=f"{label}: {negative:.1%} negative")
    ax.axvline(0, color="black", linewidth=1)
    ax.set_xlim(min(-0.1, seen["low"].to_numpy().min() - 0.02), seen["high"].to_numpy().max() + 0.02)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    ax.set_xlabel("cosine of two rows' gradients; left of 0 they conflict", fontsize=8)
    ax.legend(fontsize=8, frameon=False, loc="best")  # said, since the default warns on slow machines
    n_pairs = cosines["n_pairs"].sum() // cosines["features"].n_unique()
    title(ax, f"Cosines of {n_pairs:,} pairs of rows, share per bin of 0.01")
    plain(ax, grid="y")
    return png(figure)


def map_picture(places: pl.DataFrame) -> bytes:
    """The map of the pool, coloured by source: the largest eight, the rest grey.

    Args:
        places: `x` and `y` of contract `graph/neighbors map`, and `source`.
    """
    if places.is_empty():
        return nothing("There are no rows.")
    coloured = places.with_columns(largest(places["source"], N_SOURCES))
    drawn, said = sample(coloured)
    figure = new_figure(8, 5.6)
    ax = figure.subplots()
    sources = [s for s in counts_of(coloured["source"])["source"] if s != OTHERS]
    size = point_size(len(drawn))
    scatter(ax, drawn.filter(pl.col("source") == OTHERS), PALE, size)
    for source, color in zip(sources, PALETTE, strict=False):
        scatter(ax, drawn.filter(pl.col("source") == source), color, size, label=name(source))
    if OTHERS in coloured["source"]:
        ax.scatter([], [], color=PALE, linewidths=0, s=size, label=OTHERS)  # last in the legend, though drawn first
    figure.legend(fontsize=8, frameon=False, markerscale=6 / size**0.5, loc="outside right upper")
    title(ax, f"The pool by gradient: near rows are neighbours ({said})")
    bare(ax)
    return png(figure)


def scatter(ax: Any, places: pl.DataFrame, color: str, size: float, label: str | None = None) -> None:
    """Points of one colour; where there are none, the legend does not speak of them."""
    if len(places):
        ax.scatter(places["x"], places["y"], s=size, color=color, linewidths=0, label=label, rasterized=True)


def bare(ax: Any) -> None:
    """No axes, for they mean nothing on the map."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_aspect("equal", adjustable="datalim")
    ax.spines[:].set_color(PALE)
