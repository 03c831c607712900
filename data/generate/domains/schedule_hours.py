"""Domain schedule_reasoning, second half: times of day and durations."""

import random
from datetime import timedelta

from common import Row, pick

from domains.schedule_reply import NAMES, clock, reply, span


def end_of_event(r: random.Random) -> Row:
    """When something ends."""
    start, length = clock(r, 8, 19), r.randrange(13, 40) * 5
    end = start + timedelta(minutes=length)
    return reply(
        f"The {pick(r, 'first-aid course|choir practice|staff briefing|chess final|pottery class')} opens "
        f"at {start:%H:%M} and takes {span(length)}. When may {pick(r, NAMES)} book the taxi home?",
        f"{start:%H:%M}, length {span(length)}",
        f"the full hours lead to {start + timedelta(hours=length // 60):%H:%M}, then {length % 60} minutes",
        f"{end:%H:%M}",
    )


def length_of_visit(r: random.Random) -> Row:
    """How long something lasted."""
    start, length = clock(r, 7, 13), r.randrange(27, 90) * 5
    end = start + timedelta(minutes=length)
    return reply(
        f"{pick(r, NAMES)} signed in at the {pick(r, 'clinic|archive|laboratory|warehouse|workshop')} at "
        f"{start:%H:%M} and signed out at {end:%H:%M}. How long was that?",
        f"in {start:%H:%M}, out {end:%H:%M}",
        f"{start:%H:%M} to {start + timedelta(hours=length // 60):%H:%M} is {length // 60} hours, plus "
        f"{length % 60} minutes",
        span(length),
    )


def latest_departure(r: random.Random) -> Row:
    """The latest time to leave."""
    due, ride, spare = clock(r, 9, 21), r.randrange(5, 19) * 5, r.choice([10, 15, 20, 30, 40])
    leave = due - timedelta(minutes=ride + spare)
    return reply(
        f"The {pick(r, 'plane boards|ferry sails|exam begins|wedding starts|theater doors close')} at "
        f"{due:%H:%M}. The way there takes {ride} minutes and {pick(r, NAMES)} wants {spare} minutes in "
        f"hand. What is the latest time to leave?",
        f"be there by {due:%H:%M}, {ride} + {spare} minutes before",
        f"{ride} + {spare} = {ride + spare}, counted back from {due:%H:%M}",
        f"{leave:%H:%M}",
    )


def across_zones(r: random.Random) -> Row:
    """The local time in another city."""
    cities = {
        "Lima": -5,
        "New York": -5,
        "Bogota": -5,
        "Accra": 0,
        "Dakar": 0,
        "Vienna": 1,
        "Oslo": 1,
        "Nairobi": 3,
        "Dubai": 4,
        "Karachi": 5,
        "Dhaka": 6,
        "Bangkok": 7,
        "Singapore": 8,
        "Tokyo": 9,
        "Seoul": 9,
    }
    here, there = r.sample(sorted(cities), 2)
    gap = cities[there] - cities[here]
    call = clock(r, 6, 22)
    if gap == 0 or not 0 <= call.hour + gap < 24:
        return across_zones(r)
    side = "ahead of" if gap > 0 else "behind"
    return reply(
        f"In winter {there} is {abs(gap)} hour{'s' * (abs(gap) > 1)} {side} {here}. {pick(r, NAMES)} in "
        f"{here} {pick(r, 'joins a call|goes on air|rings a cousin|sends the file')} at {call:%H:%M} local "
        f"time. What do the clocks in {there} say?",
        f"{here} {call:%H:%M}, {there} {gap:+d} h",
        f"{call.hour} {'+' if gap > 0 else '-'} {abs(gap)} = {call.hour + gap}, minutes stay {call.minute:02d}",
        f"{call + timedelta(hours=gap):%H:%M}",
    )


def doses(r: random.Random) -> Row:
    """The time of a later round."""
    start, gap, n = clock(r, 6, 9), r.choice([3, 4, 6]), r.randint(3, 5)
    hours = gap * (n - 1)
    whom = pick(r, "puppy its drops|calf its milk|patient a tablet|seedlings a spray")
    end = start + timedelta(hours=hours)
    later = "the next day" if end.day != start.day else "the same day"
    return reply(
        f"{pick(r, NAMES)} gives the {whom} every {gap} hours, the first time at {start:%H:%M}. "
        f"At what time comes round number {n}?",
        f"first at {start:%H:%M}, every {gap} hours",
        f"round {n} is {n - 1} gaps later, {n - 1} * {gap} = {hours} hours, {later}",
        f"{end:%H:%M}",
    )


def overnight(r: random.Random) -> Row:
    """A length of time across midnight."""
    start, length = clock(r, 20, 22), r.randrange(62, 140) * 5
    end = start + timedelta(minutes=length)
    to_midnight = 1440 - start.hour * 60 - start.minute
    return reply(
        f"The {pick(r, 'sleeper to Split|night coach|dough|generator|telescope')} {pick(r, NAMES)} looks "
        f"after starts at {start:%H:%M} and stops at {end:%H:%M} the following day. For how long does it run?",
        f"{start:%H:%M} to {end:%H:%M} next day",
        f"{span(to_midnight)} before midnight and {span(length - to_midnight)} after it",
        span(length),
    )


