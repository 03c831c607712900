"""Leaks between pool and domain by text, and groups of equal texts."""

import random
import unicodedata
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.core.leakage import Leak, Text, equal_text_groups, find_leaks, words


def run(prefix: str, n: int) -> str:
    """N different words that no other prefix gives."""
    return " ".join(f"{prefix}{i}" for i in range(n))


def leaks_of(pool: Text, *domain: Text) -> list[tuple[int, str, float]]:
    return [(leak.domain_row, leak.reason, leak.share) for leak in find_leaks([pool], domain)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the LARGEST Lake?", "what is the largest lake"),
        ("«What»  is,\n\tthe largest lake…", "What is the largest lake"),
        ("Ｗｈａｔ is the largest lake？", "What is the largest lake?"),
        ("What is the ﬁrst STRASSE", "What is the first straße"),
        ("What is Ole\u0301", "What is Olé"),
        ("Doesn’t it cost 1,000 now", "doesn't it cost 1000 now"),
    ],
)
def test_case_punctuation_width_accents_and_white_space_make_no_difference(one: str, other: str) -> None:
    assert words(one) == words(other)


@pytest.mark.parametrize(("one", "other"), [("3 + 4", "3 = 4"), ("re sign", "resign"), ("Olé", "Ole"), ("€5", "$5")])
def test_symbols_spaces_and_accents_themselves_do(one: str, other: str) -> None:
    assert words(one) != words(other)


def test_a_row_with_the_same_prompt_and_response_is_a_leak_however_short() -> None:
    assert leaks_of(Text("Capital of Peru", "LIMA."), Text("capital of Peru?", "Lima")) == [(0, "equal", 1.0)]


def test_a_row_with_the_same_prompt_and_another_response_is_a_leak_from_four_words() -> None:
    four, three = "The capital of Peru", "Capital of Peru"
    assert leaks_of(Text(four + "?", "unknown"), Text(four, "Lima")) == [(0, "equal", 1.0)]
    assert leaks_of(Text(three + "?", "unknown"), Text(three, "Lima")) == []


def test_the_same_words_with_another_border_of_prompt_and_response_are_not_equal() -> None:
    assert leaks_of(Text("a b", "c"), Text("a", "b c")) == []


def test_parts_without_words_are_equal_only_as_they_are() -> None:
    assert leaks_of(Text("Close it", "] )"), Text("Close it", ") ]")) == []
    assert leaks_of(Text("Close it", "] )"), Text("close it:", "] ) ")) == [(0, "equal", 1.0)]


@pytest.mark.parametrize("pool_part", ["prompt", "response"])
@pytest.mark.parametrize("domain_part", ["prompt", "response"])
def test_thirteen_shared_words_in_a_row_are_a_leak_and_twelve_are_not(pool_part: str, domain_part: str) -> None:
    def texts(n: int) -> tuple[Text, Text]:
        pool = {"prompt": run("p", 9), "response": run("q", 9), pool_part: f"{run('p', 9)} {run('s', n)} {run('q', 9)}"}
        domain = {
            "prompt": run("d", 30),
            "response": run("e", 9),
            domain_part: f"{run('d', 30)}, {run('s', n).upper()}.",
        }
        return Text(**pool), Text(**domain)

    # A domain prompt of 43 words has 41 trigrams, of which the shared words hold 11.
    assert leaks_of(*texts(13)) == [(0, "shared 13-gram", 11 / 41 if domain_part == "prompt" else 0.0)]
    assert leaks_of(*texts(12)) == []


def test_thirteen_words_across_the_border_of_prompt_and_response_do_not_count() -> None:
    shared = run("s", 13).split()
    head, tail = " ".join(shared[:7]), " ".join(shared[7:])
    whole = Text(f"{run('a', 30)} {' '.join(shared)}", "yes")
    split = Text(f"{run('b', 30)} {head}", f"{tail} {run('c', 9)}")
    assert leaks_of(whole, split) == leaks_of(split, whole) == []


def test_a_prompt_too_short_for_trigrams_can_leak_by_its_response() -> None:
    assert leaks_of(Text("Go on", run("s", 13)), Text("Continue", run("s", 20))) == [(0, "shared 13-gram", 0.0)]


@pytest.mark.parametrize(
    ("n_trigrams", "n_found", "leaks"),
    [
        *[(3, 3, False), (4, 2, False), (4, 3, True), (5, 3, False), (5, 4, True)],
        *[(6, 3, False), (6, 4, True), (10, 5, False), (10, 6, True), (100, 59, False), (100, 60, True)],
    ],
)
def test_sixty_percent_of_the_trigrams_are_a_leak_and_seventy_of_four_or_five(
    n_trigrams: int, n_found: int, leaks: bool
) -> None:
    prompt = run("w", n_trigrams + 2).split()
    # Runs of at most 9 trigrams (11 words) stay below the 13-gram rule.
    shared = [" ".join(prompt[start : min(start + 9, n_found) + 2]) + f" gap{start}" for start in range(0, n_found, 9)]
    found = leaks_of(Text(" ".join(shared), run("x", 5)), Text(" ".join(prompt), "answer"))
    assert found == ([(0, "word trigrams", n_found / n_trigrams)] if leaks else [])


