"""Rows that depend on a number alone, and files of rows."""

import json
from pathlib import Path

WORDS = ("apple", "bread", "cloud", "drum", "eagle", "flute", "grape", "house", "island", "jacket")


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    """Write rows, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


UNREMARKABLE = {"tools": None, "truncated": False, "lost": [], "n_thoughts": 0, "preferred": False, "n_merged": 1}
"""What a table says of a row of which there is nothing to say."""


def answered(messages: list[dict[str, str]], response: str) -> list[dict[str, str]]:
    """All turns of a row."""
    return [*messages, {"role": "assistant", "content": response}]


def arithmetic_row(n: int, source: str = "sums") -> dict[str, object]:
    """A row whose content depends on n alone."""
    a, b = n % 17 + 1, n // 17 + 2
    word = WORDS[n % len(WORDS)]
    return {
        "id": f"{source}:{n}",
        "source": source,
        "license": "Apache-2.0",
        "instruction": f"Add {a} {word}s and {b} {word}s." if source == "sums" else f"Spell {word} and {a * 100 + b}.",
        "input": "",
        "output": f"{a} + {b} = {a + b}. The answer is {a + b}."
        if source == "sums"
        else f"{'-'.join(word)} {a * 100 + b}",
    }
