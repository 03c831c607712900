"""Pictures of `graph` and `selection`: how rows stand to each other, the map of the pool, and the walks on it."""

from typing import Any, Final

import numpy as np
import polars as pl

from g2is_assets.reports.pictures import common as draw
from g2is_assets.reports.words import percent

N_SOURCES: Final = 8
"""Sources with a colour of their own: more could not be told apart."""
MAX_WALKS: Final = 6
"""Walks with a map of their own, those that took most rows."""
MAX_TAKEN: Final = 400
"""Rows taken that are drawn on all maps together: of longer walks every so many-th."""
MAX_STEPS: Final = 400
"""Points of a line over the steps: of a longer walk, means of so many rows."""
MAX_MARKS: Final = 100
"""Steps up to which each has its mark."""
MAX_BARS: Final = 15
"""Sources of a subset that are named."""


def cosine_picture(cosines: pl.DataFrame) -> bytes:
    """How the cosines of pairs of rows are spread, of features as they are and with the mean removed (`cosines`)."""
    if not cosines["n_pairs"].sum():
        return draw.nothing("There are no pairs of rows.")
    figure, ax = draw.new_figure(7, 3)
    seen = cosines.filter(pl.col("n_pairs") > 0)
    for features, label, color in (("raw", "as they are", draw.BLUE), ("mean_removed", "mean removed", draw.ORANGE)):
        part = cosines.filter(pl.col("features") == features)
        counts = part["n_pairs"].to_numpy()
        if not counts.sum():
            continue
        edges = np.append(part["low"].to_numpy(), part["high"][-1])
        shares, negative = counts / counts.sum(), counts[edges[1:] < 1e-9].sum() / counts.sum()
        ax.stairs(shares, edges, fill=True, color=color, alpha=0.35)
        ax.stairs(shares, edges, color=color, linewidth=1.2, label=f"{label}: {percent(negative, 1)} negative")
    ax.axvline(0, color="black", linewidth=1)
    ax.set_xlim(min(-0.1, seen["low"].to_numpy().min() - 0.02), seen["high"].to_numpy().max() + 0.02)
    ax.yaxis.set_major_formatter("{x:.1%}")
    ax.set_xlabel("cosine of two rows' gradients; left of 0 they conflict", fontsize=8)
    ax.legend(fontsize=8, frameon=False, loc="best")  # said, since the default warns on slow machines
    n_pairs = cosines["n_pairs"].sum() // cosines["features"].n_unique()
    draw.plain(ax, f"Cosines of {n_pairs:,} pairs of rows, share per bin of 0.01", grid="y")
    return draw.png(figure)


def map_picture(places: pl.DataFrame) -> bytes:
    """The map of the pool (`x`, `y` and `source`), coloured by source: the largest eight, the rest grey."""
    if places.is_empty():
        return draw.nothing("There are no rows.")
    coloured = places.with_columns(draw.largest(places["source"], N_SOURCES))
    drawn, said = draw.sample(coloured)
    figure, ax = draw.new_figure(8, 5.6)
    size = draw.point_size(len(drawn))
    scatter(ax, drawn.filter(pl.col("source") == draw.OTHERS), draw.PALE, size)
    for source, color in zip(draw.named(coloured["source"]), draw.PALETTE, strict=False):
        scatter(ax, drawn.filter(pl.col("source") == source), color, size, label=draw.name(source))
    if draw.OTHERS in coloured["source"]:
        ax.scatter(
            [], [], color=draw.PALE, linewidths=0, s=size, label=draw.OTHERS
        )  # last in the legend, though drawn first
    figure.legend(fontsize=8, frameon=False, markerscale=6 / size**0.5, loc="outside right upper")
    draw.title(ax, f"The pool by gradient: near rows are neighbours ({said})")
    bare(ax)
    return draw.png(figure)


def scatter(ax: Any, places: pl.DataFrame, color: str, size: float, label: str | None = None) -> None:
    """Points of one colour; where there are none, the legend does not speak of them."""
    if len(places):
        ax.scatter(places["x"], places["y"], s=size, color=color, linewidths=0, label=label, rasterized=True)


