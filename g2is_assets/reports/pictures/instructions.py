"""Pictures of the stage `instructions`: what rows there are, and what was kept out."""

from typing import Final

import numpy as np
import polars as pl

from g2is_assets.reports.pictures.common import (
    BLUE,
    ORANGE,
    bars,
    counts_of,
    largest,
    new_figure,
    plain,
    png,
    title,
    widen,
)

N_SOURCES: Final = 18
N_REASONS: Final = 8


def rows_picture(rows: pl.DataFrame, rejected: pl.DataFrame, withheld: pl.DataFrame) -> bytes:
    """Rows by source, lengths of the responses, and what was kept out by reason.

    Args:
        rows: `sources` and `n_response_tokens` of contract `instructions/pool` or `instructions/target`.
        rejected: `reason` of contract `rejected rows`.
        withheld: `reason` of contract `withheld rows`.
    """
    # A reason may go on to details of the row after a colon.
    reasons = pl.concat([rejected["reason"].str.split(":").list.first(), withheld["reason"]]).alias("reason")
    figure = new_figure(10 if len(reasons) else 7.5, 3.8)
    of_source, lengths, *out = figure.subplots(1, 3 if len(reasons) else 2)
    sources = counts_of(largest(rows["sources"].explode().drop_nulls().cast(pl.String), N_SOURCES))
    bars(of_source, sources["sources"].to_list(), sources["len"].to_list())
    title(of_source, f"By source, {len(rows):,} in all" + ("" if len(reasons) else ", none kept out"))
    values = rows["n_response_tokens"].to_numpy()
    if len(values):
        edges = np.unique(np.geomspace(values.min(), values.max() + 1, 41).astype(int))
        lengths.hist(values, bins=edges, color=BLUE)
        widen(lengths, values)
        half = float(np.median(values))
        lengths.axvline(half, color="black", linewidth=0.8, linestyle="--")
        lengths.set_xlabel(f"tokens (dashed: the median, {half:,.0f})", fontsize=8)
    title(lengths, "Length of the responses")
    plain(lengths, grid="y")
    for ax in out:
        found = counts_of(largest(reasons, N_REASONS))
        bars(ax, found["reason"].to_list(), found["len"].to_list(), color=ORANGE)
        title(ax, f"Kept out by reason, {len(reasons):,} in all")
    return png(figure)
