"""Pictures of the stage `warmup`, and of every training: its losses."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl
from matplotlib.ticker import MaxNLocator

from g2is_assets.reports.pictures.common import GREY, PALETTE, name, new_figure, nothing, plain, png, title

MAX_STEPS: Final = 2000
"""Steps that are drawn; of a longer training every so many-th."""


def loss_picture(logs: Mapping[str, pl.DataFrame]) -> bytes:
    """Loss of every step, its running mean, and the loss of the validation rows where they were scored.

    Args:
        logs: Contract `training log`, by the training's name.
    """
    if all(log.is_empty() for log in logs.values()):
        return nothing("No step was logged.")
    figure = new_figure(7, 3.2)
    ax = figure.subplots()
    for (run, log), color in zip(logs.items(), [GREY, *PALETTE] if len(logs) > 1 else PALETTE, strict=False):
        steps = log.drop_nulls("train_loss")
        if len(steps):
            every = -(-len(steps) // MAX_STEPS)
            losses = steps["train_loss"]
            window = max(1, len(steps) // 20)
            smooth = losses.rolling_mean(window, min_samples=1)
            where = np.arange(0, len(steps), every)
            ax.plot(steps["step"].to_numpy()[where], losses.to_numpy()[where], color=color, linewidth=0.5, alpha=0.4)
            label = f"{name(run)}: training" + (f", mean of {window} steps" if window > 1 else "")
            ax.plot(steps["step"].to_numpy()[where], smooth.to_numpy()[where], color=color, linewidth=1.6, label=label)
        scored = log.drop_nulls("validation_loss")
        if len(scored):
            label = f"{name(run)}: validation rows"
            pairs = scored["step"].to_numpy(), scored["validation_loss"].to_numpy()
            ax.plot(*pairs, "o--", color=color, markersize=5, linewidth=1, markeredgecolor="black", label=label)
    ax.set_xlabel("optimizer step", fontsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(fontsize=7, frameon=False, loc="best")  # said, since the default warns on slow machines
    title(ax, "Loss, nats per response token")
    plain(ax, grid="y")
    return png(figure)
