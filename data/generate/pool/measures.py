"""Pool: conversions of units, percentages, areas and rates, with a sentence or two of reasoning."""

import random

from common import Row, pick


def metric(r: random.Random) -> Row:
    """A conversion between metric units."""
    big, small, factor = pick(
        r,
        "kilometers,meters,1000|kilograms,grams,1000|meters,centimeters,100|"
        "liters,milliliters,1000|tonnes,kilograms,1000|hours,minutes,60|"
        "minutes,seconds,60",
    ).split(",")
    n, f = r.randint(2, 48), int(factor)
    if r.random() < 0.5:
        return Row(
            f"{pick(r, 'Convert|Change|Turn')} {n} {big} into {small}.",
            f"There are {f} {small} in one of the {big}, so {n} {big} equal {n} x {f} = {n * f} {small}.",
        )
    return Row(
        f"{pick(r, 'A sign shows|A form lists|My notes say')} {n * f} {small}. How much is that in {big}?",
        f"Going from {small} to {big} means dividing by {f}: {n * f} / {f} = {n}. It is {n} {big}.",
    )


def old_units(r: random.Random) -> Row:
    """A mixed quantity in the smaller unit."""
    name, small, factor = pick(
        r, "feet,inches,12|yards,feet,3|pounds,ounces,16|gallons,quarts,4|dozen,pieces,12|weeks,days,7|gallons,pints,8"
    ).split(",")
    n, extra, f = r.randint(2, 15), r.randint(1, int(factor) - 1), int(factor)
    hint = pick(r, "Start with the larger unit.|Convert the larger unit first.|Take the two parts one after the other.")
    return Row(
        f"How many {small} are {n} {name} and {extra} {small}?",
        f"{hint} Since {f} {small} make up one of the {name}, {n} {name} are {n} x {f} = {n * f} {small}. "
        f"Then add the remaining {extra}: {n * f} + {extra} = {n * f + extra} {small}.",
    )


def percent_of(r: random.Random) -> Row:
    """A percentage of a number."""
    p, base = r.choice([5, 10, 15, 20, 25, 30, 40, 60, 75, 80]), r.randint(2, 30) * 20
    thing, what = pick(
        r,
        "voters,said yes|trees in the park,are oaks|seats in the hall,are taken|passengers,change "
        "here|"
        "survey answers,are blank|employees,cycle to work",
    ).split(",")
    return Row(
        f"{p} percent of {base} {thing} {what}. What number is that?",
        f"{p} percent means {p} out of every 100. Multiply {base} x {p} = {base * p} and divide by 100 to get "
        f"{base * p} / 100 = {base * p // 100}.",
    )


def what_percent(r: random.Random) -> Row:
    """One number as a percentage of another."""
    p, base = r.choice([5, 12, 20, 25, 35, 40, 48, 60, 70, 84]), r.choice([50, 100, 200, 300, 400])
    part = base * p // 100
    return Row(
        f"{pick(r, 'A laboratory tested|An orchard grew|A museum restored|A zoo weighed')} {base} "
        f"{pick(r, 'samples|items|specimens')}, and {part} of them were {pick(r, 'perfect|unusual|damaged')}. "
        f"What percentage is this?",
        f"A percentage compares the part with the whole. Here {part} x 100 = {part * 100}, and {part * 100} / "
        f"{base} = {p}, which means {p} percent.",
    )


def rectangle(r: random.Random) -> Row:
    """The area or the perimeter of a rectangle."""
    a, b = r.randint(4, 25), r.randint(3, 18)
    shape = pick(r, "a rectangular garden|a tennis hall|a sheet of glass|a chapel floor|a solar field|a poster wall")
    if r.random() < 0.5:
        return Row(
            f"Find the area of {shape} that measures {a} m by {b} m.",
            f"The area of a rectangle is its length multiplied by its width. {a} x {b} = {a * b}, therefore "
            f"it covers {a * b} square meters.",
        )
    return Row(
        f"What is the perimeter of {shape} with sides of {a} m and {b} m?",
        f"The perimeter is twice the sum of the two sides. The sum is {a} + {b} = {a + b} and twice that is 2 "
        f"x {a + b} = {2 * (a + b)}, so the perimeter is {2 * (a + b)} meters.",
    )