def bare(ax: Any) -> None:
    """No axes, for they mean nothing on the map."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_aspect("equal", adjustable="datalim")
    ax.spines[:].set_color(draw.PALE)


def walk_picture(places: pl.DataFrame, subset: pl.DataFrame) -> bytes:
    """The rows that each walk took on the map of the pool, from first (dark) to last (light)."""
    taken = subset.join(places, on="row_id", how="inner").sort("order")
    if taken.is_empty():
        return draw.nothing("No row was taken.")
    walks = taken.group_by("component").len().sort(["len", "component"], descending=[True, False])
    shown = sorted(walks["component"].head(MAX_WALKS).to_list())
    every = -(-int(walks["len"][0]) // (MAX_TAKEN // len(shown)))
    n_columns = min(3, len(shown))
    n_lines = -(-len(shown) // n_columns)
    background, said = draw.sample(places, 4000 if len(shown) == 1 else 1500)
    height = 0.8 + (4.6 if len(shown) == 1 else 2.5 * n_lines)
    figure, grid = draw.new_figure(max(5.5, 3.1 * n_columns), height, n_lines, n_columns, squeeze=False)
    axes = grid.ravel()
    for ax, component in zip(axes, shown, strict=False):
        walk = taken.filter(pl.col("component") == component)
        scatter(ax, background, draw.PALE, draw.point_size(len(background)) / 2)
        draw.title(ax, f"component {component}: {len(walk)} rows" if len(walks) > 1 else f"{len(walk)} rows")
        walk = walk.gather_every(every)
        color = np.linspace(0, 1, len(walk)) if len(walk) > 1 else [0.0]
        ax.scatter(walk["x"], walk["y"], s=14, c=color, cmap="cividis", edgecolors="black", linewidths=0.3, zorder=3)
        ax.plot(
            walk["x"][0], walk["y"][0], marker="*", markersize=15, color=draw.ORANGE, markeredgecolor="black", zorder=2
        )
        bare(ax)
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    rest = f"; the {len(shown)} longest of {len(walks)} walks" if len(walks) > len(shown) else ""
    rest += f"; of a walk one row in {every}" if every > 1 else ""
    figure.suptitle(f"Star: the first row, then dark to light. Grey: the pool ({said}){rest}.", fontsize=8)
    return draw.png(figure)


def steps_picture(subset: pl.DataFrame, *, balanced: bool) -> bytes:
    """What the walk saw step by step: consistency and smallest cosine, or of a balanced walk pull and redundancy."""
    if subset.is_empty():
        return draw.nothing("No row was taken.")
    figure, (above, below) = draw.new_figure(8, 4.2, 2, 1, sharex=True)
    if balanced:
        _line(above, subset, "pull", draw.BLUE, "pull towards the domain")
        _line(above, subset, "redundancy", draw.ORANGE, "redundancy: what it repeats")
        _line(above, subset, "score", draw.GREY, "score: pull less redundancy")
        _line(below, subset, "core_cosine", draw.BLUE, "cosine of the row to the domain's mean")
        _line(below, subset, "nearest_cosine", draw.ORANGE, "cosine to the row taken before that it resembles most")
    else:
        _line(above, subset, "consistency", draw.BLUE, "consistency: |cosine| of the rows' sum to the component")
        _line(above, subset, "core_cosine", draw.GREY, "cosine of the row to the component")
        _line(below, subset, "predecessor_cosine", draw.BLUE, "coherence: cosine to the row before")
        _line(below, subset, "min_cosine", draw.ORANGE, "smallest cosine to a row taken before; below 0 is conflict")
    for ax in (above, below):
        ax.axhline(0, color="black", linewidth=0.8)
        starts = [] if balanced else subset.filter(pl.col("step") == 0)["order"].to_list()
        for start in starts:
            ax.axvline(start - 0.5, color=draw.PALE, linewidth=0.8, zorder=0)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=7, frameon=False, loc="best")  # said, since the default warns on slow machines
        draw.plain(ax, grid="y")
    draw.title(
        above, "The balanced walk, row by row" if balanced else "The walks, row by row; lines part the components"
    )
    every = -(-len(subset) // MAX_STEPS)
    binned = f"; of every {every} rows the mean, of the smallest cosine the least" if every > 1 else ""
    below.set_xlabel(f"place in the subset{binned}", fontsize=8)
    return draw.png(figure)


def _line(ax: Any, subset: pl.DataFrame, column: str, color: str, label: str) -> None:
    """One line per walk; an anchor has no value of what compares with rows before."""
    every = -(-len(subset) // MAX_STEPS)
    for _, walk in subset.sort("order").group_by("component", maintain_order=True):
        value = pl.col(column).min() if column == "min_cosine" else pl.col(column).mean()
        binned = walk.group_by(pl.col("order") // every * every, maintain_order=True).agg(value)
        known = binned.drop_nulls(column)
        marks = "." if len(known) == 1 or len(subset) <= MAX_MARKS else None
        if len(known):
            ax.plot(known["order"], known[column], marker=marks, color=color, markersize=5, linewidth=0.9, label=label)
            label = "_"  # in the legend once


def mix_picture(subset: pl.Series, pool: pl.Series) -> bytes:
    """Which sources the subset's rows have, beside those of the pool, by each row's list of sources."""
    if subset.is_empty() or pool.is_empty():
        return draw.nothing("No row was taken.")
    table = _shares(subset, "taken").join(_shares(pool, "all"), on="source", how="full", coalesce=True).fill_null(0.0)
    table = table.sort([pl.max_horizontal("taken", "all"), "source"], descending=[True, False])
    rest = table[MAX_BARS:]
    table = table.head(MAX_BARS).sort(["taken", "all", "source"], descending=[True, True, False])
    if len(rest):
        more = pl.DataFrame({"source": [draw.OTHERS], "taken": [rest["taken"].sum()], "all": [rest["all"].sum()]})
        table = pl.concat([table, more.cast(table.schema)])
    figure, ax = draw.new_figure(7, 1.2 + 0.3 * len(table))
    place = np.arange(len(table))
    ax.barh(place - 0.2, table["taken"], height=0.4, color=draw.PALETTE[0], label=f"subset, {len(subset):,} rows")
    ax.barh(place + 0.2, table["all"], height=0.4, color=draw.PALE, label=f"pool, {len(pool):,} rows")
    ax.set_yticks(place, [draw.name(source) for source in table["source"]])
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.legend(fontsize=8, frameon=False, loc="lower right")
    draw.plain(ax, "Share of the rows by source")
    return draw.png(figure)


def _shares(sources: pl.Series, column: str) -> pl.DataFrame:
    found = pl.DataFrame({"source": sources.explode().cast(pl.String)}).drop_nulls().group_by("source").len()
    return found.select("source", (pl.col("len") / len(sources)).alias(column))
