"""Pictures of the stage `finetune`: what the adapter is worth beside the base model and a random subset's."""

from typing import Any, Final

import polars as pl
from matplotlib.ticker import MaxNLocator

from g2is_assets.core.sampling import paired_difference
from g2is_assets.reports.pictures.common import (
    BETTER,
    GREY,
    UNSURE,
    WORSE,
    new_figure,
    nothing,
    plain,
    png,
    title,
)

MODELS: Final = ("base", "random", "g2is")
NAMES: Final = {"base": "base model", "random": "random subset", "g2is": "G2IS"}


def scores_picture(scores: pl.DataFrame) -> bytes:
    """Mean NLL of every model, and the paired difference of G2IS to the others, with 95 % intervals over rows.

    Args:
        scores: Contract `finetune/evaluation`.
    """
    wide = scores.pivot("model", index="row_id", values="nll", sort_columns=False).sort("row_id")
    models = [model for model in MODELS if model in wide.columns]
    wide = wide.drop_nulls(models)
    if "g2is" not in models or len(wide) < 2:
        return nothing("Too few rows were scored for an interval.")
    figure = new_figure(8, 2.3)
    means, differences = figure.subplots(1, 2)
    nothing_off = pl.zeros(len(wide), eager=True)
    for place, model in enumerate(models):
        _interval(means, place, *paired_difference(wide[model], nothing_off), GREY, "{:.4f}")
    _places(means, [NAMES[model] for model in models])
    title(means, f"NLL of {len(wide):,} {scores['split'][0]} rows, lower is better")
    rivals = [model for model in models if model != "g2is"]
    differences.axvline(0, color="black", linewidth=0.8)
    for place, rival in enumerate(rivals):
        mean, low, high = paired_difference(wide["g2is"], wide[rival])
        color = BETTER if high < 0 else WORSE if low > 0 else UNSURE
        _interval(differences, place, mean, low, high, color, "{:+.4f}")
    _places(differences, [f"minus {NAMES[rival]}" for rival in rivals])
    title(differences, "NLL of G2IS, paired by row: left is better")
    return png(figure)


def _interval(ax: Any, place: int, mean: float, low: float, high: float, color: str, form: str) -> None:
    # The percentile interval need not hold the mean.
    errors = [[max(0.0, mean - low)], [max(0.0, high - mean)]]
    ax.errorbar(mean, place, xerr=errors, fmt="o", color=color, markersize=6, capsize=3, linewidth=1.6)
    ax.annotate(form.format(mean), (mean, place), (0, 6), textcoords="offset points", ha="center", fontsize=8)


def _places(ax: Any, labels: list[str]) -> None:
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.6)
    ax.margins(x=0.2)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    plain(ax)
