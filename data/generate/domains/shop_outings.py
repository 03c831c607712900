"""Domain shop_arithmetic, second half: kitchens, trips and bills."""

import random

from common import Row, pick, picks

from domains.shop_working import NAMES, Working


def recipe_for_more(r: random.Random) -> Row:
    """Ingredients for more guests, less those at hand."""
    dish, stuff = pick(r, "lentil soup,carrots|pancakes,eggs|chili,tomatoes|curry,onions|fruit salad,apples").split(",")
    base, each, times = r.randint(2, 6), r.randint(2, 7), r.randint(3, 6)
    have = r.randint(1, each * times - 1)
    w = Working()
    batches = w.step("Batches", base * times, "/", base)
    need = w.step(f"{stuff.capitalize()} needed", int(batches), "*", each)
    w.step("Still to buy", need, "-", have)
    return w.row(
        f"A pot of {dish} for {base} people takes {each} {stuff}. {pick(r, NAMES)} is cooking for "
        f"{base * times} "
        f"and finds {have} {stuff} in the {pick(r, 'pantry|fridge|cellar')}. How many more {stuff} must be "
        f"bought?"
    )


def fuel_for_trip(r: random.Random) -> Row:
    """The cost of fuel for a distance."""
    per, litres, cost = r.randint(11, 19), r.randint(8, 30), r.choice([2, 3])
    a, b = picks(r, 2, "the coast|the mountains|the lake|the old harbor|the festival|the national park")
    w = Working()
    used = w.step("Liters", per * litres, "/", per)
    w.step("Fuel cost", used, "*", cost)
    return w.row(
        f"A van drives {per} km on each liter of fuel. From {a} to {b} it is {per * litres} km, and fuel "
        f"sells for "
        f"${cost} a liter. How many dollars does the fuel for that drive cost {pick(r, NAMES)}?"
    )


def shared_bill(r: random.Random) -> Row:
    """A bill with a tip, split evenly."""
    people, each, tip = r.randint(3, 7), r.randint(9, 24), r.randint(4, 12)
    w = Working()
    total = w.step("Bill with tip", people * each - tip, "+", tip)
    w.step("Share", total, "/", people)
    return w.row(
        f"{people} friends eat at a {pick(r, 'noodle bar|pizzeria|tapas place|diner')}. The meal comes to "
        f"${people * each - tip} and they leave ${tip} for the {pick(r, 'waiter|staff|kitchen')}. "
        f"{pick(r, 'Split evenly, what is one share in dollars?|How many dollars must each of them put in?')}"
    )


def seats_and_buses(r: random.Random) -> Row:
    """Seats left in coaches."""
    buses, seats, adults = r.randint(2, 5), r.randint(24, 48), r.randint(4, 11)
    kids = buses * seats - adults - r.randint(3, 20)
    w = Working()
    room = w.step("Seats", buses, "*", seats)
    riders = w.step("Travelers", kids, "+", adults)
    w.step("Free seats", room, "-", riders)
    return w.row(
        f"For the outing to the {pick(r, 'zoo|castle|aquarium|science museum')}, {kids} children and "
        f"{adults} adults board "
        f"{buses} coaches with {seats} seats each. How many seats stay empty?"
    )


def weekly_pass(r: random.Random) -> Row:
    """What a pass saves against single tickets."""
    single, rides, days = r.randint(2, 4), 2, r.randint(5, 7)
    fee = single * rides * days - r.randint(2, 9)
    w = Working()
    trips = w.step("Rides", rides, "*", days)
    alone = w.step("Price of single tickets", trips, "*", single)
    w.step("Saved", alone, "-", fee)
    return w.row(
        f"{pick(r, NAMES)} takes the {pick(r, 'tram|ferry|metro|bus')} to "
        f"{pick(r, 'work|college|the shop|the market')} and back on {days} days. "
        f"A single ride is ${single}; the pass for that time is ${fee}. How many dollars does the pass save?"
    )


def drinks_poured(r: random.Random) -> Row:
    """What is left in a jug."""
    drink, glass, n = (
        pick(r, "iced tea|orange juice|cocoa|cider|ginger ale"),
        r.choice([150, 200, 250, 300]),
        r.randint(6, 16),
    )
    jug = glass * n + r.choice([100, 250, 350, 500])
    w = Working()
    poured = w.step("Milliliters poured", glass, "*", n)
    w.step("Milliliters left", jug, "-", poured)
    return w.row(
        f"{pick(r, NAMES)} mixes {jug} ml of {drink} and fills {n} glasses with {glass} ml each for "
        f"{pick(r, 'the neighbors|a birthday|the team|the wedding guests')}. How many milliliters are left "
        f"in the jug?"
    )


