"""Pictures of the leaderboard: a grid with heat colours, and differences with their intervals.

Blue is better, orange is worse.
"""

from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.colors import LinearSegmentedColormap

from g2is_assets.reports.pictures.common import BETTER, UNSURE, WORSE, new_figure, png
from g2is_assets.settings.config import ALL_DOMAINS

HEAT: Final = LinearSegmentedColormap.from_list("better_to_worse", [BETTER, "#ffffff", WORSE])


def grid_picture(board: pl.DataFrame) -> bytes:
    """Per study, part and budget the NLL of every variant in every domain.

    Colours compare within a domain: the difference to the mean over trained variants, in units of the largest there.
    The base model, often far behind, does not count for that.

    Args:
        board: Contract `study/leaderboard`, at least one row.
    """
    groups = _groups(board)
    shapes = [(part["variant"].n_unique(), part["domain"].n_unique()) for _, part in groups]
    height = sum(1.4 + 0.34 * n_variants for n_variants, _ in shapes)
    figure = new_figure(3.2 + 1.25 * max(n for _, n in shapes), height)
    axes = figure.subplots(len(groups), 1, squeeze=False, height_ratios=[1.4 + 0.34 * n for n, _ in shapes])[:, 0]
    for ax, (title, part) in zip(axes, groups, strict=True):
        variants, domains = _variants(part), _domains(part)
        values = np.full((len(variants), len(domains)), np.nan)
        for row in part.iter_rows(named=True):
            values[variants.index(row["variant"]), domains.index(row["domain"])] = row["nll"]
        trained = np.isin(variants, part.filter(pl.col("n_tokens") > 0)["variant"].unique().to_list())
        counted = np.ma.masked_invalid(values[trained] if trained.any() else values)
        offset = values - counted.mean(axis=0).filled(0.0)
        largest = np.abs(counted - counted.mean(axis=0)).max(axis=0).filled(0.0)
        heat = np.divide(offset, largest, out=np.zeros_like(offset), where=largest > 0)
        ax.imshow(heat, cmap=HEAT, vmin=-1.6, vmax=1.6, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            best = value == np.nanmin(values[:, j])
            text = "" if np.isnan(value) else f"{value:.4f}"
            ax.text(j, i, text, ha="center", va="center", fontsize=8, weight="bold" if best else "normal")
        ax.set_xticks(range(len(domains)), domains, fontsize=8, rotation=20, ha="right")
        ax.set_yticks(range(len(variants)), variants, fontsize=8)
        ax.set_title(f"{title}: NLL, lower is better", fontsize=9, loc="left")
    return png(figure)


def interval_picture(board: pl.DataFrame) -> bytes | None:
    """The difference of every variant to `random` and to `less`, with its 95 % interval.

    The base model is left out: its distance would leave the others no room.

    Args:
        board: Contract `study/leaderboard`.

    Returns:
        None if nothing trained was compared with either.
    """
    compared = pl.any_horizontal(pl.col("minus_random", "minus_less").is_not_null())
    trained = board.filter(pl.col("n_tokens") > 0)
    groups = _groups(trained.filter(compared.any().over("study", "part", "budget")))
    if not groups:
        return None
    n_rows = [part.height + part["domain"].n_unique() for _, part in groups]
    heights = [1.2 + 0.17 * n for n in n_rows]
    figure = new_figure(10, sum(heights))
    axes = figure.subplots(len(groups), 2, squeeze=False, height_ratios=heights, sharey="row")
    for pair, (title, part) in zip(axes, groups, strict=True):
        lines = [
            (domain, row)
            for domain in _domains(part)
            for row in [None, *part.filter(domain=domain).sort("rank").iter_rows(named=True)]
        ]
        for ax, rival in zip(pair, ("random", "less"), strict=True):
            _intervals(ax, [row for _, row in lines], f"minus_{rival}")
            ax.set_title(f"{title}: NLL minus that of {rival}", fontsize=9, loc="left")
        labels = [row["variant"] if row else domain for domain, row in lines]
        pair[0].set_yticks(range(len(lines)), labels, fontsize=7)
        for label, (_, row) in zip(pair[0].get_yticklabels(), lines, strict=True):
            label.set_fontweight("normal" if row else "bold")
        pair[0].invert_yaxis()
    return png(figure)


def _intervals(ax: Any, rows: list[dict[str, Any] | None], name: str) -> None:
    ax.axvline(0, color="black", linewidth=0.8)
    for place, row in enumerate(rows):
        if row is None or row[name] is None:
            continue
        mean, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
        color = BETTER if high < 0 else WORSE if low > 0 else UNSURE
        # The percentile interval need not hold the mean.
        errors = [[max(0.0, mean - low)], [max(0.0, high - mean)]]
        ax.errorbar(mean, place, xerr=errors, fmt="o", color=color, markersize=4, capsize=2, linewidth=1.2)
    ax.tick_params(axis="x", labelsize=8)
    ax.grid(axis="x", linewidth=0.3)


def _groups(board: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """The parts of a leaderboard that belong into one picture, with their titles."""
    keys = ["study", "part", "budget"]
    parts = sorted(board.group_by(keys), key=lambda group: tuple(map(str, group[0])))
    return [(f"{study}, {part} rows, budget {budget:g}", table) for (study, part, budget), table in parts]


def _domains(part: pl.DataFrame) -> list[str]:
    """By name, all of them together last."""
    return sorted(part["domain"].unique(), key=lambda name: (name == ALL_DOMAINS, name))


def _variants(part: pl.DataFrame) -> list[str]:
    """The best over domains first, then those that are not scored in all of them."""
    ranks = dict(part.filter(domain=ALL_DOMAINS).select("variant", "rank").iter_rows())
    return sorted(part["variant"].unique(), key=lambda name: (ranks.get(name, len(ranks) + 1), name))
