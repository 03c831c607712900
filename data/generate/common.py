"""What every generator shares: the row, the dealing of templates, the hand-written text format. No template is here."""

import csv
import json
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

TEXT = Path(__file__).parent / "text"
LICENSE = "Apache-2.0"


@dataclass(frozen=True)
class Row:
    """One example before it gets its id."""

    instruction: str
    output: str
    input: str = ""
    answer: str = ""
    choices: tuple[str, ...] = ()

    def trigrams(self) -> set[tuple[str, ...]]:
        """The distinct runs of three lower-cased words in the row."""
        words = re.findall(r"\w+", f"{self.instruction} {self.input} {self.output}".lower())
        return set(zip(words, words[1:], words[2:], strict=False))


Template = Callable[[random.Random], Row]


def shared(row: Row, other: Row) -> float:
    """The share of the row's trigrams that the other row has too."""
    mine = row.trigrams()
    return len(mine & other.trigrams()) / len(mine)


def pick(rng: random.Random, options: str) -> str:
    """One of the options written between bars."""
    return rng.choice(options.split("|"))


def picks(rng: random.Random, count: int, options: str) -> list[str]:
    """So many different ones of the options written between bars."""
    return rng.sample(options.split("|"), count)


def deal(name: str, templates: Sequence[Template], count: int, limit: float) -> list[Row]:
    """Rows from the templates in turn, none sharing more than the limit of its trigrams with another."""
    rng = random.Random(name)
    rows: list[Row] = []
    while len(rows) < count:
        for template in rng.sample(templates, min(len(templates), count - len(rows))):
            rows.append(_fresh(template, rng, rows, limit))
    return rows


def _fresh(template: Template, rng: random.Random, rows: Iterable[Row], limit: float) -> Row:
    """A row of the template that is far enough from the rows so far."""
    for _ in range(400):
        row = template(rng)
        if all(max(shared(row, other), shared(other, row)) <= limit for other in rows):
            return row
    raise ValueError(f"template {template.__name__} has too little variety for the limit {limit}")


def blocks(name: str) -> list[dict[str, str]]:
    """The hand-written blocks of text/NAME.txt: fields start with a capital word and a colon, '---' ends a block."""
    found = []
    for block in (TEXT / f"{name}.txt").read_text(encoding="utf-8").split("\n---\n"):
        parts = re.split(r"^([A-Z]+): ?", block.strip("\n"), flags=re.MULTILINE)
        found.append({key: value.strip("\n") for key, value in zip(parts[1::2], parts[2::2], strict=True)})
    return found


def written(name: str) -> list[Row]:
    """The rows of a hand-written file: Q is the instruction, IN the input, A the output."""
    return [Row(block["Q"], block["A"], block.get("IN", "")) for block in blocks(name)]


def save(path: Path, prefix: str, source: str, rows: Iterable[Row]) -> None:
    """Write the rows, numbered from 1, in the form that the file's name ends with."""
    records: list[dict[str, object]] = []
    for number, row in enumerate(rows, start=1):
        prompt = f"{row.instruction}\n\n{row.input}" if row.input else row.instruction
        said = FORMS["".join(path.suffixes)](row, prompt)
        extra = ({"answer": row.answer} if row.answer else {}) | ({"choices": list(row.choices)} if row.choices else {})
        records.append({"id": f"{prefix}:{number}", "source": source, "license": LICENSE, **said, **extra})
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name.replace(".messages", "")).open("w", encoding="utf-8", newline="\n") as file:
        if path.suffix == ".csv":
            table = csv.DictWriter(file, list(records[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(records)
        elif path.suffix == ".json":
            file.write(json.dumps(records, ensure_ascii=False, indent=1) + "\n")
        else:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


FORMS: dict[str, Callable[[Row, str], dict[str, object]]] = {
    ".jsonl": lambda row, _: {"instruction": row.instruction, "input": row.input, "output": row.output},
    ".csv": lambda row, prompt: {"question": prompt, "answer": row.output},
    ".messages.jsonl": lambda row, prompt: {
        "messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": row.output}]
    },
    ".json": lambda row, prompt: {
        "conversations": [{"from": "human", "value": prompt}, {"from": "gpt", "value": row.output}]
    },
}
"""What a record says by the endings of a file's name: Alpaca's columns, a question, OpenAI's turns, ShareGPT's."""
