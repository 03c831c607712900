"""Pool: weekdays, dates and calendars, answered in full sentences."""

import calendar
import random
from datetime import date, timedelta

from common import Row, pick

MONTHS = list(calendar.month_name)[1:]


def some_day(r: random.Random) -> date:
    """A day between 1990 and 2035."""
    return date(1990, 1, 1) + timedelta(days=r.randrange(16800))


def in_words(value: date) -> str:
    """A date as March 4, 2025."""
    return f"{value:%B} {value.day}, {value.year}"


def plus_days(r: random.Random) -> Row:
    """The date some days later."""
    start, n = some_day(r), r.randint(5, 45)
    end = start + timedelta(days=n)
    return Row(
        f"{pick(r, 'What date comes|Which date is')} {n} days after {in_words(start)}?",
        f"Counting {n} days forward from {in_words(start)} brings us to {in_words(end)}."
        if end.month == start.month
        else f"{start:%B} has {calendar.monthrange(start.year, start.month)[1]} days, so the count runs over into "
        f"a later month. {n} days after {in_words(start)} the calendar shows {in_words(end)}.",
    )


def minus_weeks(r: random.Random) -> Row:
    """The date some weeks earlier."""
    start, n = some_day(r), r.randint(2, 9)
    end = start - timedelta(weeks=n)
    return Row(
        f"A photograph was taken exactly {n} weeks before {in_words(start)}. Give the date.",
        f"{n} weeks are {n} x 7 = {n * 7} days. Going back {n * 7} days from {in_words(start)} leads to "
        f"{in_words(end)}, which was a {end:%A} as well.",
    )


def leap(r: random.Random) -> Row:
    """Whether a year is a leap year."""
    year = r.choice([1900, 2000, 2100, 2200, 1600, 2400, *range(1984, 2041)])
    if year % 4:
        why = f"{year} cannot be divided by 4 without a remainder, so it is a common year with 365 days."
    elif year % 100:
        why = f"{year} is divisible by 4 and not by 100, so it is a leap year and February has 29 days."
    elif year % 400:
        why = f"{year} is divisible by 100 but not by 400, so in the Gregorian calendar it is not a leap year."
    else:
        why = f"{year} is divisible by 400, so even as a century year it is a leap year."
    return Row(
        pick(
            r,
            f"Is {year} a leap year?|Does the year {year} have a 29th of February?|Please check whether "
            f"{year} is a leap year.",
        ),
        f"{'No' if year % 4 or (year % 100 == 0 and year % 400) else 'Yes'}. {why}",
    )


def month_length(r: random.Random) -> Row:
    """The days of two months."""
    names = r.sample(MONTHS[2:], 2)
    a, b = (calendar.monthrange(2023, MONTHS.index(name) + 1)[1] for name in names)
    return Row(
        f"How many days do {names[0]} and {names[1]} have together?",
        f"{names[0]} has {a} days and {names[1]} has {b} days, and {a} + {b} = {a + b}. Together they have "
        f"{a + b} days.",
    )


def weekday_of(r: random.Random) -> Row:
    """The weekday of a date in a month."""
    first = some_day(r).replace(day=1)
    n = r.randint(9, 28)
    found = first.replace(day=n)
    return Row(
        f"If the first of {first:%B} falls on a {first:%A}, what weekday is the {n}th?".replace("21th", "21st")
        .replace("22th", "22nd")
        .replace("23th", "23rd"),
        f"From the first to that day {n - 1} days go by. That is {(n - 1) // 7} full week{'s' * (n > 14)} "
        f"with {(n - 1) % 7} left over, and full weeks do not change the weekday. Moving on by {(n - 1) % 7} "
        f"from {first:%A} gives {found:%A}.",
    )


def day_of_year(r: random.Random) -> Row:
    """The number of a day in its year."""
    value = date(r.choice([2023, 2025, 2026]), r.randint(2, 6), r.randint(2, 28))
    before = value.timetuple().tm_yday - value.day
    return Row(
        f"Which day of the year is {value:%B} {value.day} in a year with 365 days?",
        f"The full months before {value:%B} have {before} days in all. Adding {value.day} gives {before} + "
        f"{value.day} = {before + value.day}, so it is day number {before + value.day}.",
    )


def iso_format(r: random.Random) -> Row:
    """A date in another notation."""
    value = some_day(r)
    forms = [
        (f"{value.day}/{value.month}/{value.year}, day first,", value.isoformat(), "ISO form year-month-day"),
        (in_words(value), f"{value:%d.%m.%Y}", "form DD.MM.YYYY"),
        (value.isoformat(), in_words(value), "American long form"),
    ]
    given, wanted, form = r.choice(forms)
    return Row(
        f"Rewrite the date {given} in the {form}.",
        f"In the {form} it is written {wanted}; the month is number {value.month} and the day is {value.day}.",
    )


def decade_gap(r: random.Random) -> Row:
    """Years since an event."""
    what, year = pick(
        r,
        "the Eiffel Tower opened,1889|the first Moon landing took place,1969|the Berlin Wall "
        "fell,1989|the French Revolution began,1789|penicillin was discovered,1928|the Titanic "
        "sank,1912|the Suez Canal was opened,1869",
    ).split(",")
    later = r.randint(1995, 2026)
    return Row(
        f"How many years passed from {year}, when {what}, to {later}?",
        f"Subtract the earlier year from the later one: {later} - {year} = {later - int(year)}. So "
        f"{later - int(year)} years passed.",
    )


def quarter(r: random.Random) -> Row:
    """The quarter of a month."""
    month = r.randint(1, 12)
    number = (month + 2) // 3
    names = MONTHS[number * 3 - 3 : number * 3]
    return Row(
        pick(
            r,
            f"In which quarter of the calendar year is {MONTHS[month - 1]}?|A report is due in "
            f"{MONTHS[month - 1]}. Which quarter does that belong to?",
        ),
        f"{MONTHS[month - 1]} is in quarter {number}, because that quarter consists of {names[0]}, {names[1]} "
        f"and {names[2]}.",
    )


def weekend_count(r: random.Random) -> Row:
    """How often a weekday occurs in a month."""
    first = some_day(r).replace(day=1)
    days = calendar.monthrange(first.year, first.month)[1]
    name = r.choice(["Saturday", "Sunday", "Monday", "Friday"])
    found = [n for n in range(1, days + 1) if f"{first.replace(day=n):%A}" == name]
    return Row(
        f"{first:%B} {first.year} starts on a {first:%A} and has {days} days. How many {name}s does it contain?",
        f"The {name}s in that month have the dates {', '.join(map(str, found[:-1]))} and {found[-1]}. "
        f"Counting them gives {len(found)}.",
    )


TEMPLATES = [
    plus_days,
    minus_weeks,
    leap,
    month_length,
    weekday_of,
    day_of_year,
    iso_format,
    decade_gap,
    quarter,
    weekend_count,
]
