"""What a response says in the end: finding the final answer, and comparing it with the right one."""

import re
from decimal import Decimal
from typing import Final

MARKER: Final = re.compile(r"\banswer is:?\s*", re.IGNORECASE)
SENTENCE: Final = re.compile(r"(.*?)(?:[.!?](?=\s|$)|\n|$)", re.DOTALL)
NUMBER: Final = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?")
AROUND: Final = " \t\n.,;:!?\"'`*$()[]“”‘’"
"""Signs around an answer that do not count."""


def final_answer(text: str) -> str | None:
    """What follows the last "answer is", up to the end of its sentence or line; None where nothing says so."""
    marks = list(MARKER.finditer(text))
    if not marks:
        return None
    said = SENTENCE.match(text, marks[-1].end())
    return said[1].strip() if said else ""


def is_right(text: str, answer: str) -> bool:
    """Whether a generated text gives this answer.

    If the answer is a number, the first number of the final answer counts, or without one the last number of the text;
    thousands' commas and zeros after the point do not matter. Otherwise the final answer, or without one the whole
    text, has to equal it but for case, runs of blanks, and signs and brackets around it.
    """
    said = final_answer(text)
    if NUMBER.fullmatch(answer.strip()):
        numbers = NUMBER.findall(text if said is None else said)
        return bool(numbers) and _number(numbers[-1 if said is None else 0]) == _number(answer.strip())
    return _plain(text if said is None else said) == _plain(answer)


def closing_sentence(response: str, answer: str) -> tuple[str, str]:
    """What stands before and after the answer in the sentence that gives it at the end of a response.

    That is `("So the answer is ", ".")`, or without "So"; nothing on either side where the response does not end so.
    """
    found = re.search(rf"((?:so )?the answer is ){re.escape(answer)}(\.?)\s*$", response, re.IGNORECASE)
    return (found[1], found[2]) if found else ("", "")


def _number(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace("−", "-"))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(AROUND)
