"""Domain shop_arithmetic, first half: buying, selling and stock."""

import random

from common import Row, pick, picks

from domains.shop_working import NAMES, Working, price, shown


def baked_and_sold(r: random.Random) -> Row:
    """Goods on trays, less those sold."""
    item, place = pick(r, "rolls|muffins|scones|bagels|pretzels|croissants"), pick(r, "bakery|café|station kiosk")
    trays, each = r.randint(4, 9), r.randint(8, 18)
    sold = r.randint(10, trays * each - 6)
    w = Working()
    baked = w.step(f"All {item}", trays, "*", each)
    w.step("Unsold", baked, "-", sold)
    return w.row(
        f"A {place} puts {trays} trays of {item} on the counter at opening, {each} to a tray. "
        f"By {pick(r, 'noon|closing time|half past three')}, {sold} are gone. How many {item} remain?"
    )


def two_kinds_of_goods(r: random.Random) -> Row:
    """Two quantities at two prices."""
    a, b = picks(r, 2, "notebooks|pens|mugs|candles|postcards|tea towels|plant pots|jars of honey|soap bars")
    n, m, p, q = r.randint(2, 7), r.randint(2, 6), price(r, 1, 5), price(r, 2, 8)
    w = Working()
    first = w.step(f"Cost of the {a}", n, "*", p)
    second = w.step(f"Cost of the {b}", m, "*", q)
    w.step("Total", first, "+", second)
    return w.row(
        f"{pick(r, NAMES)} picks up {n} {a} at ${shown(p)} apiece and {m} {b} at ${shown(q)} apiece. "
        f"{pick(r, 'What does the till show?|How many dollars is that in all?')}"
    )


def change_from_note(r: random.Random) -> Row:
    """Money back from a banknote."""
    item = pick(r, "sandwiches|smoothies|tram tickets|museum passes|ice creams|slices of cake")
    n, p, note = r.randint(2, 5), price(r, 2, 3), r.choice([20, 50])
    w = Working()
    cost = w.step("To pay", n, "*", p)
    w.step("Change", note, "-", cost)
    return w.row(
        f"{pick(r, NAMES)} hands over a ${note} note for {n} {item} that cost ${shown(p)} each. "
        f"How much money comes back, in dollars?"
    )


def percent_off(r: random.Random) -> Row:
    """A price after a reduction."""
    item, full, off = (
        pick(r, "raincoat|toaster|backpack|desk lamp|kettle|tent"),
        r.randint(3, 12) * 20,
        r.choice([5, 10, 15, 20, 25, 30]),
    )
    w = Working()
    percent = w.step("One percent", full, "/", 100)
    cut = w.step("Reduction", percent, "*", off)
    w.step("Sale price", full, "-", cut)
    return w.row(
        f"In the {pick(r, 'spring|autumn|closing-down|weekend')} sale a ${full} {item} is marked {off}% off. "
        f"What does {pick(r, NAMES)} pay for it, in dollars?"
    )


def stock_over_days(r: random.Random) -> Row:
    """Stock after daily sales and a delivery."""
    item, per, days = (
        pick(r, "lemons|batteries|newspapers|roses|umbrellas|phone cases"),
        r.randint(6, 15),
        r.randint(3, 6),
    )
    start, fresh = per * days + r.randint(5, 40), r.randint(12, 48)
    w = Working()
    gone = w.step("Sold", per, "*", days)
    left = w.step("Left", start, "-", gone)
    w.step("After the delivery", left, "+", fresh)
    return w.row(
        f"{pick(r, NAMES)}'s kiosk stocks {start} {item} and sells {per} of them daily. After {days} days a "
        f"supplier "
        f"drops off {fresh} new ones. What is the stock of {item} then?"
    )


def packs_and_singles(r: random.Random) -> Row:
    """Pieces in packs and loose, less those used."""
    item, pack = pick(r, "paper cups|light bulbs|yogurts|tennis balls|sponges|juice boxes"), r.choice([4, 6, 8, 10, 12])
    packs, extra, used = r.randint(3, 9), r.randint(2, 7), r.randint(5, 11)
    w = Working()
    boxed = w.step("In packs", packs, "*", pack)
    owned = w.step("With the loose ones", boxed, "+", extra)
    w.step("Remaining", owned, "-", used)
    return w.row(
        f"The shelf holds {packs} sealed packs of {pack} {item} plus {extra} loose ones. "
        f"{pick(r, NAMES)} uses {used} for {pick(r, 'a party|the staff room|a picnic|the school fair')}. "
        f"Count what is on the shelf now."
    )


def cut_fabric(r: random.Random) -> Row:
    """What the rest of a roll is worth."""
    thing, stuff = pick(r, "curtain,fabric|apron,linen|banner,cloth|kite,nylon|cushion,velvet").split(",")
    each, n = r.randint(2, 4), r.randint(5, 12)
    roll = each * n + r.randint(3, 15)
    p = r.randint(4, 9)
    w = Working()
    used = w.step("Meters used", each, "*", n)
    left = w.step("Meters left", roll, "-", used)
    w.step("Worth", left, "*", p)
    return w.row(
        f"From a {roll}-meter roll of {stuff} a tailor sews {n} {thing}s, taking {each} meters for every one. "
        f"The {stuff} costs ${p} a meter. What is the unused part of the roll worth in dollars?"
    )