def box_volume(r: random.Random) -> Row:
    """The volume of a box in liters."""
    a, b, c = (r.randint(2, 12) for _ in range(3))
    return Row(
        f"{pick(r, 'An aquarium|A crate|A concrete block|A freezer drawer')} is {a} dm long, {b} dm wide and "
        f"{c} dm high. Give its volume in liters.",
        f"One cubic decimeter is exactly one liter. The volume is length times width times height: {a} x {b} "
        f"= {a * b}, and {a * b} x {c} = {a * b * c}. That makes {a * b * c} liters.",
    )


def temperature(r: random.Random) -> Row:
    """Celsius to Fahrenheit or back."""
    c = r.randint(-4, 20) * 5
    f = c * 9 // 5 + 32
    if r.random() < 0.5:
        return Row(
            f"{pick(r, 'A weather report|An oven dial|A science kit|A thermometer')} gives {c} degrees "
            f"Celsius. What is this in Fahrenheit?",
            f"Multiply by nine, divide by five and add 32. {c} x 9 = {c * 9}, {c * 9} / 5 = {c * 9 // 5}, and "
            f"{c * 9 // 5} + 32 = {f}. The temperature is {f} degrees Fahrenheit.",
        )
    return Row(
        f"An American {pick(r, 'cookbook|pilot|doctor|manual')} mentions {f} degrees Fahrenheit. Translate it "
        f"to Celsius.",
        f"To go back to Celsius, subtract 32 and take five ninths. {f} - 32 = {f - 32}, and {f - 32} x 5 / 9 "
        f"= {c}. So it is {c} degrees Celsius.",
    )


def map_scale(r: random.Random) -> Row:
    """A real distance from a map."""
    k, cm = r.choice([10, 20, 25, 50, 100]), r.randint(3, 24)
    meters = k * 1000 * cm // 100
    return Row(
        f"On a map with a scale of 1:{k}000, two {pick(r, 'churches|bridges|peaks|wells')} are {cm} cm apart. "
        f"How far apart are they in reality?",
        f"One centimeter on the map stands for {k}000 centimeters, that is {k * 10} meters. {cm} x {k * 10} = "
        f"{meters}, so the real distance is {meters} meters.",
    )


def speed(r: random.Random) -> Row:
    """Distance divided by time."""
    hours, v = r.randint(2, 6), r.randint(18, 48)
    return Row(
        f"{pick(r, 'A tugboat|A flock of geese|A ferry|A storm front|An electric bus')} travels {hours * v} "
        f"km in {hours} hours at a steady pace. What is its speed?",
        f"Speed is the distance divided by the time. {hours * v} / {hours} = {v}, so it moves at {v} "
        f"kilometers per hour.",
    )


def proportion(r: random.Random) -> Row:
    """Work that grows with the workers."""
    n, each, m = r.randint(3, 8), r.randint(4, 15), r.randint(9, 20)
    who, verb, what = pick(
        r, "printers,print,pages|bees,visit,flowers|pumps,move,barrels|weavers,finish,rugs|gardeners,plant,bushes"
    ).split(",")
    return Row(
        f"If {n} {who} {verb} {n * each} {what} in an hour, how many {what} do {m} {who} {verb} in an hour?",
        f"A single one manages {n * each} / {n} = {each} {what} in the hour. With {m} {who} the number rises "
        f"to {m} x {each} = {m * each} {what}.",
    )


TEMPLATES = [
    metric,
    old_units,
    percent_of,
    what_percent,
    rectangle,
    box_volume,
    temperature,
    map_scale,
    speed,
    proportion,
]
