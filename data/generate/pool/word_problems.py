"""Pool: arithmetic stories from farms, schools, factories and sports, explained in running prose."""

import random

from common import Row, pick, picks


def harvest(r: random.Random) -> Row:
    """Plants in rows, less those lost."""
    crop, rows, plants, lost = (
        pick(r, "cabbages|pumpkins|sunflowers|leeks|melons"),
        r.randint(6, 14),
        r.randint(9, 20),
        r.randint(5, 30),
    )
    total = rows * plants
    return Row(
        f"A farmer planted {rows} rows of {crop} with {plants} plants in every row. "
        f"{pick(r, 'Hail|Frost|Snails|Rabbits')} destroyed {lost} of them. "
        f"How many {crop} could still be harvested?",
        f"The field started with {rows} rows of {plants}, which makes {rows} x {plants} = {total} {crop}. "
        f"Because {lost} were destroyed, "
        f"the farmer can harvest {total} - {lost} = {total - lost} of them.",
    )


def factory_line(r: random.Random) -> Row:
    """Output of a machine, less the rejects."""
    thing, rate, hours, bad = (
        pick(r, "bolts|chairs|bottles|toy trains|shoes"),
        r.randint(12, 45),
        r.randint(6, 9),
        r.randint(3, 25),
    )
    made = rate * hours
    return Row(
        f"Machine {pick(r, 'A|B|C|D')} in a factory makes {rate} {thing} per hour and ran for {hours} hours. "
        f"Quality control rejected {bad}. Find the number of good {thing}.",
        f"In {hours} hours the machine produced {rate} x {hours} = {made} {thing}. Taking away the {bad} "
        f"rejected ones leaves {made} - {bad} = {made - bad} good {thing}.",
    )


def library_shelves(r: random.Random) -> Row:
    """Books on shelves in bookcases."""
    cases, shelves, books = r.randint(3, 8), r.randint(4, 7), r.randint(15, 30)
    total = cases * shelves * books
    return Row(
        f"In a {pick(r, 'village|school|university|prison|hospital')} library there are {cases} bookcases. "
        f"Each bookcase has {shelves} shelves and each shelf holds {books} books. How many books does the "
        f"library have room for?",
        f"One bookcase has room for {shelves} x {books} = {shelves * books} books, since it has {shelves} "
        f"shelves of {books}. "
        f"With {cases} bookcases that gives {cases} x {shelves * books} = {total} books altogether.",
    )


def train_distance(r: random.Random) -> Row:
    """A distance at two speeds."""
    v, t, u, s = r.randint(8, 13) * 10, r.randint(2, 5), r.randint(4, 7) * 10, r.randint(1, 4)
    a, b = v * t, u * s
    return Row(
        f"A {pick(r, 'freight train|sports car|courier van|motorcycle|camper van')} moves at {v} "
        f"kilometers per hour for {t} hours, then slows to {u} kilometers per hour for {s} more hours. What "
        f"distance has it covered?",
        f"Distance is speed multiplied by time. The fast part covers {v} x {t} = {a} km and the slow part "
        f"covers {u} x {s} = {b} km. Together that is {a} + {b} = {a + b} km.",
    )


def ages(r: random.Random) -> Row:
    """The sum of two ages in some years."""
    young, times, years = r.randint(7, 12), r.randint(3, 5), r.randint(3, 15)
    old = young * times
    who = pick(r, "aunt|coach|trainer|uncle|neighbor")
    return Row(
        f"A girl is {young} years old, and her {who} is {times} times as old. What will be the sum of their "
        f"ages in {years} years?",
        f"Today the {who} is {young} x {times} = {old}. In {years} years the girl will be {young} + {years} = "
        f"{young + years} and the {who} will be {old} + {years} = {old + years}. "
        f"Adding the two ages gives {young + years} + {old + years} = {young + old + 2 * years}.",
    )


def class_groups(r: random.Random) -> Row:
    """Teams of those who are present."""
    size, groups, absent = r.randint(3, 6), r.randint(4, 8), r.randint(2, 4)
    pupils = size * groups + absent
    return Row(
        f"There are {pupils} pupils in a class, but {absent} of them "
        f"{pick(r, 'are ill|are at a contest|missed the bus')} today. The "
        f"{pick(r, 'teacher|gym coach|music teacher')} forms teams of {size}. How many teams are there?",
        f"First remove the pupils who are missing: {pupils} - {absent} = {pupils - absent} are present. "
        f"Dividing them into teams of {size} gives {pupils - absent} / {size} = {groups} teams.",
    )


