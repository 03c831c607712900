"""Text for people: that of others made harmless, Markdown for the UI, and what an evaluation says in words."""

import base64
import math
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl
from polars import selectors as cs

COMMANDS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that command a terminal, tabs and ends of lines apart; the last make it show text in another order."""
Metrics = Mapping[str, int | float | str]
Cell = str | int | float | bool | None
Cells = list[dict[str, Cell]]
"""A small table of plain text and numbers: a record a row."""
GUESS: Final = 0.9
"""Share of the loss of a blind guess, ln(vocabulary), from which on a base model is said to be guessing."""
OTHERS: Final = {"base": "the base model", "random": "a random subset of the same size"}
"""What an adapter is compared with, by the name that metrics have."""


def printable(text: str) -> str:
    """The text in one line, without the characters that would move the cursor, recolour the screen or reorder text."""
    return readable(" ".join(text.split()))


def beginning(text: str, limit: int) -> str:
    """The beginning of a text in one line of at most `limit` characters, with dots where it is cut: between words."""
    line = printable(text[: 4 * limit])
    if len(line) <= limit and len(text) <= 4 * limit:
        return line
    last = line.rfind(" ", 2 * limit // 3, limit)
    return f"{line[: last if last > 0 else limit - 1].rstrip()}…"


def readable(text: str) -> str:
    """The text without such characters, with its lines and tabs as they are."""
    return COMMANDS.sub("\ufffd", text.replace("\r\n", "\n"))


def counted(n: int, one: str, many: str = "") -> str:
    """A number of things in words: `1 row`, `1,000 rows`; where more than an `s` differs, with both said."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def percent(share: float, digits: int = 0) -> str:
    """A share in words: `6.6 %`."""
    return f"{100 * share:.{digits}f} %"


def folded(lines: Iterable[str], width: int) -> list[str]:
    """Lines of at most `width` characters, as far as words go: what is cut off goes on below, set in a little."""
    found: list[str] = []
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        whole = {"break_long_words": False, "break_on_hyphens": False}
        found += textwrap.wrap(line, width, subsequent_indent=f"{indent}    ", **whole) or [line]  # type: ignore[arg-type]
    return found


class Difference(NamedTuple):
    """Mean score of an adapter less that of another model, with its 95 % interval over rows.

    Of losses it is in nats per token, of right answers a share.
    """

    mean: float
    low: float
    high: float

    @property
    def word(self) -> str:
        """What the interval of a loss says: below 0 is better."""
        return "better than" if self.high < 0 else "worse than" if self.low > 0 else "not told apart from"

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def difference_to(other: str, metrics: Metrics, score: str = "") -> Difference:
    """The difference to one of `OTHERS`, or to `served`, from the metrics of `finetune/evaluation`.

    `score` is empty for losses, `right_` for right answers.
    """
    return Difference(*(float(metrics[f"{score}minus_{other}{end}"]) for end in ("", "_low", "_high")))


def points_to(other: str, metrics: Metrics) -> str | None:
    """By how many points of a hundred more answers are right, with the interval; None where that can tell nothing.

    Where all rows come out alike, resampling them gives an interval without width, which chance does not.
    """
    if f"right_minus_{other}" not in metrics:
        return None
    found = difference_to(other, metrics, "right_")
    mean, low, high = (f"{100 * share + 0.0:+.0f}" for share in found)
    return f"{mean} points [{low}, {high}]" if found.low < found.high else None


def measure_to(other: str, metrics: Metrics) -> str:
    """The same relative to the other's loss, and as perplexities."""
    then, now = (float(metrics[f"nll_{model}"]) for model in (other, "g2is"))
    word = "lower" if now <= then else "higher"
    change = percent(abs(now - then) / max(then, 1e-9), 1)
    return f"loss {change} {word}, perplexity {_perplexity(now)} after {_perplexity(then)}"


def _perplexity(nll: float) -> str:
    value = math.exp(min(nll, 700.0))
    return f"{value:,.{2 if value < 10 else 1 if value < 1000 else 0}f}"


def right_answers(metrics: Metrics) -> str | None:
    """How many rows every model answered rightly; None where no row has an answer that can be judged."""
    if not metrics["n_asked"]:
        return None
    if not _any_right(metrics):
        return f"No model gets any of {counted(int(metrics['n_asked']), 'row')} right"
    others = {"base": "base model", "random": "random subset", "served": "served before"}
    beside = [
        ": ".join(filter(None, (f"{name} {metrics[f'n_right_{key}']}", points_to(key, metrics))))
        for key, name in others.items()
        if f"n_right_{key}" in metrics
    ]
    return f"{metrics['n_right_g2is']} of {counted(int(metrics['n_asked']), 'answer')} right ({'; '.join(beside)})"


def _any_right(metrics: Metrics) -> bool:
    return any(number for name, number in metrics.items() if name.startswith("n_right_"))


