"""Numbers of the page's charts: what is drawn where, in per cent of a chart's side, with the words beside it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import polars as pl

from g2is_assets.reports.page.material import Material
from g2is_assets.reports.words import difference_to, points_to

MODELS: Final = {
    "base": "Base model",
    "random": "Random rows",
    "served": "Served before",
    "g2is": "This adapter",
}
"""Models by the names that metrics and scores have; of those that an evaluation does not have, nothing is shown."""
TIE: Final = 0.01
"""Losses of a row that differ by less, in nats per token, are a tie: 1 % in perplexity."""
MAX_LINES: Final = 6
"""Walks of which the course is drawn."""
MAX_MARKS: Final = 300
"""Places of a line: of more, as many, evenly spaced."""


class Axis(NamedTuple):
    """A scale from `low` to `high` with its ticks: place in per cent, and label."""

    low: float
    high: float
    ticks: list[tuple[str, str]]

    def at(self, value: float) -> str:
        """Where a value lies, in per cent."""
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}"


def axis(values: Iterable[float], n_ticks: int = 4) -> Axis:
    """An axis that all values lie on, with room at both ends and about so many ticks at round numbers."""
    found = list(values)
    low, high = min(found), max(found)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - room, high + room
    rough = (high - low) / n_ticks
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(factor * power - rough))
    digits, first = max(0, -math.floor(math.log10(step))), math.ceil(low / step)
    scale = Axis(low, high, [])
    for number in range(first, math.floor(high / step) + 1):
        scale.ticks.append((scale.at(number * step), signed(number * step + 0.0, digits)))
    return scale


def signed(value: float, digits: int) -> str:
    """A number with a true minus sign."""
    return f"{value:.{digits}f}".replace("-", "\u2212")


def losses(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The result as a picture: each model's loss, and round the others' the interval of the difference to this one."""
    known = [key for key in MODELS if f"nll_{key}" in metrics]
    own = float(metrics["nll_g2is"])
    rows: list[dict[str, Any]] = []
    for key in known:
        loss, than = float(metrics[f"nll_{key}"]), None if key == "g2is" else difference_to(key, metrics)
        ends = (own - than.high, own - than.low) if than else (loss, loss)
        rows.append({"key": key, "name": MODELS[key], "loss": loss, "ends": ends, "than": than})
    scale = axis([value for row in rows for value in (row["loss"], *row["ends"])])
    for row in rows:
        row |= {"at": scale.at(row["loss"]), "from": scale.at(row["ends"][0]), "to": scale.at(row["ends"][1])}
    return {"rows": rows, "ticks": scale.ticks, "own": scale.at(own)}


def right_answers(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each model the right answers and how many were asked for, where the rows have some and the evaluation says."""
    asked = int(metrics.get("n_asked", 0))
    right = {key: int(metrics[f"n_right_{key}"]) for key in MODELS if asked and f"n_right_{key}" in metrics}
    return [
        {
            "key": key,
            "name": MODELS[key],
            "n": n,
            "asked": asked,
            "ours": (points_to(key, metrics) or "").partition(" ["),
        }
        for key, n in right.items()
    ]


def contests(scores: pl.DataFrame) -> list[dict[str, Any]]:
    """Of how many rows this adapter has the lower loss, the same within `TIE`, or the higher, model by model."""
    wide = scores.pivot("model", index="row_id", values="nll")
    found = []
    for key in [key for key in MODELS if key != "g2is" and key in wide.columns]:
        change = wide["g2is"] - wide[key]
        counts = {"won": int((change <= -TIE).sum()), "lost": int((change >= TIE).sum())}
        counts["tied"] = len(wide) - sum(counts.values())
        found.append({"name": MODELS[key], "n": len(wide), **counts})
    return found


def course(subset: pl.DataFrame) -> dict[str, Any] | None:
    """How near the rows taken so far come to the domain together, row by row; None of fewer than three rows."""
    walks = [part.sort("step") for _, part in sorted(subset.group_by("component"), key=lambda group: group[0])]
    lines = [("" if len(walks) == 1 else f"component {part['component'][0]}", part) for part in walks if len(part) > 2]
    if not lines:
        return None
    return _lines([(name, part["step"] + 1, part["consistency"]) for name, part in lines[:MAX_LINES]])


def training(material: Material) -> dict[str, Any]:
    """Loss on the validation rows over passes, of this adapter and of that of random rows."""
    logs = ((MODELS["g2is"], material.trained), (MODELS["random"], material.random_trained))
    told = [(name, log.filter(pl.col("validation_loss").is_not_null()).sort("step")) for name, log in logs]
    return _lines([(name, log["epoch"], log["validation_loss"]) for name, log in told if len(log)])


def _lines(lines: Sequence[tuple[str, pl.Series, pl.Series]]) -> dict[str, Any]:
    """Lines in a square of 100 by 100, with the ticks of the upright axis and both ends of the other."""
    across, upright = [value for _, xs, _ in lines for value in xs], axis([y for *_, ys in lines for y in ys])
    first, last = min(across), max(across)
    drawn = []
    for number, (name, xs, ys) in enumerate(lines):
        marks = list(zip(xs, ys, strict=True))
        marks = [*marks[: -1 : -(-len(marks) // MAX_MARKS)], marks[-1]]
        points = [f"{100 * (x - first) / ((last - first) or 1):.2f},{100 - float(upright.at(y)):.2f}" for x, y in marks]
        drawn.append({"name": name, "number": number, "points": " ".join(points)})
    ticks = [(f"{100 - float(place):.2f}", label) for place, label in upright.ticks]
    return {"lines": drawn, "ticks": ticks, "first": f"{first:g}", "last": f"{last:g}"}
