"""What the schedule questions share: the three-line reply and ways to write dates and times."""

import random
from datetime import date, datetime, timedelta

from common import Row

NAMES = "Amira|Lukas|Dana|Felix|Rosa|Ivan|Clara|Sami|Nadia|Peter|Wei|Olga|Hugo|Leila"
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def reply(question: str, given: str, work: str, answer: object) -> Row:
    """A row in the form of this domain."""
    return Row(question, f"Given: {given}.\nWork: {work}.\nReply: {answer}", answer=str(answer))


def day(r: random.Random) -> date:
    """Some day in 2025 to 2027."""
    return date(2025, 1, 1) + timedelta(days=r.randrange(1095))


def clock(r: random.Random, first: int, last: int) -> datetime:
    """A time of day on the five minutes, its hour between the two."""
    return datetime(2026, 1, 1, r.randint(first, last), r.randrange(12) * 5)


def said(moment: date) -> str:
    """A date in words: Tuesday 4 March."""
    return f"{moment:%A} {moment.day} {moment:%B}"


def span(minutes: int) -> str:
    """A length of time: 2 h 05 min."""
    return f"{minutes // 60} h {minutes % 60:02d} min"