def profit_on_stall(r: random.Random) -> Row:
    """Takings less the costs of a stall."""
    item, n = pick(r, "lemonades|waffles|tote bags|bracelets|kebabs|bouquets"), r.randint(15, 40)
    p, fee = r.randint(3, 7), r.randint(10, 25)
    cost = r.randint(8, n * p - fee - 1)
    w = Working()
    takings = w.step("Takings", n, "*", p)
    spent = w.step("Costs", fee, "+", cost)
    w.step("Profit", takings, "-", spent)
    return w.row(
        f"At the {pick(r, 'street market|summer fair|night market')} {pick(r, NAMES)} sells {n} {item} for "
        f"${p} each. "
        f"The pitch cost ${fee} and the supplies ${cost}. What profit does the stall make, in dollars?"
    )


def crates_of_fruit(r: random.Random) -> Row:
    """Takings from what arrived fit to sell."""
    fruit, crates, kilos = pick(r, "plums|cherries|pears|grapes|mangoes|peaches"), r.randint(4, 9), r.randint(6, 14)
    bad, p = r.randint(2, 9), r.randint(2, 5)
    w = Working()
    bought = w.step("Kilos delivered", crates, "*", kilos)
    good = w.step("Kilos fit to sell", bought, "-", bad)
    w.step("Takings", good, "*", p)
    return w.row(
        f"A grocer receives {crates} crates of {fruit}, {kilos} kg in each, but {bad} kg arrive "
        f"{pick(r, 'bruised|spoiled|squashed')}. "
        f"The rest sells at ${p} per kilo. How many dollars does it bring in?"
    )


def half_then_some(r: random.Random) -> Row:
    """Half of a number, less a gift."""
    item, total, gift = (
        pick(r, "cookies|stickers|dumplings|truffles|seed packets"),
        r.randint(12, 40) * 2,
        r.randint(3, 9),
    )
    w = Working()
    kept = w.step("Half", total, "/", 2)
    w.step("Kept", kept, "-", gift)
    return w.row(
        f"Out of {total} {item} {pick(r, NAMES)} sells half, then gives {gift} to "
        f"{pick(r, 'a cousin|the postman|two regulars|a teacher')}. "
        f"How many {item} are kept?"
    )


def loyalty_points(r: random.Random) -> Row:
    """Old points and those of a purchase."""
    points, n, p = r.choice([5, 10]), r.randint(3, 8), r.randint(6, 15)
    old = r.randint(40, 160)
    w = Working()
    spent = w.step("Spent", n, "*", p)
    new = w.step("New points", spent, "*", points)
    w.step("Balance", new, "+", old)
    return w.row(
        f"The {pick(r, 'pet shop|deli|garden center|toy store')} gives {points} points per dollar. "
        f"{pick(r, NAMES)} had {old} points and now pays for {n} "
        f"{pick(r, 'gift boxes|bags of feed|puzzles|herb plants')} at ${p}. What is the new points balance?"
    )


def print_job(r: random.Random) -> Row:
    """Sheets left after printing on both sides."""
    copies, pages, sheet = r.randint(12, 30), r.randint(3, 8) * 2, r.choice([250, 500])
    w = Working()
    each = w.step("Sheets per copy", pages, "/", 2)
    used = w.step("Sheets used", int(each), "*", copies)
    w.step("Sheets left", sheet, "-", used)
    return w.row(
        f"The copy shop prints {copies} {pick(r, 'menus|programs|catalogs|manuals')} of {pages} pages, on "
        f"both sides of the paper, from a ream of {sheet} sheets. "
        f"How many sheets has {pick(r, NAMES)} got left?"
    )


def older_price(r: random.Random) -> Row:
    """What a higher price adds to an order."""
    item, n, was = pick(r, "coffee|olive oil|basmati rice|cat food|flour"), r.randint(3, 9), r.randint(5, 11)
    up = r.randint(1, 3)
    w = Working()
    now = w.step("New price", was, "+", up)
    before = w.step("Order before", n, "*", was)
    after = w.step("Order now", n, "*", now)
    w.step("Difference", after, "-", before)
    return w.row(
        f"A bag of {item} was ${was} and has gone up by ${up}. The "
        f"{pick(r, 'canteen|corner shop|youth club|snack bar')} orders {n} bags. "
        f"How many dollars more is that order than before?"
    )


TEMPLATES = [
    baked_and_sold,
    two_kinds_of_goods,
    change_from_note,
    percent_off,
    stock_over_days,
    packs_and_singles,
    cut_fabric,
    profit_on_stall,
    crates_of_fruit,
    half_then_some,
    loyalty_points,
    print_job,
    older_price,
]
