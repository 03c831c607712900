"""What an evaluation says of an adapter, in words: for the terminal and for the page."""

from collections.abc import Mapping
from typing import Final

OTHERS: Final = {"base": "the base model", "random": "a random subset of the same size"}
"""What the adapter is compared with, by the name that metrics have."""


def compared(low: float, high: float) -> str:
    """What an interval of a loss difference says."""
    return "better than" if high < 0 else "worse than" if low > 0 else "not told apart from"


def verdict_with_intervals(evaluation: Mapping[str, int | float | str], n_rows: int) -> str:
    """One sentence with what was measured on so many rows: differences of the loss, with their intervals."""
    said = []
    for other, name in (OTHERS | {"random": "one trained on random rows"}).items():
        mean, low, high = (float(evaluation[f"minus_{other}{end}"]) for end in ("", "_low", "_high"))
        numbers = f"difference in loss {mean:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}".replace("-", "\u2212")
        said.append(f"{compared(low, high)} {name} ({numbers})")
    where = f"On {n_rows:,} test rows" if evaluation["split"] == "test" else f"On its own {n_rows:,} validation rows"
    doubt = "" if evaluation["split"] == "test" else ", which is only indicative"
    return f"{where} this adapter is {said[0]} and {said[1]}, one training seed each{doubt}."


def verdict(evaluation: Mapping[str, int | float | str]) -> str:
    """One sentence from the metrics of `finetune/evaluation`."""
    said = [
        f"{compared(float(evaluation[f'minus_{other}_low']), float(evaluation[f'minus_{other}_high']))} {name}"
        for other, name in OTHERS.items()
    ]
    if evaluation["split"] != "test":
        return f"On its own validation rows, so only indicative, G2IS is {said[0]} and {said[1]}. Add test.jsonl."
    return f"Here G2IS is {said[0]} and {said[1]} (one seed)."
