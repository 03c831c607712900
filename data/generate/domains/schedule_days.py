"""Domain schedule_reasoning, first half: dates, weekdays and turns."""

import random
from datetime import date, timedelta

from common import Row, pick

from domains.schedule_reply import NAMES, WEEKDAYS, day, reply, said


def weekday_ahead(r: random.Random) -> Row:
    """The weekday so many days ahead."""
    today, n = r.choice(WEEKDAYS), r.randint(16, 90)
    rest, end = n % 7, WEEKDAYS[(WEEKDAYS.index(today) + n) % 7]
    return reply(
        f"{pick(r, NAMES)}'s {pick(r, 'visa|library card|parking permit|gym pass')} runs out {n} days from "
        f"now, and now it is {today}. On which weekday is that?",
        f"{today}, {n} days later",
        f"{n} = {n // 7} * 7 + {rest}, so count {rest} on from {today}",
        end,
    )


def nth_weekday(r: random.Random) -> Row:
    """The date of the second, third or fourth weekday of a month."""
    first, n, target = day(r).replace(day=1), r.randint(2, 4), r.randrange(7)
    hit = first + timedelta(days=(target - first.weekday()) % 7)
    found = hit + timedelta(days=7 * (n - 1))
    nth = {2: "second", 3: "third", 4: "fourth"}[n]
    return reply(
        f"The {pick(r, 'parish council|book club|flea market|bird walk|open stage')} is always on "
        f"the {nth} {WEEKDAYS[target]} of a month. {first:%B} {first.year} begins on a {first:%A}. Which "
        f"date should {pick(r, NAMES)} note?",
        f"1 {first:%B} is a {first:%A}",
        f"the first {WEEKDAYS[target]} is day {hit.day}, and {hit.day} + {7 * (n - 1)} = {found.day}",
        f"{found.day} {found:%B}",
    )


def working_days(r: random.Random) -> Row:
    """The date after so many working days."""
    start, n = day(r), r.randint(4, 9)
    start -= timedelta(days=start.weekday() - r.randrange(5))
    end, left = start, n
    while left:
        end += timedelta(days=1)
        left -= end.weekday() < 5
    return reply(
        f"A {pick(r, 'passport office|dentist lab|tile maker|translator')} needs {n} working days, Monday "
        f"to Friday, not counting the day of the order. {pick(r, NAMES)} orders on {said(start)}. When is "
        f"it done?",
        f"{said(start)}, {n} working days",
        f"{(end - start).days} calendar days, of which {(end - start).days - n} fall on a weekend",
        said(end),
    )


def days_between(r: random.Random) -> Row:
    """Days from one date to one in the next month."""
    start = day(r)
    end = (start.replace(day=1) + timedelta(days=32)).replace(day=r.randint(3, 27))
    rest = (start.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1) - start
    return reply(
        f"From {start.day} {start:%B} {start.year} {pick(r, NAMES)} crosses off each morning until "
        f"{pick(r, 'the due date|moving day|the first concert|the trial')} on {end.day} {end:%B}. How many "
        f"days lie between the two dates?",
        f"{start.day} {start:%B} to {end.day} {end:%B} {end.year}",
        f"{rest.days} days to the end of {start:%B}, then {rest.days} + {end.day} = {(end - start).days}",
        f"{(end - start).days} days",
    )


def rotation(r: random.Random) -> Row:
    """Whose turn it is in a given week."""
    people, n = r.sample(NAMES.split("|"), r.choice([3, 4, 5])), r.randint(11, 30)
    rest = n % len(people)
    who = people[rest - 1]
    return reply(
        f"Week after week {', '.join(people[:-1])} and {people[-1]} take turns "
        f"{pick(r, 'cleaning the stairs|with the night shift|driving the minibus|feeding the hens')}, in "
        f"this order, starting in week 1. Who has week {n}?",
        f"{len(people)} people, week {n}",
        f"{n} = {n // len(people)} * {len(people)} + {rest}, so the place in the round is {rest or len(people)}",
        who,
    )