def guessing(metrics: Metrics) -> str | None:
    """What is to be said of a base model that does no better than drawing tokens blindly; None of any other."""
    nll, n = float(metrics["nll_base"]), int(metrics["n_vocabulary"])
    if nll < GUESS * math.log(n):
        return None
    return (
        f"The base model is guessing: its loss of {nll:.2f} nats is about that of drawing every token blindly from "
        f"{n:,} ({math.log(n):.2f}), so that no difference to it says what an adapter is worth."
    )


def against_served(metrics: Metrics) -> str | None:
    """Before, now and difference of an adapter and the one whose place it takes; None where there is no other."""
    if "nll_served" not in metrics:
        return None
    found, then, now = difference_to("served", metrics), float(metrics["nll_served"]), float(metrics["nll_g2is"])
    said = f"served before NLL {then:.4f}, this one {now:.4f} on {metrics['split']} rows: {found}"
    return f"{said}, {found.word} it; {measure_to('served', metrics)}"


def serving(served: Path | None, adapter: Path, metrics: Metrics) -> str:
    """Which adapter is served after an evaluation, and what it takes the place of, or why it does not."""
    before = against_served(metrics)
    if served == adapter:
        return f"The newest adapter is served; {before}" if before else "The newest adapter is served."
    decided = ", ".join(
        f"{name} {float(metrics[f'validation_minus_{name}']):+.4f}"
        for name in ("base", "random", "served")
        if f"validation_minus_{name}" in metrics
    )
    still = f"{served / 'adapter'} is still served" if served else "none is served yet"
    why = f"its loss on the validation rows less that of the others is {decided}, and has to be below 0 for all"
    force = 'promote = "always" in domain.toml serves it all the same'
    return "; ".join(filter(None, (f"The newest adapter is not served: {why}; {force}", still, before))) + "."


def better_where_it_decides(metrics: Metrics) -> bool:
    """Whether an adapter's mean loss on the validation rows is below that of everything that it is compared with."""
    return all(float(metrics.get(f"validation_minus_{other}", -1)) < 0 for other in ("base", "random", "served"))


def verdict(metrics: Metrics) -> str:
    """Right answers where there are some, then the loss in one sentence, from the metrics of `finetune/evaluation`."""
    said = " and ".join(
        f"{difference_to(other, metrics).word} {name} ({measure_to(other, metrics)})" for other, name in OTHERS.items()
    )
    if guess := guessing(metrics):
        found = guess
    elif metrics["split"] != "test":
        found = f"On its own validation rows, so only indicative, G2IS is {said}. Add test.jsonl."
    else:
        found = f"Here G2IS is {said} (one seed)."
    right = [f"{said}." for said in [right_answers(metrics)] if said]
    return " ".join([*right, found] if _any_right(metrics) else [found, *right])


def result(metrics: Metrics) -> str:
    """The verdict, and what is to be said beside the adapter served before, where there is one."""
    if "nll_served" not in metrics or guessing(metrics):
        return verdict(metrics)
    said = f"{difference_to('served', metrics).word} the adapter served before ({measure_to('served', metrics)})"
    return f"{verdict(metrics)} It is {said}."


SHOWN: Final = 80
"""Characters of a text that a cell shows."""
ID_SHOWN: Final = 8
"""Characters of an id or a digest that are shown, enough for `g2is why`."""
_ID: Final = re.compile(r"[0-9a-f]{32,64}")
_MARKUP: Final = re.compile(r"[\\`*_{}\[\]()#!|~$<>&\"':@]|(?<=www)\.", re.IGNORECASE)
"""What Markdown or HTML would take for markup, or for the beginning of a link. It becomes entities, which mean only
themselves to both; a backslash would not stop an HTML parser, and shows in what is taken for an address."""


def escaped(text: str, limit: int = SHOWN) -> str:
    """Text in one line, cut, that Markdown and HTML show as it is."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", beginning(text, limit))


def cell(value: Any, limit: int = SHOWN) -> Cell:
    """A value as a cell of a table of plain text; texts are cut, ids and digests to their first characters."""
    if isinstance(value, float):
        return rounded(value)
    if value is None or isinstance(value, int):
        return value
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text[:ID_SHOWN] if _ID.fullmatch(text) else beginning(text, limit)


def rounded(value: float) -> float:
    """A number for people: with four decimals; of one near 0, three digits that count."""
    return round(value, 4) if abs(value) >= 0.01 else float(f"{value:.3g}")


def cells(rows: pl.DataFrame, limit: int = SHOWN) -> Cells:
    """A small table for people, without vectors and nested records."""
    kept = rows.select(~(cs.array() | cs.struct() | cs.list(cs.struct())))
    return [{name: cell(value, limit) for name, value in row.items()} for row in kept.iter_rows(named=True)]


def picture(png: bytes, alt: str) -> str:
    """A picture that needs no file beside the text."""
    return f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode()})"