def tank(r: random.Random) -> Row:
    """A tank that fills and leaks."""
    rate, out, minutes, start = r.randint(9, 25), r.randint(2, 8), r.randint(6, 20), r.randint(2, 15) * 10
    net = rate - out
    return Row(
        f"A {pick(r, 'water tank|swimming pool|fish pond|cistern')} contains {start} liters. A tap adds "
        f"{rate} liters a minute while a leak loses {out} liters a minute. How much water is inside after "
        f"{minutes} minutes?",
        f"Every minute the content grows by {rate} - {out} = {net} liters. Over {minutes} minutes that adds "
        f"{net} x {minutes} = {net * minutes} liters, so in the end there are {start} + {net * minutes} = "
        f"{start + net * minutes} liters.",
    )


def match_points(r: random.Random) -> Row:
    """Points of a season."""
    wins, draws, lost = r.randint(4, 14), r.randint(2, 8), r.randint(2, 6)
    team = pick(r, "The Falcons|Our village club|The junior team|A handball side|The Otters")
    return Row(
        f"{team} won {wins} games, drew {draws} and lost {lost}. A win is worth 3 points, a draw 1 and a "
        f"defeat nothing. Calculate the points from the season.",
        f"The wins bring {wins} x 3 = {wins * 3} points. The draws add one point each, so {draws} more, and "
        f"the {lost} defeats add nothing. In total the team has {wins * 3} + {draws} = {wins * 3 + draws} "
        f"points.",
    )


def reading_book(r: random.Random) -> Row:
    """Pages left in a book."""
    per, days, rest = r.randint(14, 38), r.randint(4, 9), r.randint(20, 120)
    pages = per * days + rest
    title = pick(r, "a detective novel|a biography|an atlas of birds|a play|a fantasy trilogy")
    return Row(
        f"{pick(r, 'A student|My brother|The critic|An actor')} reads {per} pages of {title} every evening. "
        f"The book has {pages} pages. How many pages are unread after {days} evenings?",
        f"After {days} evenings the reader has finished {per} x {days} = {per * days} pages. The number of "
        f"unread pages is therefore {pages} - {per * days} = {rest}.",
    )


def fence_posts(r: random.Random) -> Row:
    """Posts along a line, both ends included."""
    gap, spaces = r.choice([2, 3, 4, 5]), r.randint(8, 30)
    length = gap * spaces
    return Row(
        f"Posts are set along a straight {pick(r, 'fence|path|riverbank|runway')} of {length} meters, one "
        f"every {gap} meters, with a post at both ends. How many posts are needed?",
        f"There are {length} / {gap} = {spaces} gaps between neighboring posts. Since both ends carry a post, "
        f"there is one post more than there are gaps: {spaces} + 1 = {spaces + 1} posts.",
    )


def average_score(r: random.Random) -> Row:
    """The mean of four scores."""
    scores = [r.randint(50, 95) for _ in range(4)]
    scores[3] += (4 - sum(scores) % 4) % 4
    total, subject = sum(scores), pick(r, "geography|physics|spelling|driving|swimming")
    return Row(
        f"In four {subject} tests someone scored {scores[0]}, {scores[1]}, {scores[2]} and {scores[3]} "
        f"points. What is the mean score?",
        f"To find the mean, add the scores and divide by how many there are. The sum is {scores[0]} + "
        f"{scores[1]} + {scores[2]} + {scores[3]} = {total}, and {total} / 4 = {total // 4}, so the mean is "
        f"{total // 4} points.",
    )


def ratio_split(r: random.Random) -> Row:
    """One part of a mixture."""
    a, b, unit = r.randint(2, 5), r.randint(1, 4), r.randint(4, 20)
    b += a == b
    first, second = picks(r, 2, "sand|cement|gravel|clay|lime")
    total = (a + b) * unit
    return Row(
        f"A builder mixes {first} and {second} in the ratio {a}:{b}. The finished mixture weighs {total} "
        f"kilograms. How much {first} is in it?",
        f"The ratio {a}:{b} means {a} + {b} = {a + b} equal parts. Each part weighs {total} / {a + b} = "
        f"{unit} kilograms. The {first} makes up {a} parts, which is {a} x {unit} = {a * unit} kilograms.",
    )


def legs(r: random.Random) -> Row:
    """Two kinds of animals by their legs."""
    many, few = r.randint(5, 18), r.randint(4, 20)
    four, two = pick(r, "goats,hens|cows,geese|donkeys,ducks|dogs,ostriches").split(",")
    count, feet = many + few, 4 * many + 2 * few
    return Row(
        f"On a meadow there are {count} animals, only {four} and {two}. Together they have {feet} legs. How "
        f"many {four} are there?",
        f"If all {count} animals were {two}, there would be {count} x 2 = {2 * count} legs. There are {feet} "
        f"- {2 * count} = {feet - 2 * count} legs more than that, and each of the {four} accounts for two "
        f"extra legs. So there are {feet - 2 * count} / 2 = {many} {four}.",
    )


TEMPLATES = [
    harvest,
    factory_line,
    library_shelves,
    train_distance,
    ages,
    class_groups,
    tank,
    match_points,
    reading_book,
    fence_posts,
    average_score,
    ratio_split,
    legs,
]