def common_day(r: random.Random) -> Row:
    """When two cycles next fall together."""
    a, b, both = r.choice([(3, 4, 12), (4, 6, 12), (6, 8, 24), (3, 5, 15), (4, 5, 20), (6, 9, 18), (8, 12, 24)])
    today = day(r)
    return reply(
        f"One {pick(r, 'tram driver|nurse|guard|florist van')} comes to the square every {a} days, another "
        f"every {b} days. Both were there on {said(today)} {today.year}. When do they next meet?",
        f"every {a} and every {b} days from {said(today)}",
        f"the least common multiple of {a} and {b} is {both}, so {both} days on",
        said(today + timedelta(days=both)),
    )


def shift_plan(r: random.Random) -> Row:
    """Whether a day in a shift cycle is worked."""
    on, off, n = r.choice([(4, 2, 30), (4, 3, 40), (5, 2, 33), (3, 2, 28), (2, 2, 25), (6, 3, 50)])
    n += r.randint(0, 9)
    place = (n - 1) % (on + off) + 1
    who, job = pick(r, NAMES), pick(r, "steers the crane|guards the pool|runs the kiln|mans the tower")
    question = pick(
        r,
        f"{who} {job} {on} days and then has {off} days off, again and again. Day 1 is a working day. "
        f"Is day {n} one too?|"
        f"After every {on} shifts come {off} days of rest for {who}, who {job}. The plan starts with shifts. "
        f"Does it ask for work on day {n}?|"
        f"Day {n} of the rota: must {who}, who {job}, show up? It has {on} days on, then {off} off.",
    )
    return reply(
        question,
        f"cycle of {on} + {off} = {on + off} days",
        f"day {n} is day {place} of its cycle, and days 1 to {on} are worked",
        "yes" if place <= on else "no",
    )


def age_on_day(r: random.Random) -> Row:
    """An age on a given day."""
    born, event = date(r.randint(1948, 2012), r.randint(1, 12), r.randint(1, 28)), day(r)
    passed = (event.month, event.day) >= (born.month, born.day)
    age = event.year - born.year - (not passed)
    return reply(
        f"{pick(r, NAMES)} was born on {born.day} {born:%B} {born.year}. How many years old is that on "
        f"{event.day} {event:%B} {event.year}, the day of the {pick(r, 'race|election|jubilee|reunion')}?",
        f"born {born.year}, asked {event.year}",
        f"{event.year} - {born.year} = {event.year - born.year}, "
        f"and the birthday has "
        f"{'passed' if passed else 'not come yet'}",
        age,
    )


def back_from_deadline(r: random.Random) -> Row:
    """The day so many days before another."""
    due, n = day(r), r.randint(9, 26)
    start = due - timedelta(days=n)
    return reply(
        f"The {pick(r, 'cheese|pickle|wine|ham|sourdough starter')} has to rest for {n} days and be ready "
        f"on {said(due)} {due.year}. On what day must {pick(r, NAMES)} begin?",
        f"{said(due)} minus {n} days",
        f"{n // 7} weeks back is {said(due - timedelta(days=n // 7 * 7))}, then {n % 7} days more",
        said(start),
    )


def leap_day(r: random.Random) -> Row:
    """A deadline that may run past the end of February."""
    year, start = r.choice([2023, 2024, 2025, 2026, 2027, 2028]), r.randint(10, 28)
    n = r.randint(start % 10 + 3, 29)
    begin = date(year, 2, start)
    end = begin + timedelta(days=n)
    long = 29 if year % 4 == 0 else 28
    return reply(
        f"{pick(r, NAMES)} pays {pick(r, 'the deposit|a fine|the tuition|an entry fee')} within {n} days of "
        f"{start} February {year}. What is the last possible date?",
        f"{start} February {year} plus {n} days",
        f"February {year} has {long} days, {long - start} remain, "
        f""
        + (f"{n} - {long - start} = {n - long + start} in March" if n > long - start else "so it is still February"),
        f"{end.day} {end:%B}",
    )


TEMPLATES = [
    weekday_ahead,
    nth_weekday,
    working_days,
    days_between,
    rotation,
    common_day,
    shift_plan,
    age_on_day,
    back_from_deadline,
    leap_day,
]
