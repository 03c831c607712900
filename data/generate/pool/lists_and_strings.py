"""Pool: puzzles about words, letters and lists, each with a short account of how it is done."""

import random

from common import Row, pick, picks

WORDS = (
    "lantern|harbor|pepper|orchard|meadow|castle|banana|mirror|rocket|velvet|glacier|cinnamon|balloon|"
    "teacher|mountain|bottle|committee|saddle|pigeon|umbrella|parrot|kitten|compass|anchor|willow|puzzle|"
    "dragon|feather|marble|whistle|raisin|tunnel|coconut|garlic|cabinet|magnet|scooter|blanket|thunder|"
    "oyster"
)


def words(r: random.Random, low: int, high: int) -> list[str]:
    """Between low and high different words."""
    return picks(r, r.randint(low, high), WORDS)


def listed(items: object) -> str:
    """Items joined by commas."""
    return ", ".join(map(str, items))


def backwards(r: random.Random) -> Row:
    """A word read backwards."""
    word = pick(r, WORDS)
    return Row(
        pick(
            r,
            f'Spell the word "{word}" backwards.|Reverse the letters of {word}.|What do you get when '
            f"{word} is read from right to left?",
        ),
        f"The letters in order are {'-'.join(word)}. From the last to the first that gives {word[::-1]}.",
    )


def letter_count(r: random.Random) -> Row:
    """How often a letter occurs."""
    word = r.choice([w for w in WORDS.split("|") if len(set(w)) < len(w)])
    letter = r.choice([c for c in word if word.count(c) > 1])
    spots = [i for i, c in enumerate(word, 1) if c == letter]
    return Row(
        pick(r, f"How many times does the letter {letter} occur in {word}?|Count the {letter}'s in the word {word}."),
        f"Going through {'-'.join(word)}, the letter {letter} stands at positions {listed(spots)}. It occurs "
        f"{len(spots)} times.",
    )


def alphabetical(r: random.Random) -> Row:
    """Words in alphabetical order."""
    items = words(r, 4, 6)
    return Row(
        pick(
            r,
            "Put these words into alphabetical order.|Sort the words from A to Z.|Arrange the following "
            "words as a dictionary would.",
        ),
        f"Comparing first letters, and later letters where they tie, gives {listed(sorted(items))}.",
        listed(items),
    )


def by_length(r: random.Random) -> Row:
    """Words ordered by length."""
    items = words(r, 4, 5)
    if len({len(w) for w in items}) < len(items) - 1:
        return by_length(r)
    done = sorted(items, key=lambda w: (len(w), w))
    return Row(
        "Order the words from shortest to longest; words of one length go alphabetically.",
        f"The lengths are {listed(f'{w} {len(w)}' for w in items)}. The order is therefore {listed(done)}.",
        listed(items),
    )


def vowels(r: random.Random) -> Row:
    """A word without its vowels."""
    word = pick(r, WORDS)
    kept = "".join(c for c in word if c not in "aeiou")
    found = [c for c in word if c in "aeiou"]
    return Row(
        pick(r, f'Remove all vowels from "{word}".|Write {word} without a, e, i, o and u.'),
        f"The vowels in {word} are {listed(found)}. Without them, {kept} remains.",
    )


def evens(r: random.Random) -> Row:
    """The sum of the even or of the odd numbers."""
    items = r.sample(range(2, 99), r.randint(6, 8))
    kind = r.choice(["even", "odd"])
    chosen = [n for n in items if n % 2 == (kind == "odd")]
    if len(chosen) < 2:
        return evens(r)
    return Row(
        pick(
            r,
            f"Which of these numbers are {kind}? Add them up.|Pick the {kind} numbers out of the list and "
            f"give their sum.",
        ),
        f"The {kind} numbers are {listed(chosen)}. Their sum is {' + '.join(map(str, chosen))} = {sum(chosen)}.",
        listed(items),
    )


def sort_numbers(r: random.Random) -> Row:
    """Numbers in order."""
    items = r.sample(range(-40, 160), r.randint(5, 7))
    down = r.random() < 0.5
    done = sorted(items, reverse=down)
    way = "largest to smallest" if down else "smallest to largest"
    return Row(
        f"Sort the list from {way}.",
        f"The {'largest' if down else 'smallest'} entry is {done[0]} and the "
        f"last place goes to {done[-1]}. Sorted: {listed(done)}.",
        listed(items),
    )


