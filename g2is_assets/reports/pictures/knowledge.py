"""Pictures of the stage `knowledge`: where the spectrum was cut, and which rows are behind which direction."""

from typing import Final

import numpy as np
import polars as pl
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from g2is_assets.reports.pictures.common import BLUE, ORANGE, PALE, new_figure, nothing, plain, png, title

SIGNED: Final = LinearSegmentedColormap.from_list("negative_to_positive", [ORANGE, "#ffffff", BLUE])
MAX_DIRECTIONS: Final = 60
MAX_ROWS: Final = 200


def spectrum_picture(spectrum: pl.DataFrame) -> bytes:
    """Variance share of every direction, the kept ones in blue, and their sum.

    Args:
        spectrum: Contract `knowledge/components spectrum`; empty where the nodes are no principal directions.
    """
    if spectrum.is_empty():
        return nothing("The nodes are the domain's rows, or their mean: there is no spectrum.")
    shares, n_kept = spectrum["variance_share"].to_numpy(), int(spectrum["kept"].sum())
    shown = shares[:MAX_DIRECTIONS]
    figure = new_figure(7, 3)
    ax = figure.subplots()
    ax.bar(np.arange(len(shown)), shown, color=[BLUE if kept else PALE for kept in spectrum["kept"]][: len(shown)])
    ax.set_xlim(-0.6, max(len(shown), 6) - 0.4)
    ax.set_ylabel("share of the variance (bars)", fontsize=8)
    total = ax.twinx()
    total.plot(np.arange(len(shown)), np.cumsum(shown), color="black", marker=".", linewidth=1)
    total.set_ylim(0, 1.05)
    total.set_ylabel("sum (line)", fontsize=8)
    ax.axvline(n_kept - 0.5, color=ORANGE, linestyle="--", linewidth=1.4)
    ax.set_xlabel("direction" + (f", the first {len(shown)} of {len(shares)}" if len(shown) < len(shares) else ""))
    ax.xaxis.label.set_fontsize(8)
    title(ax, f"{n_kept} of {len(shares)} directions are kept (left of the dashed line): {shares[:n_kept].sum():.1%}")
    for axis in (ax, total):
        plain(axis, grid=None)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return png(figure)


def loadings_picture(loadings: pl.DataFrame) -> bytes:
    """Which validation rows have much of which direction: rows ordered by the one they have most of.

    Args:
        loadings: Contract `knowledge/components loadings`.
    """
    if loadings.is_empty():
        return nothing("There are no validation rows.")
    wide = loadings.sort("row_id", "component").pivot("component", index="row_id", values="cosine")
    ids, values = wide["row_id"].to_list(), wide.drop("row_id").to_numpy()
    strongest = np.abs(values).argmax(axis=1)
    order = np.lexsort((-np.abs(values).max(axis=1), strongest))
    step = -(-len(order) // MAX_ROWS)
    order = order[::step]
    figure = new_figure(2.2 + 0.42 * min(values.shape[1], 20), 1.4 + 0.14 * min(len(order), 40))
    ax = figure.subplots()
    bound = max(float(np.abs(values).max()), 1e-9)
    image = ax.imshow(values[order], cmap=SIGNED, vmin=-bound, vmax=bound, aspect="auto", interpolation="nearest")
    figure.colorbar(image, ax=ax).ax.tick_params(labelsize=7)
    ax.set_xlabel("component", fontsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(order) <= 40:
        ax.set_yticks(range(len(order)), [ids[row][:8] for row in order])
    else:
        ax.set_ylabel(f"validation rows, {len(order)} of {len(ids)}", fontsize=8)
    title(ax, "Cosine of rows and components")
    ax.tick_params(labelsize=7)
    return png(figure)
