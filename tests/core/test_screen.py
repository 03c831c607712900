"""Cheap scores by hand, and that a row's score does not hang on which other rows are scored with it."""

import math

import bm25s
import numpy as np
import pytest

from g2is_assets.core.screen import BLOCK_TEXTS, Bm25, words_of

SAMPLE = ("Red red, blue.", "blue green", "grey")
"""Three texts of 3, 2 and 1 words; `blue` stands in two of them, the others in one."""


def of(n_holding: int) -> float:
    """A word's weight where so many of three texts hold it."""
    return math.log(1 + (3 - n_holding + 0.5) / (n_holding + 0.5))


def saturated(count: int, n_words: int) -> float:
    """A word that stands so often in a text of so many, where the mean is two words."""
    return count / (count + 1.5 * (0.25 + 0.75 * n_words / 2))


def test_words_are_runs_of_word_characters_of_any_script_without_regard_to_case() -> None:
    assert words_of("L'État, ÉTÉ_2 — привет!") == ["l", "état", "été_2", "привет"]


def test_a_score_is_bm25_by_the_samples_statistics_in_the_samples_deviations() -> None:
    own = [of(1) * saturated(2, 3) + of(2) * saturated(1, 3), of(2) * saturated(1, 2), 0.0]
    new = of(1) * saturated(1, 4) + of(2) * saturated(2, 4)
    mean, deviation = sum(own) / 3, math.sqrt(sum((x - sum(own) / 3) ** 2 for x in own) / 3)
    [[first], [second]] = Bm25(SAMPLE).scores(["blue BLUE red pink", "pink"], [["red blue"]])
    assert first == pytest.approx((new - mean) / deviation)
    assert second == pytest.approx((0 - mean) / deviation)


def test_a_domains_score_is_the_mean_over_its_rows() -> None:
    texts, queries = ["blue green", "red", "grey grey pink"], ["red blue", "green pink", "grey"]
    every = Bm25(SAMPLE).scores(texts, [[query] for query in queries])
    np.testing.assert_allclose(Bm25(SAMPLE).scores(texts, [queries, queries[1:]])[:, 0], every.mean(axis=1))
    np.testing.assert_allclose(Bm25(SAMPLE).scores(texts, [queries, queries[1:]])[:, 1], every[:, 1:].mean(axis=1))


def test_a_rows_score_is_the_same_alone_and_among_any_others() -> None:
    texts, own = [f"blue green {n % 7} {'red ' * (n % 5)}" for n in range(BLOCK_TEXTS + 3)], [["red 3", "green 4 blue"]]
    together, bm25 = Bm25(SAMPLE).scores(texts, own), Bm25(SAMPLE)
    for n in (0, 17, BLOCK_TEXTS - 1, BLOCK_TEXTS + 2):
        np.testing.assert_allclose(bm25.scores([texts[n]], own)[0], together[n], atol=1e-6)


def test_by_the_statistics_of_the_texts_themselves_it_is_the_librarys_bm25() -> None:
    texts, query = ["a b b c", "c d", "e f g a a", "b"], "a c c"
    index = bm25s.BM25(method="lucene")
    index.index([words_of(text) for text in texts], show_progress=False)
    plain = index.get_scores(words_of(query)).astype(float)
    expected = (plain - plain.mean()) / plain.std()
    np.testing.assert_allclose(Bm25(texts).scores(texts, [[query]])[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("query", ["pink", "?!", "red blue green grey"])
def test_what_nothing_can_be_told_by_is_no_fault(query: str) -> None:
    assert np.isfinite(Bm25(SAMPLE).scores(["", "!", "grey"], [[query]])).all()
    assert np.isfinite(Bm25(["", "?"]).scores(["red", ""], [[query]])).all()
