"""Pictures of the stage `gradients`: norms and losses by source, and where the time went."""

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from g2is_assets.reports.pictures.common import (
    BLUE,
    OTHERS,
    PALETTE,
    counts_of,
    largest,
    name,
    new_figure,
    nothing,
    plain,
    png,
    title,
    widen,
)

N_SOURCES: Final = 18
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)


def vectors_picture(rows: pl.DataFrame, caption: str = "") -> bytes:
    """Loss of the rows and norm of their gradients, as quantiles by source.

    Args:
        rows: `source`, `loss` and `norm`.
        caption: What rows these are, where they are not all.
    """
    if rows.is_empty():
        return nothing("No row has a gradient.")
    rows = rows.with_columns(largest(rows["source"], N_SOURCES))
    sources = [s for s in counts_of(rows["source"])["source"] if s != OTHERS]
    sources += [OTHERS] if OTHERS in rows["source"] else []
    figure = new_figure(9, 1.3 + 0.2 * len(sources))
    losses, norms = figure.subplots(1, 2, sharey=True)
    for ax, column in ((losses, "loss"), (norms, "norm")):
        _boxes(ax, [rows.filter(pl.col("source") == source)[column].drop_nulls() for source in sources])
        plain(ax)
    losses.set_yticks(range(len(sources)), [name(source) for source in sources])
    norms.tick_params(axis="y", left=False)
    widen(norms, rows["norm"].drop_nulls().to_numpy())
    losses.set_ylim(max(len(sources), 4) - 0.4, -0.6)
    title(losses, "Loss at the checkpoint, nats per token")
    title(norms, "Norm of the sketched gradient")
    figure.supxlabel("box: the middle half, line: 90 % of the rows, dot: the median" + caption, fontsize=8)
    return png(figure)


def _boxes(ax: Any, columns: list[pl.Series]) -> None:
    for place, values in enumerate(columns):
        if values.is_empty():
            continue
        low, first, half, third, high = (values.quantile(q, interpolation="linear") for q in QUANTILES)
        ax.plot([low, high], [place, place], color=BLUE, linewidth=1)
        ax.plot([first, third], [place, place], color=BLUE, linewidth=6, solid_capstyle="butt")
        ax.plot(half, place, "o", color="white", markeredgecolor="black", markersize=4)


def time_picture(metrics: Mapping[str, Any]) -> bytes:
    """Where the time of the batches went, beside what plain training of the same batches takes.

    Args:
        metrics: Of the version: `n_computed`, `n_reused`, `mix_share`, `sketch_share`, `speed_to_floor`, `rows_per_s`.
    """
    if not metrics.get("n_computed"):
        return nothing(f"Nothing was computed in this run: {metrics.get('n_reused', 0):,} vectors were in the store.")
    mix, sketch = float(metrics["mix_share"]), float(metrics["sketch_share"])
    figure = new_figure(7, 1.6)
    ax = figure.subplots()
    begun = 0.0
    parts = {"forward and backward": 1 - mix - sketch, "Adam's direction": mix, "sketch": sketch}
    for (part, share), color in zip(parts.items(), PALETTE, strict=False):
        ax.barh(0, share, left=begun, color=color, label=f"{part} {share:.0%}")
        begun += share
    floor = float(metrics["speed_to_floor"])
    if floor:
        label = f"plain training of the same batches: {floor:.0%}"
        ax.axvline(floor, color="black", linestyle="--", linewidth=1.4, label=label)
    ax.set_yticks([])
    ax.set_xlim(0, max(1.0, 1.05 * floor))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    figure.legend(fontsize=7, frameon=False, ncols=2, loc="outside lower left")
    title(ax, f"Time of {metrics['n_computed']:,} gradients, {float(metrics['rows_per_s']):.3g} rows per second")
    plain(ax, grid=None)
    return png(figure)
