"""Pool: times of day, durations and time zones, answered in full sentences."""

import random
from datetime import datetime, timedelta

from common import Row, pick


def some_time(r: random.Random, first: int, last: int) -> datetime:
    """A time of day with the hour between the two."""
    return datetime(2024, 6, 1, r.randint(first, last), r.randrange(60))


def spoken(value: datetime) -> str:
    """A time as 3:05 PM."""
    return f"{(value.hour - 1) % 12 + 1}:{value:%M} {'PM' if value.hour >= 12 else 'AM'}"


def to_24(r: random.Random) -> Row:
    """A time in 24-hour notation."""
    value = some_time(r, 13, 23)
    return Row(
        pick(
            r,
            f'Write {spoken(value)} as a 24-hour time.|My friend texts "{spoken(value)}". What is that '
            f"on a 24-hour display?",
        ),
        f"Afternoon and evening hours are found by adding 12 to the hour: {value.hour - 12} + 12 = "
        f"{value.hour}. The time is {value:%H:%M}.",
    )


def from_24(r: random.Random) -> Row:
    """A time in 12-hour notation."""
    value = some_time(r, 13, 23)
    return Row(
        pick(
            r,
            f"How do you say {value:%H:%M} with AM or PM?|A European timetable shows {value:%H:%M}. Put "
            f"that into American style.",
        ),
        f"Hours above 12 are written as PM after taking away 12: {value.hour} - 12 = {value.hour - 12}. So "
        f"you say {spoken(value)}.",
    )


def cooking(r: random.Random) -> Row:
    """When a dish is done."""
    start, minutes = some_time(r, 8, 18), r.randint(35, 190)
    dish = pick(r, "lasagna|stew|loaf of bread|roast|cheesecake")
    end = start + timedelta(minutes=minutes)
    return Row(
        f"A {dish} goes into the oven at {spoken(start)} and has to bake for {minutes} minutes. At what time "
        f"is it done?",
        f"{minutes} minutes are {minutes // 60} x 60 + {minutes % 60} minutes. Adding this to {spoken(start)} "
        f"shows that the {dish} is done at {spoken(end)}.",
    )


def film(r: random.Random) -> Row:
    """The minutes between two times."""
    start, minutes = some_time(r, 17, 20), r.randint(84, 165)
    end = start + timedelta(minutes=minutes)
    show = pick(r, "film|opera|documentary|circus show|football match")
    return Row(
        f"The {show} began at {spoken(start)} and was over at {spoken(end)}. How many minutes did it last?",
        f"Count from {spoken(start)} to {spoken(end)}: {minutes // 60} full hour{'s' * (minutes >= 120)} and "
        f"{minutes % 60} minutes pass. In minutes this is {minutes // 60} x 60 + {minutes % 60} = {minutes}.",
    )


def zones(r: random.Random) -> Row:
    """A local time from UTC."""
    offset, value = r.choice([-8, -6, -5, -3, 2, 3, 5, 8, 9]), some_time(r, 9, 14)
    where = value + timedelta(hours=offset)
    sign = "plus" if offset > 0 else "minus"
    return Row(
        f"A {pick(r, 'ship|satellite station|newsroom|stock exchange')} keeps UTC {sign} {abs(offset)} hours. "
        f"What is its local time when it is {value:%H:%M} UTC?",
        f"{'Add' if offset > 0 else 'Subtract'} {abs(offset)} hours {'to' if offset > 0 else 'from'} "
        f"{value:%H:%M}. The local time there is {where:%H:%M}.",
    )


def seconds(r: random.Random) -> Row:
    """Seconds as hours, minutes and seconds."""
    h, m, s = r.randint(1, 3), r.randint(1, 59), r.randint(1, 59)
    total = h * 3600 + m * 60 + s
    return Row(
        f"{pick(r, 'A marathon clock|A stopwatch|A data log|A podcast player')} reads {total} seconds. "
        f"Express it in hours, minutes and seconds.",
        f"One hour has 3600 seconds, and {total} contains {h} of them with {total - h * 3600} seconds over. "
        f"Those are {m} full minutes with {s} seconds left. The result is {h} h {m} min {s} s.",
    )


def angle(r: random.Random) -> Row:
    """The angle between the hands of a clock."""
    hour, minute = r.randint(1, 11), r.choice([0, 20, 30, 40])
    raw = abs(hour * 30 + minute // 2 - minute * 6)
    small = min(raw, 360 - raw)
    return Row(
        f"What is the smaller angle between the hands of a clock at {hour}:{minute:02d}?",
        f"The minute hand is at {minute * 6 % 360} degrees from the top and the hour hand at "
        f"{hour * 30 + minute // 2} degrees, as it moves half a degree a minute. The smaller angle between "
        f"them is {small} degrees.",
    )


def watch_drift(r: random.Random) -> Row:
    """The error of a clock after some days."""
    per, days = r.randint(2, 9), r.randint(5, 20)
    fast = r.random() < 0.5
    verb, word = ("gains", "ahead") if fast else ("loses", "behind")
    return Row(
        f"An old {pick(r, 'pocket watch|church clock|grandfather clock|kitchen clock')} {verb} {per} minutes "
        f"every day. It was set right today. How wrong is it after {days} days?",
        f"The error grows by {per} minutes a day, so after {days} days it is {per} x {days} = {per * days} "
        f"minutes. The clock will be {per * days} minutes {word}.",
    )


def earlier(r: random.Random) -> Row:
    """The time some minutes before."""
    value, minutes = some_time(r, 7, 20), r.randint(15, 150)
    before = value - timedelta(minutes=minutes)
    return Row(
        f"{pick(r, 'The bell rang|The siren sounded|The storm hit|The baby woke up')} at {spoken(value)}. "
        f"What time was it {minutes} minutes before that?",
        f"Going back {minutes} minutes from {spoken(value)} takes us to {spoken(before)}.",
    )


TEMPLATES = [to_24, from_24, cooking, film, zones, seconds, angle, watch_drift, earlier]
