"""What all pictures share: palette, a light background, samples of large tables, a small PNG."""

import io
import warnings
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from PIL import Image

from g2is_assets.reports.words import beginning

BLUE: Final = "#0072b2"
ORANGE: Final = "#d55e00"
GREY: Final = "#7f7f7f"
PALE: Final = "#d0d0d0"
HEAT: Final = LinearSegmentedColormap.from_list("blue_to_orange", [BLUE, "#ffffff", ORANGE])
PALETTE: Final = (BLUE, "#e69f00", "#009e73", ORANGE, "#cc79a7", "#56b4e9", "#000000", "#f0e442")
"""Okabe and Ito's eight, the faintest on white last."""
OTHERS: Final = "others"
"""Name of what is left when only the largest are named."""
DPI: Final = 100
MAX_BYTES: Final = 60_000
"""Of a picture, which stands in an event of Dagster's history."""
N_COLOURS: Final = (256, 64, 16)
"""A palette makes a picture a third as large, and what is drawn needs no more; fewer where it still is too large."""
MAX_POINTS: Final = 8000
"""Points of a scatter plot; of larger tables a sample is drawn, and the caption says so."""
MAX_LABEL: Final = 28
"""Characters of a name beside an axis."""


def new_figure(width: float, height: float, *grid: int, **options: Any) -> tuple[Figure, Any]:
    """A figure of that many inches and its subplots; its background is opaque and light, also on dark pages."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white", dpi=DPI)
    return figure, figure.subplots(*grid, **options)


def png(figure: Figure) -> bytes:
    """The figure as a PNG with few colours."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # A script that the font lacks is drawn as boxes.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    for n_colours in N_COLOURS:
        content = io.BytesIO()
        image.quantize(n_colours, dither=Image.Dither.NONE).save(content, format="PNG", optimize=True)
        if content.tell() <= MAX_BYTES:
            break
    return content.getvalue()


def nothing(said: str) -> bytes:
    """A picture of a sentence, where there is nothing to draw."""
    figure, ax = new_figure(6, 0.8)
    ax.set_axis_off()
    figure.text(0.02, 0.5, said, va="center", fontsize=10)
    return png(figure)


def name(text: str) -> str:
    """Somebody's word as a label: one short line, with no mathematics in it."""
    return beginning(text, MAX_LABEL).replace("$", r"\$")


def title(ax: Any, text: str) -> None:
    """A title that stands at the left, in the size that all have."""
    ax.set_title(text, fontsize=9, loc="left")


def plain(ax: Any, heading: str = "", *, grid: str | None = "x") -> None:
    """Small ticks, no box, lines to read values along one axis, and a title if there is to be one."""
    if heading:
        title(ax, heading)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(axis=grid, linewidth=0.3)
        ax.set_axisbelow(True)


def widen(ax: Any, values: Any) -> None:
    """An x axis with plain numbers, logarithmic where the values are positive and of different size."""
    if len(values) and 0 < 20 * min(values) < max(values):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        ax.minorticks_off()
    else:
        ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.xaxis.set_major_formatter("{x:,g}")


def point_size(n_points: int) -> float:
    """Area of a point, so that few can be seen and many can be told apart."""
    return float(np.clip(16000 / max(n_points, 1), 4, 24))


def largest(names: pl.Series, n: int) -> pl.Series:
    """The same names, but for all but the `n` most frequent, which become `others`."""
    kept = counts_of(names).head(n)[names.name]
    return names.set(~names.is_in(kept.implode()), OTHERS)


def named(names: pl.Series) -> list[str]:
    """The names but for `others`, the most frequent first."""
    return [name for name in counts_of(names)[names.name] if name != OTHERS]


def counts_of(names: pl.Series) -> pl.DataFrame:
    """How often each name occurs: itself and `len`, the most frequent first, equals by name."""
    return names.value_counts(name="len").sort(["len", names.name], descending=[True, False])


def sample(table: pl.DataFrame, n_rows: int = MAX_POINTS) -> tuple[pl.DataFrame, str]:
    """The table, or a sample of its rows in their order with a fixed seed, and what the caption says of it."""
    if len(table) <= n_rows:
        return table, f"{len(table):,} rows"
    chosen = np.sort(np.random.default_rng(0).choice(len(table), n_rows, replace=False))
    return table[chosen], f"a sample of {n_rows:,} of {len(table):,} rows"


def bars(ax: Any, labels: Sequence[str], values: Sequence[float], color: str = BLUE) -> None:
    """Horizontal bars from top to bottom, each with its number."""
    drawn = ax.barh(range(len(labels)), values, color=color)
    ax.bar_label(drawn, [f"{value:,.0f}" for value in values], fontsize=7, padding=2)
    ax.set_yticks(range(len(labels)), [name(label) for label in labels])
    ax.set_ylim(max(len(labels), 6) - 0.4, -0.6)
    ax.margins(x=0.18)
    plain(ax)


def interval(ax: Any, place: int, found: Sequence[float], *, size: float, color: str | None = None) -> None:
    """A mean with its interval on a line; without a colour it is a difference: blue is better, orange worse."""
    mean, low, high = found
    color = color or (BLUE if high < 0 else ORANGE if low > 0 else GREY)
    errors = [[max(0.0, mean - low)], [max(0.0, high - mean)]]  # the percentile interval need not hold the mean
    widths = {"markersize": size, "capsize": size / 2, "linewidth": 0.27 * size}
    ax.errorbar(mean, place, xerr=errors, fmt="o", color=color, **widths)
