"""Pictures of trainings (`warmup`, `finetune`, `study`): losses by step, and scores with their intervals.

Blue is better, orange is worse.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.ticker import MaxNLocator

from g2is_assets.core.sampling import paired_difference
from g2is_assets.reports.pictures import common as draw
from g2is_assets.settings.config import ALL_DOMAINS

MAX_STEPS: Final = 2000
"""Steps that are drawn; of a longer training every so many-th."""
NAMES: Final = {"base": "base model", "random": "random subset", "served": "served before", "g2is": "G2IS"}


def loss_picture(logs: Mapping[str, pl.DataFrame]) -> bytes:
    """Loss of every step, its running mean, and the loss of the validation rows where they were scored, by training."""
    if all(log.is_empty() for log in logs.values()):
        return draw.nothing("No step was logged.")
    figure, ax = draw.new_figure(7, 3.2)
    colours = [draw.GREY, *draw.PALETTE] if len(logs) > 1 else draw.PALETTE
    for (run, log), color in zip(logs.items(), colours, strict=False):
        steps = log.drop_nulls("train_loss")
        if len(steps):
            window = max(1, len(steps) // 20)
            smooth = pl.col("train_loss").rolling_mean(window, min_samples=1).alias("smooth")
            shown = steps.with_columns(smooth).gather_every(-(-len(steps) // MAX_STEPS))
            ax.plot(shown["step"], shown["train_loss"], color=color, linewidth=0.5, alpha=0.4)
            label = f"{draw.name(run)}: training" + (f", mean of {window} steps" if window > 1 else "")
            ax.plot(shown["step"], shown["smooth"], color=color, linewidth=1.6, label=label)
        scored = log.drop_nulls("validation_loss")
        if len(scored):
            look = {"color": color, "markersize": 5, "linewidth": 1, "markeredgecolor": "black"}
            ax.plot(
                scored["step"], scored["validation_loss"], "o--", **look, label=f"{draw.name(run)}: validation rows"
            )
    ax.set_xlabel("optimizer step", fontsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(fontsize=7, frameon=False, loc="best")  # said, since the default warns on slow machines
    draw.plain(ax, "Loss, nats per response token", grid="y")
    return draw.png(figure)


def scores_picture(scores: pl.DataFrame) -> bytes:
    """Mean NLL of every model, and the paired difference of G2IS to the others with its 95 % interval over rows.

    A mean's own interval is left out: what it says of two models on the same rows is far too wide.
    """
    wide = scores.pivot("model", index="row_id", values="nll", sort_columns=False).sort("row_id")
    models = [model for model in NAMES if model in wide.columns]
    wide = wide.drop_nulls(models)
    if "g2is" not in models or len(wide) < 2:
        return draw.nothing("Too few rows were scored for an interval.")
    figure, (means, differences) = draw.new_figure(8, 2.3, 1, 2)
    for place, mean in enumerate(float(wide[model].mean()) for model in models):  # type: ignore[arg-type]
        _interval(means, place, (mean, mean, mean), "{:.4f}", draw.GREY)
    _places(means, f"NLL of {len(wide):,} {scores['split'][0]} rows, lower is better", [NAMES[m] for m in models])
    rivals = [model for model in models if model != "g2is"]
    differences.axvline(0, color="black", linewidth=0.8)
    for place, rival in enumerate(rivals):
        _interval(differences, place, paired_difference(wide["g2is"], wide[rival]), "{:+.4f}")
    _places(
        differences, "NLL of G2IS, 95 % interval by row: left is better", [f"minus {NAMES[rival]}" for rival in rivals]
    )
    return draw.png(figure)


def _interval(ax: Any, place: int, found: tuple[float, float, float], form: str, color: str | None = None) -> None:
    draw.interval(ax, place, found, size=6, color=color)
    ax.annotate(form.format(found[0]), (found[0], place), (0, 6), textcoords="offset points", ha="center", fontsize=8)


def _places(ax: Any, heading: str, labels: list[str]) -> None:
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.6)
    ax.margins(x=0.2)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    draw.plain(ax, heading)


def grid_picture(board: pl.DataFrame) -> bytes:
    """Per study, part and budget the NLL of every variant in every domain.

    Colours compare within a domain: the difference to the mean over trained variants, in units of the largest there.
    The base model, often far behind, does not count for that. The board has one row at least.
    """
    groups = _groups(board)
    width = 3.2 + 1.25 * max(part["domain"].n_unique() for _, part in groups)
    heights = [1.4 + 0.34 * part["variant"].n_unique() for _, part in groups]
    figure, axes = draw.new_figure(width, sum(heights), len(groups), 1, squeeze=False, height_ratios=heights)
    for ax, (heading, part) in zip(axes.ravel(), groups, strict=True):
        variants, domains = _variants(part), _domains(part)
        values = np.full((len(variants), len(domains)), np.nan)
        for row in part.iter_rows(named=True):
            values[variants.index(row["variant"]), domains.index(row["domain"])] = row["nll"]
        trained = np.isin(variants, part.filter(pl.col("n_tokens") > 0)["variant"].unique().to_list())
        counted = np.ma.masked_invalid(values[trained] if trained.any() else values)
        offset = values - counted.mean(axis=0).filled(0.0)
        largest = np.abs(counted - counted.mean(axis=0)).max(axis=0).filled(0.0)
        heat = np.divide(offset, largest, out=np.zeros_like(offset), where=largest > 0)
        ax.imshow(heat, cmap=draw.HEAT, vmin=-1.6, vmax=1.6, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            best = value == np.nanmin(values[:, j])
            text = "" if np.isnan(value) else f"{value:.4f}"
            ax.text(j, i, text, ha="center", va="center", fontsize=8, weight="bold" if best else "normal")
        ax.set_xticks(range(len(domains)), domains, fontsize=8, rotation=20, ha="right")
        ax.set_yticks(range(len(variants)), variants, fontsize=8)
        draw.title(ax, f"{heading}: NLL, lower is better")
    return draw.png(figure)


def interval_picture(board: pl.DataFrame) -> bytes | None:
    """The difference of every variant to `random` and to `less`, with its 95 % interval; None if there are none.

    The base model is left out: its distance would leave the others no room.
    """
    compared = pl.any_horizontal(pl.col("minus_random", "minus_less").is_not_null())
    trained = board.filter(pl.col("n_tokens") > 0)
    groups = _groups(trained.filter(compared.any().over("study", "part", "budget")))
    if not groups:
        return None
    n_rows = [part.height + part["domain"].n_unique() for _, part in groups]
    heights = [1.2 + 0.17 * n for n in n_rows]
    shape = {"squeeze": False, "height_ratios": heights, "sharey": "row"}
    figure, axes = draw.new_figure(10, sum(heights), len(groups), 2, **shape)
    for pair, (heading, part) in zip(axes, groups, strict=True):
        lines = [
            (domain, row)
            for domain in _domains(part)
            for row in [None, *part.filter(domain=domain).sort("rank").iter_rows(named=True)]
        ]
        for ax, rival in zip(pair, ("random", "less"), strict=True):
            ax.axvline(0, color="black", linewidth=0.8)
            columns = [f"minus_{rival}{end}" for end in ("", "_low", "_high")]
            for place, (_, row) in enumerate(lines):
                if row and row[columns[0]] is not None:
                    draw.interval(ax, place, [row[column] for column in columns], size=4)
            ax.tick_params(axis="x", labelsize=8)
            ax.grid(axis="x", linewidth=0.3)
            draw.title(ax, f"{heading}: NLL minus that of {rival}")
        labels = [row["variant"] if row else domain for domain, row in lines]
        pair[0].set_yticks(range(len(lines)), labels, fontsize=7)
        for label, (_, row) in zip(pair[0].get_yticklabels(), lines, strict=True):
            label.set_fontweight("normal" if row else "bold")
        pair[0].invert_yaxis()
    return draw.png(figure)


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
