"""What the shop sums share: the worked solution, each step of which is computed as it is written down."""

import operator
import random
from decimal import Decimal

from common import Row

NAMES = "Maya|Omar|Lena|Tariq|Ines|Jonas|Priya|Kofi|Greta|Mateo|Yuki|Selma|Aidan|Noor|Bruno|Hanna"
Number = int | Decimal
SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def shown(value: Number) -> str:
    """A number as written in a step: whole, or with two decimals."""
    return str(int(value)) if value == int(value) else f"{value:.2f}"


class Working:
    """The steps of a solution, each computed as it is written."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.last: Number = 0

    def step(self, label: str, left: Number, sign: str, right: Number) -> Number:
        """Add one labelled step and return its value."""
        self.last = SIGNS[sign](Decimal(left), right)
        self.lines.append(f"{label}: {shown(left)} {sign} {shown(right)} = {shown(self.last)}.")
        return self.last

    def row(self, question: str) -> Row:
        """The finished row; the last step is the answer."""
        answer = shown(self.last)
        return Row(question, "\n".join([*self.lines, f"The answer is {answer}."]), answer=answer)


def price(r: random.Random, low: int, high: int) -> Decimal:
    """A price in dollars that ends in .00, .25, .50 or .75."""
    return Decimal(r.randint(low * 4, high * 4)) / 4