def slots(r: random.Random) -> Row:
    """When a later slot begins."""
    start, each, pause, n = clock(r, 8, 14), r.choice([20, 25, 30, 40]), r.choice([5, 10]), r.randint(3, 7)
    minutes = (n - 1) * (each + pause)
    return reply(
        f"The {pick(r, 'hearings|auditions|vaccinations|piano lessons|job interviews')} last {each} minutes "
        f"with {pause} minutes of pause between them; number one begins at {start:%H:%M}. {pick(r, NAMES)} "
        f"is number {n}. At what time does that turn come?",
        f"start {start:%H:%M}, {each} + {pause} = {each + pause} minutes a slot",
        f"{n - 1} slots earlier, {n - 1} * {each + pause} = {minutes} minutes",
        f"{start + timedelta(minutes=minutes):%H:%M}",
    )


def next_bus(r: random.Random) -> Row:
    """The wait for the next departure."""
    first, gap, wait = (
        clock(r, 6, 8).replace(minute=r.choice([0, 5, 10])),
        r.choice([12, 15, 18, 20, 25]),
        r.randint(4, 12),
    )
    gone = r.randint(1, gap - 2)
    now = first + timedelta(minutes=gap * wait + gone)
    return reply(
        f"From {first:%H:%M} on a {pick(r, 'cable car|shuttle|water taxi|tram')} leaves every {gap} "
        f"minutes. {pick(r, NAMES)} gets to the stop at {now:%H:%M}. How many minutes of waiting is that?",
        f"first {first:%H:%M}, every {gap} minutes, now {now:%H:%M}",
        f"{gap * wait + gone} minutes since the first, the last one left {gone} ago, {gap} - {gone} = {gap - gone}",
        f"{gap - gone} minutes",
    )


def delayed_train(r: random.Random) -> Row:
    """Whether a connection is reached."""
    due, late, change = clock(r, 9, 20), r.randrange(2, 9) * 5, r.randrange(4, 11) * 5
    arrives, leaves = due + timedelta(minutes=late), due + timedelta(minutes=change)
    makes = arrives + timedelta(minutes=5) <= leaves
    return reply(
        f"{pick(r, NAMES)}'s train is due in {pick(r, 'Bern|Graz|Lyon|Porto|Ghent')} at {due:%H:%M} but "
        f"runs {late} minutes late. The connection goes at {leaves:%H:%M} and changing platforms takes 5 "
        f"minutes. Does it work out?",
        f"due {due:%H:%M}, {late} late, connection {leaves:%H:%M}",
        f"in at {arrives:%H:%M}, at the platform by {arrives + timedelta(minutes=5):%H:%M}",
        "yes" if makes else "no",
    )


def weekly_total(r: random.Random) -> Row:
    """A daily length of time over some days."""
    days, each = r.randint(3, 6), r.randrange(13, 30) * 5
    return reply(
        f"On {days} days of the week {pick(r, NAMES)} "
        f"{pick(r, 'rehearses|trains for the marathon|reads to the blind|tutors')} for {span(each)}. How "
        f"much time is that in one week?",
        f"{days} times {span(each)}",
        f"{days} * {each} = {days * each} minutes",
        span(days * each),
    )


def half_day_clock(r: random.Random) -> Row:
    """An end time with am or pm."""
    start, hours = clock(r, 6, 11), r.randint(5, 10)
    end = start + timedelta(hours=hours)
    return reply(
        f"The label on {pick(r, 'the parcel|a parking ticket|the oven|an irrigation timer')} says "
        f"{start.hour}:{start:%M} am, and it is good for {hours} hours. {pick(r, NAMES)} thinks in am and "
        f"pm: until when?",
        f"{start.hour}:{start:%M} am plus {hours} h",
        f"{start.hour} + {hours} = {end.hour}, on the 24-hour clock {end:%H:%M}",
        f"{(end.hour - 1) % 12 + 1}:{end:%M} {'pm' if end.hour >= 12 else 'am'}",
    )


def free_gap(r: random.Random) -> Row:
    """Whether something fits between two meetings."""
    start, first, gap, need = (
        clock(r, 9, 14),
        r.choice([45, 60, 75, 90]),
        r.randrange(5, 16) * 5,
        r.randrange(6, 15) * 5,
    )
    end = start + timedelta(minutes=first)
    back = end + timedelta(minutes=gap)
    return reply(
        f"{pick(r, NAMES)}'s meeting goes from {start:%H:%M} for {first} minutes; at {back:%H:%M} the next "
        f"one begins. Is there room for {pick(r, 'a haircut|a blood test|an interview|a walk')} of {need} "
        f"minutes in between?",
        f"busy until {end:%H:%M}, again from {back:%H:%M}",
        f"the gap is {gap} minutes, {need} are needed",
        "yes" if need <= gap else "no",
    )


TEMPLATES = [
    end_of_event,
    length_of_visit,
    latest_departure,
    across_zones,
    doses,
    overnight,
    slots,
    next_bus,
    delayed_train,
    weekly_total,
    half_day_clock,
    free_gap,
]
