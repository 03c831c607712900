"""Pool: small logic puzzles with the reasoning that solves them."""

import random

from common import Row, pick, picks

WOMEN, MEN = "Ada|Dora|Fay|Hedi|Judy|Lola", "Ben|Cem|Emil|Gus|Ian|Karl"
PEOPLE = f"{WOMEN}|{MEN}"


def taller(r: random.Random) -> Row:
    """Four people in an order."""
    a, b, c, d = picks(r, 4, PEOPLE)
    more, most, least = pick(
        r, "taller,tallest,shortest|older,oldest,youngest|faster,fastest,slowest|heavier,heaviest,lightest"
    ).split(",")
    top = r.random() < 0.5
    clues = r.sample([f"{a} is {more} than {b}.", f"{b} is {more} than {c}.", f"{c} is {more} than {d}."], 3)
    return Row(
        f"{' '.join(clues)} Who is the {most if top else least}?",
        f"Chaining the clues gives {a}, then {b}, then {c}, then {d}, from the {most} down. {a if top else d} "
        f"is the {most if top else least}.",
    )


def knights(r: random.Random) -> Row:
    """A claim by a knight or a knave."""
    a, b = picks(r, 2, PEOPLE)
    claim = pick(
        r,
        f"We are both knaves.|At least one of us is a knave.|{b} and I are of different kinds.|{b} and I "
        f"are of the same kind.",
    )
    setup = f'On an island knights always tell the truth and knaves always lie. {a} says: "{claim}" What '
    if "both" in claim:
        return Row(
            f"{setup}are {a} and {b}?",
            f"A knight could not truthfully say this, so {a} is a knave and the "
            f"sentence is false. As {a} is a knave, it can only be false because "
            f"{b} is a knight.",
        )
    if "least" in claim:
        return Row(
            f"{setup}are {a} and {b}?",
            f"If {a} were a knave, the sentence would be true, which a knave "
            f"cannot say. So {a} is a knight, the sentence holds, and the knave "
            f"must be {b}.",
        )
    kind = "knave" if "different" in claim else "knight"
    return Row(
        f"{setup}can be said about {b}?",
        f"Suppose {a} is a knight: the claim is true and {b} is a {kind}. Suppose {a} is a knave: the claim "
        f"is false, and {b} is again a {kind}. Either way {b} is a {kind}, while {a} may be either.",
    )


def syllogism(r: random.Random) -> Row:
    """What follows from two statements about groups."""
    a, b, c = picks(r, 3, "bakers|pilots|chess players|gardeners|poets|night owls|vegetarians|swimmers|collectors")
    form = r.randrange(4)
    if form == 0:
        return Row(
            f"All {a} are {b}. All {b} are {c}. Must all {a} be {c}?",
            f"Yes. Anyone among the {a} is one of the {b}, and all of those are {c}, so the conclusion follows.",
        )
    if form == 1:
        return Row(
            f"All {a} are {c}. Some {c} are {b}. Does it follow that some {a} are {b}?",
            f"No. The {c} who "
            f"are {b} need not "
            f"be among the {a}; "
            f"they may be other "
            f"{c}. The "
            f"conclusion can be "
            f"false while both "
            f"statements are true.",
        )
    if form == 2:
        return Row(
            f"No {a} are {b}. All {c} are {b}. Can any of the {c} belong to the {a}?",
            f"No. Every one of the "
            f"{c} is among the "
            f"{b}, and nobody "
            f"there belongs to the "
            f"{a}. So the two "
            f"groups have no "
            f"member in common.",
        )
    return Row(
        f"Some {a} are {b}. All {b} are {c}. Are some {a} certainly {c}?",
        f"Yes. Take one of the {a} who is among the {b}. As all {b} are {c}, this person is one of the {c} too.",
    )


def seating(r: random.Random) -> Row:
    """Four people on four seats."""
    names = picks(r, 4, PEOPLE)
    place = pick(r, "on a bench|in a row at the cinema|in a canoe, front to back")
    clues = [
        f"{names[0]} has the first place.",
        f"{names[3]} is not next to {names[0]}.",
        f"{names[1]} is right after {names[0]}.",
    ]
    clues.append(f"{names[2]} is not last.")
    return Row(
        f"{', '.join(sorted(names))} sit {place}. {' '.join(r.sample(clues, 4))} Give the order.",
        f"{names[0]} is first and {names[1]} comes directly after, so places three and four are left. "
        f"{names[2]} is not last and must be third, which leaves the fourth place for {names[3]}. The order "
        f"is {', '.join(names)}.",
    )


def pets(r: random.Random) -> Row:
    """Three owners of three animals."""
    a, b, c = picks(r, 3, PEOPLE)
    x, y, z = picks(r, 3, "cat|turtle|parrot|hamster|snake|pony")
    first = pick(r, f"Neither the {x} nor the {y} belongs to {a}.|{a} owns neither the {x} nor the {y}.")
    return Row(
        f"{a}, {b} and {c} each own one animal: a {x}, a {y} or a {z}. {first} {b} does not own the {x}. Who "
        f"owns what?",
        f"The {x} and the {y} are not an option for {a}, so {a} owns the {z}. {b} does not have the {x} and "
        f"the {z} is taken, so {b} owns the {y}. The {x} is left for {c}.",
    )