def median(r: random.Random) -> Row:
    """The median of some numbers."""
    items = r.sample(range(3, 90), r.choice([5, 7]))
    done = sorted(items)
    return Row(
        pick(r, "Find the median of these values.|What is the middle value once the data are sorted?"),
        f"Sorted, the values read {listed(done)}. There are {len(done)} of them, so number "
        f"{len(done) // 2 + 1} is in the middle: the median is {done[len(done) // 2]}.",
        listed(items),
    )


def duplicates(r: random.Random) -> Row:
    """A list without its repeats."""
    base = words(r, 4, 5)
    twice = r.sample(base, 2)
    items = r.sample(base + twice, len(base) + 2)
    unique = list(dict.fromkeys(items))
    return Row(
        pick(
            r,
            "Delete repeated entries and keep the first occurrence of each.|Make the list unique without "
            "changing the order.",
        ),
        f"{' and '.join(sorted(twice))} each appear twice. Keeping the first of every entry leaves {listed(unique)}.",
        listed(items),
    )


def caesar(r: random.Random) -> Row:
    """A word in a shifted alphabet."""
    word, n = pick(r, WORDS), r.randint(1, 4)
    coded = "".join(chr((ord(c) - 97 + n) % 26 + 97) for c in word)
    return Row(
        f"Each letter is replaced by the one {n} place{'s' * (n > 1)} later in the alphabet, with a following "
        f'z. Encode "{word}".',
        f"Shift the letters one at a time: {listed(f'{a} to {b}' for a, b in zip(word, coded, strict=True))}. "
        f"The coded word is {coded}.",
    )


def next_term(r: random.Random) -> Row:
    """The next term of a sequence."""
    start, step, factor = r.randint(1, 30), r.randint(3, 14), r.choice([2, 3])
    if r.random() < 0.5:
        terms = [start + step * i for i in range(5)]
        why = f"Each number is {step} more than the one before it, and {terms[-1]} + {step} = {terms[-1] + step}"
    else:
        terms = [start * factor**i for i in range(5)]
        why = f"Every number is {factor} times the previous one, and {terms[-1]} x {factor} = {terms[-1] * factor}"
    return Row(
        pick(r, "How does the sequence continue?|Which number comes next?|Give the next term and explain the rule."),
        f"{why}. So the next number is {why.split(' = ')[1]}.",
        listed(terms),
    )


def common_items(r: random.Random) -> Row:
    """What two lists share, or do not."""
    pool = words(r, 7, 7)
    a, b = r.sample(pool[:5], 5), r.sample(pool[3:], 4)
    both, a_only = [w for w in a if w in b], [w for w in a if w not in b]
    if r.random() < 0.5:
        return Row(
            "Which entries appear in both lists?",
            f"Checking every entry of the first list against the second shows that {' and '.join(both)} are in both.",
            f"First: {listed(a)}. Second: {listed(b)}.",
        )
    return Row(
        "Which entries of the first list are missing from the second?",
        f"{' and '.join(both)} are found in the second list as well. Missing from it are {listed(a_only)}.",
        f"First: {listed(a)}. Second: {listed(b)}.",
    )


def palindrome(r: random.Random) -> Row:
    """Whether a word is a palindrome."""
    word = r.choice(["level", "radar", "rotor", "civic", "noon", "kayak", "refer", "madam", *picks(r, 6, WORDS)])
    same = word == word[::-1]
    return Row(
        pick(r, f'Is "{word}" a palindrome?|Does {word} read the same in both directions?'),
        f"{'Yes' if same else 'No'}. Reversed, {word} becomes {word[::-1]}, which is "
        f"{'the same word' if same else 'something else'}.",
    )


def acronym(r: random.Random) -> Row:
    """The initials of some words."""
    items = words(r, 4, 6)
    short = "".join(w[0] for w in items).upper()
    return Row(
        pick(
            r, "Form an acronym from the first letters.|Which letters do you get by taking the initial of every word?"
        ),
        f"The initials are {listed(w[0] for w in items)}, which together make {short}.",
        " ".join(items),
    )


TEMPLATES = [
    backwards,
    letter_count,
    alphabetical,
    by_length,
    vowels,
    evens,
    sort_numbers,
    median,
    duplicates,
    caesar,
    next_term,
    common_items,
    palindrome,
    acronym,
]