def hotel_nights(r: random.Random) -> Row:
    """Nights, breakfasts and a tax."""
    nights, room, meals, tax = r.randint(2, 6), r.randint(45, 95), r.randint(6, 14), r.randint(2, 4)
    w = Working()
    stay = w.step("Room", nights, "*", room)
    food = w.step("Breakfasts", nights, "*", meals)
    due = w.step("Room and breakfasts", stay, "+", food)
    w.step("With city tax", due, "+", tax)
    return w.row(
        f"{pick(r, NAMES)} stays {nights} nights in a "
        f"{pick(r, 'guest house|hostel|small inn|harbor hotel')}. A night costs ${room}, each morning's "
        f"breakfast ${meals}, "
        f"and the city tax is ${tax} once. What is the whole bill in dollars?"
    )


def tables_set(r: random.Random) -> Row:
    """Things to carry for all guests."""
    tables, seats, late = r.randint(5, 12), r.choice([4, 6, 8]), r.randint(2, 5)
    item, per = pick(r, "forks|napkins|spoons|bread rolls"), r.choice([2, 3])
    w = Working()
    guests = w.step("Guests at tables", tables, "*", seats)
    everyone = w.step("With the late ones", guests, "+", late)
    w.step(item.capitalize(), everyone, "*", per)
    return w.row(
        f"A restaurant lays {tables} tables for {seats} and squeezes in {late} late guests at the bar. "
        f"Everybody gets {per} {item}. "
        f"How many {item} does {pick(r, NAMES)} carry out?"
    )


def phone_plan(r: random.Random) -> Row:
    """A base price and a surcharge."""
    base, rate, free = r.randint(8, 20), r.choice([2, 3]), r.randint(3, 8)
    used = free + r.randint(2, 9)
    w = Working()
    extra = w.step("Gigabytes over", used, "-", free)
    surcharge = w.step("Surcharge", extra, "*", rate)
    w.step("Bill", base, "+", surcharge)
    return w.row(
        f"On {pick(r, NAMES)}'s plan ${base} a month covers {free} gigabytes and each further one costs "
        f"${rate}. "
        f"In {pick(r, 'June|August|October|December')} {used} gigabytes went through. What is the bill for "
        f"that month, in dollars?"
    )


def lengths_of_walk(r: random.Random) -> Row:
    """The last part of a three-day hike."""
    days, first, more = 3, r.randint(8, 15), r.randint(2, 5)
    w = Working()
    second = w.step("Second day", first, "+", more)
    both = w.step("Two days together", first, "+", second)
    total = int(both) + r.randint(6, 14)
    w.step("Third day", total, "-", both)
    return w.row(
        f"A hike of {total} km to the {pick(r, 'hut|lighthouse|monastery|waterfall')} is split over {days} "
        f"days. {pick(r, NAMES)} covers {first} km on the "
        f"first and {more} km more than that on the second. What is left for the third, in km?"
    )


def wages_and_saving(r: random.Random) -> Row:
    """Pay over weeks, less a purchase."""
    hourly, hours, goal = r.randint(11, 18), r.randint(5, 9), pick(r, "bicycle|guitar|camera|winter coat|train pass")
    weeks = r.randint(3, 6)
    w = Working()
    pay = w.step("Pay per week", hourly, "*", hours)
    earned = w.step("Earned", pay, "*", weeks)
    cost = int(earned) - r.randint(10, 90)
    w.step("Left over", earned, "-", cost)
    return w.row(
        f"Working {hours} hours a week at the {pick(r, 'greengrocer|bookshop|pharmacy|florist')}, "
        f"{pick(r, NAMES)} gets ${hourly} an hour. "
        f"After {weeks} weeks, a {goal} for ${cost} is bought from the pay. How many dollars are not spent?"
    )


TEMPLATES = [
    recipe_for_more,
    fuel_for_trip,
    shared_bill,
    seats_and_buses,
    weekly_pass,
    drinks_poured,
    hotel_nights,
    tables_set,
    phone_plan,
    lengths_of_walk,
    wages_and_saving,
]