def test_trigrams_count_once_each_and_in_prompt_and_response_together() -> None:
    domain = Text(run("w", 8), "answer")  # 6 trigrams, of which 4 are 67 %
    assert leaks_of(Text("x w0 w1 w2 w3", "w4 w5 w6 w7"), domain) == [(0, "word trigrams", 4 / 6)]
    assert leaks_of(Text("w0 w1 w2 w3 w0 w1 w2 w3", "w0 w1 w2 w3"), domain) == []
    repeated = Text("a b c a b c a b c d e f", "answer")  # abc bca cab bcd cde def
    assert leaks_of(Text("a b c a b c x", ""), repeated) == []
    assert leaks_of(Text("a b c a b c d", ""), repeated) == [(0, "word trigrams", 4 / 6)]


def test_trigrams_of_the_domain_response_do_not_count() -> None:
    assert leaks_of(Text(run("w", 9), "yes"), Text(run("p", 9), run("w", 9))) == []


def test_only_the_strongest_leak_of_a_row_is_given() -> None:
    shared, near = run("s", 13), run("w", 8)
    pool = Text(f"{near} {shared}", "mine")
    by_trigrams, by_gram = Text(near, "theirs"), Text(f"{run('d', 40)} {shared}", "theirs")
    same = Text(pool.prompt, "theirs")
    assert leaks_of(pool, by_trigrams) == [(0, "word trigrams", 1.0)]
    assert leaks_of(pool, by_trigrams, by_gram) == [(1, "shared 13-gram", 11 / 51)]
    assert leaks_of(pool, by_trigrams, by_gram, same) == [(2, "equal", 1.0)]


def test_among_equal_reasons_the_larger_share_wins_and_then_the_lower_row() -> None:
    pool = Text(run("w", 9), "mine")
    some, more = Text("w0 w1 w2 w3 w4 w5 x y", "a"), Text("w0 w1 w2 w3 w4 w5 w6 x", "b")
    assert leaks_of(pool, some, more, more) == [(1, "word trigrams", 5 / 6)]
    # The equal text comes after an equal prompt: as leaks they weigh the same.
    assert leaks_of(pool, Text(pool.prompt, "theirs"), pool) == [(0, "equal", 1.0)]


def templated(template: str, n_with: int, n_rows: int) -> list[Text]:
    """Rows of 40 own words each, of which the first `n_with` open with the template."""
    return [Text(f"{template if row < n_with else ''} {run(f'r{row}x', 40)}", f"a{row}") for row in range(n_rows)]


@pytest.mark.parametrize(
    ("n_with", "n_rows", "counts"),
    [
        *[(4, 4, True), (4, 12, True), (5, 5, False), (5, 24, False)],
        *[(5, 25, True), (6, 25, False), (20, 100, True), (21, 100, False)],
    ],
)
def test_a_template_of_more_than_a_fifth_of_the_rows_and_at_least_five_is_no_leak(
    n_with: int, n_rows: int, counts: bool
) -> None:
    template = run("t", 15)
    found = leaks_of(Text(f"{template} {run('own', 20)}", "mine"), *templated(template, n_with, n_rows))
    assert found == ([(0, "shared 13-gram", 13 / 53)] if counts else [])


def test_the_first_words_of_an_item_behind_a_template_are_no_leak_either() -> None:
    template = run("t", 12)
    domain = templated(template, 10, 10)
    # Seven template words and six of the item: five of eleven trigrams are template, and the 13-gram counts.
    assert leaks_of(Text(f"{template} r3x0 r3x1 r3x2 r3x3 r3x4 {run('own', 20)}", "mine"), *domain) == []
    (leak,) = leaks_of(Text(f"{template} r3x0 r3x1 r3x2 r3x3 r3x4 r3x5 {run('own', 20)}", "mine"), *domain)
    assert leak[:2] == (3, "shared 13-gram")


def test_a_template_does_not_hide_the_copy_of_an_item() -> None:
    template = run("t", 15)
    domain = templated(template, 10, 10)
    own = " ".join(f"r7x{i}" for i in range(13))
    assert leaks_of(Text(f"{template} {own} {run('own', 20)}", "mine"), *domain)[0][:2] == (7, "shared 13-gram")


def test_a_template_counts_as_trigrams() -> None:
    template = run("t", 15)
    domain = [Text(f"{template} item{row}", f"a{row}") for row in range(10)]
    assert leaks_of(Text(f"{template} other", "mine"), *domain) == [(0, "word trigrams", 13 / 14)]


def test_nothing_leaks_from_or_into_nothing() -> None:
    row = Text("one two three four", "five")
    assert find_leaks([], []) == find_leaks([row], []) == find_leaks([], [row]) == []
    assert leaks_of(row, Text("", "")) == leaks_of(Text("", ""), row) == []


