"""Pictures of `instructions`, `gradients` and `knowledge`: rows, their vectors, a domain's directions."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.ticker import MaxNLocator

from g2is_assets.reports.pictures import common as draw
from g2is_assets.reports.words import percent

N_SOURCES: Final = 18
N_REASONS: Final = 8
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
MAX_DIRECTIONS: Final = 60
MAX_ROWS: Final = 200
"""Validation rows of a domain that are drawn; of more, every so many-th."""


def rows_picture(rows: pl.DataFrame, rejected: pl.DataFrame, withheld: pl.DataFrame) -> bytes:
    """Rows by source, lengths of the responses, and what was kept out by reason.

    Of the rows `sources` and `n_response_tokens` are read, of the two other tables of `instructions` the `reason`.
    """
    # A reason may go on to details of the row after a colon.
    reasons = pl.concat([rejected["reason"].str.split(":").list.first(), withheld["reason"]]).alias("reason")
    figure, (of_source, lengths, *out) = draw.new_figure(10 if len(reasons) else 7.5, 3.8, 1, 3 if len(reasons) else 2)
    sources = draw.counts_of(draw.largest(rows["sources"].explode().drop_nulls().cast(pl.String), N_SOURCES))
    draw.bars(of_source, sources["sources"].to_list(), sources["len"].to_list())
    draw.title(of_source, f"By source, {len(rows):,} in all" + ("" if len(reasons) else ", none kept out"))
    values = rows["n_response_tokens"].to_numpy()
    if len(values):
        edges = np.unique(np.geomspace(values.min(), values.max() + 1, 41).astype(int))
        lengths.hist(values, bins=edges, color=draw.BLUE)
        draw.widen(lengths, values)
        half = float(np.median(values))
        lengths.axvline(half, color="black", linewidth=0.8, linestyle="--")
        lengths.set_xlabel(f"tokens (dashed: the median, {half:,.0f})", fontsize=8)
    draw.plain(lengths, "Length of the responses", grid="y")
    for ax in out:
        found = draw.counts_of(draw.largest(reasons, N_REASONS))
        draw.bars(ax, found["reason"].to_list(), found["len"].to_list(), color=draw.ORANGE)
        draw.title(ax, f"Kept out by reason, {len(reasons):,} in all")
    return draw.png(figure)


def vectors_picture(rows: pl.DataFrame, caption: str = "") -> bytes:
    """Loss of the rows and norm of their gradients, as quantiles by source; a caption says which rows, if not all.

    Args:
        rows: `source`, `loss` and `norm`.
        caption: Goes on from the legend's sentence.
    """
    if rows.is_empty():
        return draw.nothing("No row has a gradient.")
    rows = rows.with_columns(draw.largest(rows["source"], N_SOURCES))
    sources = draw.named(rows["source"]) + ([draw.OTHERS] if draw.OTHERS in rows["source"] else [])
    figure, (losses, norms) = draw.new_figure(9, 1.3 + 0.2 * len(sources), 1, 2, sharey=True)
    for ax, column, heading in (
        (losses, "loss", "Loss at the checkpoint, nats per token"),
        (norms, "norm", "Norm of the sketched gradient"),
    ):
        _boxes(ax, [rows.filter(source=source)[column].drop_nulls() for source in sources])
        draw.plain(ax, heading)
    losses.set_yticks(range(len(sources)), [draw.name(source) for source in sources])
    norms.tick_params(axis="y", left=False)
    draw.widen(norms, rows["norm"].drop_nulls().to_numpy())
    losses.set_ylim(max(len(sources), 4) - 0.4, -0.6)
    figure.supxlabel("box: the middle half, line: 90 % of the rows, dot: the median" + caption, fontsize=8)
    return draw.png(figure)


def _boxes(ax: Any, columns: list[pl.Series]) -> None:
    for place, values in enumerate(columns):
        if values.is_empty():
            continue
        low, first, half, third, high = (values.quantile(q, interpolation="linear") for q in QUANTILES)
        ax.plot([low, high], [place, place], color=draw.BLUE, linewidth=1)
        ax.plot([first, third], [place, place], color=draw.BLUE, linewidth=6, solid_capstyle="butt")
        ax.plot(half, place, "o", color="white", markeredgecolor="black", markersize=4)


def time_picture(metrics: Mapping[str, Any]) -> bytes:
    """Where the time of the batches went, beside what a bare product would take for them, by the metrics."""
    if not metrics.get("n_computed"):
        return draw.nothing(
            f"Nothing was computed in this run: {metrics.get('n_reused', 0):,} vectors were in the store."
        )
    mix, sketch = float(metrics["mix_share"]), float(metrics["sketch_share"])
    figure, ax = draw.new_figure(7, 1.6)
    begun = 0.0
    parts = {"forward and backward": 1 - mix - sketch, "Adam's direction": mix, "sketch": sketch}
    for (part, share), color in zip(parts.items(), draw.PALETTE, strict=False):
        ax.barh(0, share, left=begun, color=color, label=f"{part} {percent(share)}")
        begun += share
    peak = float(metrics["peak_share"])
    label = f"the products alone at the machine's rate: {percent(peak)}"
    ax.axvline(peak, color="black", linestyle="--", linewidth=1.4, label=label)
    ax.set_yticks([])
    ax.set_xlim(0, max(1.0, 1.05 * peak))
    ax.xaxis.set_major_formatter("{x:.0%}")
    figure.legend(fontsize=7, frameon=False, ncols=2, loc="outside lower left")
    said = f"Time of {metrics['n_computed']:,} gradients, {float(metrics['rows_per_s']):.3g} rows per second"
    draw.plain(ax, said, grid=None)
    return draw.png(figure)


def spectrum_picture(spectrum: pl.DataFrame) -> bytes:
    """Variance share of every direction, the kept ones in blue, and their sum, by the contract `spectrum`."""
    if spectrum.is_empty():
        return draw.nothing("The nodes are the domain's rows, or their mean: there is no spectrum.")
    shares, n_kept = spectrum["variance_share"].to_numpy(), int(spectrum["kept"].sum())
    shown = shares[:MAX_DIRECTIONS]
    figure, ax = draw.new_figure(7, 3)
    colours = [draw.BLUE if kept else draw.PALE for kept in spectrum["kept"].head(MAX_DIRECTIONS)]
    ax.bar(np.arange(len(shown)), shown, color=colours)
    ax.set_xlim(-0.6, max(len(shown), 6) - 0.4)
    ax.set_ylabel("share of the variance (bars)", fontsize=8)
    total = ax.twinx()
    total.plot(np.arange(len(shown)), np.cumsum(shown), color="black", marker=".", linewidth=1)
    total.set_ylim(0, 1.05)
    total.set_ylabel("sum (line)", fontsize=8)
    ax.axvline(n_kept - 0.5, color=draw.ORANGE, linestyle="--", linewidth=1.4)
    cut = f", the first {len(shown)} of {len(shares)}" if len(shown) < len(shares) else ""
    ax.set_xlabel(f"direction{cut}", fontsize=8)
    kept = percent(shares[:n_kept].sum(), 1)
    said = f"{n_kept} of {len(shares)} directions are kept (left of the dashed line): {kept}"
    for axis, heading in ((ax, said), (total, "")):
        draw.plain(axis, heading, grid=None)
        axis.yaxis.set_major_formatter("{x:.0%}")
    return draw.png(figure)


def loadings_picture(loadings: pl.DataFrame) -> bytes:
    """Which validation rows have much of which direction (contract `loadings`), by the one they have most of."""
    if loadings.is_empty():
        return draw.nothing("There are no validation rows.")
    wide = loadings.sort("row_id", "component").pivot("component", index="row_id", values="cosine")
    ids, values = wide["row_id"].to_list(), wide.drop("row_id").to_numpy()
    strongest = np.abs(values).argmax(axis=1)
    order = np.lexsort((-np.abs(values).max(axis=1), strongest))
    order = order[:: -(-len(order) // MAX_ROWS)]
    figure, ax = draw.new_figure(2.2 + 0.42 * min(values.shape[1], 20), 1.4 + 0.14 * min(len(order), 40))
    bound = max(float(np.abs(values).max()), 1e-9)
    colours: dict[str, Any] = {"cmap": draw.HEAT.reversed(), "vmin": -bound, "vmax": bound}
    image = ax.imshow(values[order], **colours, aspect="auto", interpolation="nearest")
    figure.colorbar(image, ax=ax).ax.tick_params(labelsize=7)
    ax.set_xlabel("component", fontsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(order) <= 40:
        ax.set_yticks(range(len(order)), [ids[row][:8] for row in order])
    else:
        ax.set_ylabel(f"validation rows, {len(order)} of {len(ids)}", fontsize=8)
    draw.title(ax, "Cosine of rows and components")
    ax.tick_params(labelsize=7)
    return draw.png(figure)
