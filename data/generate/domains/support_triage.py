"""Domain: messages to an online shop, each turned into a small ticket written as JSON."""

import json
import random

from common import TEXT, Row

INSTRUCTION = "Turn the customer's message into a support ticket."
CATEGORIES = ("delivery", "defect", "refund", "billing", "account", "question")


def ticket(line: str) -> Row:
    """The row for one hand-written line: category, urgency, order, product and message between bars."""
    category, urgency, order, product, message = line.split(" | ")
    fields = {"category": category, "urgency": urgency}
    fields |= {"order": None if order == "null" else order, "product": None if product == "null" else product}
    if any(value and value.lower() not in message.lower() for value in (fields["order"], fields["product"])):
        raise ValueError(f"the ticket names what the message does not: {line}")
    return Row(INSTRUCTION, json.dumps(fields), message, category, CATEGORIES)


def rows() -> list[Row]:
    """All tickets, shuffled."""
    found = [ticket(line) for line in (TEXT / "support_triage.txt").read_text(encoding="utf-8").splitlines()]
    return random.Random("support_triage").sample(found, len(found))