def test_rows_without_leaks_are_left_out_and_the_others_keep_their_numbers() -> None:
    domain = [Text(run("d", 9), "x"), Text(run("e", 9), "y")]
    pool = [Text("nothing in common", "z"), domain[1], Text("nor here", "z"), domain[0]]
    assert find_leaks(pool, domain) == [Leak(1, 1, "equal", 1.0), Leak(3, 0, "equal", 1.0)]


# Texts of few different words, with long phrases, so that every rule is met often.
WORDS = st.sampled_from(["a", "B", "c,", "d"])
PHRASES = st.sampled_from([run("s", 13), run("s", 16), run("t", 12), run("t", 14), run("u", 6)])
PARTS = st.lists(st.one_of(WORDS, PHRASES), max_size=8).map(" ".join)
TEXTS = st.builds(Text, prompt=PARTS, response=PARTS)


def plain(text: str) -> list[str]:
    kept = "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if unicodedata.category(c)[0] != "P")
    return kept.split()


def windows(part: list[str], n: int) -> list[list[str]]:
    return [part[i : i + n] for i in range(len(part) - n + 1)]


def brute_force(pool: list[Text], domain: list[Text]) -> list[Leak]:
    """The rules one by one, over all pairs of rows."""
    ours, theirs = ([(plain(t.prompt), plain(t.response)) for t in texts] for texts in (pool, domain))

    def is_template(trigram: list[str]) -> bool:
        n = sum(trigram in windows(p, 3) or trigram in windows(r, 3) for p, r in theirs)
        return n >= 5 and n / len(theirs) > 0.2

    def verdict(row: tuple[list[str], list[str]], other: tuple[list[str], list[str]]) -> tuple[int, float] | None:
        trigrams = [list(t) for t in {tuple(t) for t in windows(other[0], 3)}]
        held = sum(t in windows(row[0], 3) + windows(row[1], 3) for t in trigrams)
        share = held / len(trigrams) if trigrams else 0.0
        if row == other or (row[0] == other[0] and len(other[0]) >= 4):
            return 3, 1.0
        for mine, yours in product(row, other):
            for gram in windows(mine, 13):
                if gram in windows(yours, 13) and sum(map(is_template, windows(gram, 3))) <= 5:
                    return 2, share
        least = {4: 3, 5: 4}.get(len(trigrams), -(-6 * len(trigrams) // 10))
        return (1, share) if len(trigrams) >= 4 and held >= least else None

    names = {3: "equal", 2: "shared 13-gram", 1: "word trigrams"}
    leaks = []
    for i, row in enumerate(ours):
        found = [(*v, -j) for j, other in enumerate(theirs) if (v := verdict(row, other))]
        if found:
            strength, share, j = max(found)
            leaks.append(Leak(i, -j, names[strength], share))
    return leaks


@given(pool=st.lists(TEXTS, max_size=5), domain=st.lists(TEXTS, max_size=9))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_the_index_finds_what_a_comparison_of_all_pairs_finds(pool: list[Text], domain: list[Text]) -> None:
    assert find_leaks(pool, domain) == brute_force(pool, domain)


@given(pool=st.lists(TEXTS, max_size=6), domain=st.lists(TEXTS, max_size=9), seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_order_of_the_rows_changes_only_which_of_equal_leaks_is_named(
    pool: list[Text], domain: list[Text], seed: int
) -> None:
    def verdicts(pool: list[Text], domain: list[Text]) -> set[tuple[Text, str, float]]:
        return {(pool[leak.pool_row], leak.reason, leak.share) for leak in find_leaks(pool, domain)}

    rng = random.Random(seed)
    shuffled = rng.sample(pool, len(pool)), rng.sample(domain, len(domain))
    assert verdicts(pool, domain) == verdicts(*shuffled)


def test_rows_of_equal_words_form_a_group_under_the_lowest_index() -> None:
    texts = [
        Text("Say hi", "Hi!"),
        Text("Say", "hi hi"),
        Text("say HI.", "hi"),
        Text("Say hi", "Ho"),
        Text("Say", "hi, hi"),
    ]
    groups = equal_text_groups(texts)
    assert groups.tolist() == [0, 1, 0, 3, 1]
    assert groups.dtype == np.int64


def test_responses_without_words_do_not_make_rows_equal() -> None:
    texts = [Text("Close it", ") ]"), Text("Close it", "] )"), Text("close it", "] )\n")]
    assert equal_text_groups(texts).tolist() == [0, 1, 1]


def test_no_rows_form_no_groups() -> None:
    groups = equal_text_groups([])
    assert groups.shape == (0,)
    assert groups.dtype == np.int64


@given(texts=st.lists(TEXTS, max_size=12))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_groups_are_those_of_a_comparison_of_all_pairs(texts: list[Text]) -> None:
    parts = [(plain(t.prompt), plain(t.response)) for t in texts]
    assert equal_text_groups(texts).tolist() == [parts.index(part) for part in parts]