def implication(r: random.Random) -> Row:
    """What follows from a rule and an observation."""
    cause, effect, no_cause, no_effect = pick(
        r,
        "it rains,the street is wet,it does not rain,the street is not wet|"
        "the alarm is on,the light is red,the alarm is off,the light is not "
        "red|"
        "the shop is open,the flag is up,the shop is closed,the flag is "
        "down|the engine runs,the fan turns,the engine stands still,the fan "
        "stands still",
    ).split(",")
    form = r.randrange(3)
    rule = f"Suppose that whenever {cause}, {effect}."
    if form == 0:
        return Row(
            f"{rule} Now {no_effect}. What follows?",
            f"If it were so that {cause}, then we would find that "
            f"{effect}. We do not, so the condition fails: "
            f"{no_cause}.",
        )
    if form == 1:
        return Row(
            f"{rule} Now {effect}. Can we be sure that {cause}?",
            f"No. The rule works in one direction only. There may be another reason why {effect}.",
        )
    return Row(
        f"{rule} Now {no_cause}. What can be said?",
        f"Nothing certain. The rule is silent about the case that {no_cause}, so either result is possible.",
    )


def family(r: random.Random) -> Row:
    """A relative across two generations."""
    first, second, result = pick(
        r,
        "mother,mother,a grandmother|father,mother,a grandfather|sister,mother,an aunt|"
        "brother,father,an uncle|"
        "father,father,a grandfather|sister,father,an aunt|brother,mother,an uncle|"
        "mother,father,a grandmother",
    ).split(",")
    a, b = pick(r, WOMEN if first in ("mother", "sister") else MEN), pick(r, WOMEN if second == "mother" else MEN)
    c = pick(r, PEOPLE)
    if len({a, b, c}) < 3:
        return family(r)
    return Row(
        f"{a} is the {first} of {b}, and {b} is the {second} of {c}. How is {a} related to {c}?",
        f"{b} is a parent of {c}, namely the {second}. The {first} of a parent is {result}, so {a} is {result} of {c}.",
    )


def boxes(r: random.Random) -> Row:
    """Three boxes with one true label."""
    a, b, c = picks(r, 3, "red|blue|green|white|black|yellow")
    prize = pick(r, "coin|key|ring|letter|map")
    return Row(
        f"A {prize} lies in the {a}, the {b} or the {c} box. Exactly one label is true. {a.capitalize()}: "
        f'"The {prize} is in here." {b.capitalize()}: "The {prize} is not in here." {c.capitalize()}: '
        f'"The {prize} is not in the {a} box." Where is it?',
        f"In the {a} box, the labels on {a} and {b} would both be true. In the {c} box, those on {b} and {c} "
        f"would be. Only with the {prize} in the {b} box is a single label true, the one on {c}. So it is in "
        f"the {b} box.",
    )


def exchange(r: random.Random) -> Row:
    """Who has what after two swaps."""
    a, b, c = picks(r, 3, PEOPLE)
    x, y, z = picks(r, 3, "a drum|a kite|a lamp|a book|a mug|a hat")
    held = {a: x, b: y, c: z}
    moves = [r.sample([a, b, c], 2) for _ in range(2)]
    if set(moves[0]) == set(moves[1]):
        return exchange(r)
    told = []
    for p, q in moves:
        held[p], held[q] = held[q], held[p]
        told.append(f"after {p} and {q} swap, {p} has {held[p]} and {q} has {held[q]}")
    return Row(
        f"{a} has {x}, {b} has {y} and {c} has {z}. First {moves[0][0]} and {moves[0][1]} swap, then "
        f"{moves[1][0]} and {moves[1][1]} swap. What does {a} have now?",
        f"Follow the swaps: {told[0]}; {told[1]}. At the end {a} has {held[a]}.",
    )


def pigeonhole(r: random.Random) -> Row:
    """How many to take to be certain."""
    kinds, thing = r.randint(3, 6), pick(r, "socks|gloves|marbles|buttons|ribbons")
    want = r.choice([2, 2, 3])
    need = kinds * (want - 1) + 1
    return Row(
        f"A dark drawer contains many {thing} in {kinds} colors. How many must you take to be certain of "
        f"{want} of the same color?",
        f"In the worst case you draw {want - 1} of every color first, which makes {kinds} x {want - 1} = "
        f"{kinds * (want - 1)}. One more must repeat a color, so {kinds * (want - 1)} + 1 = {need} are enough.",
    )


TEMPLATES = [taller, knights, syllogism, seating, pets, implication, family, boxes, exchange, pigeonhole]
