"""Cheap scores of pool rows, by which a prescreen decides whose gradients are worth computing.

A row's score depends on its own text or vector, on the domain's rows and on a fixed sample alone, never on the other
rows of the pool: whatever rows come later, it stays as it was stored.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

K1: Final = 1.5
B: Final = 0.75
"""BM25's saturation of repeated words and weight of a text's length: the usual values, and the library's."""
BLOCK_TEXTS: Final = 8192
"""Texts whose words are in memory at a time."""


class Bm25:
    """BM25 (Lucene's form) of texts whose words are weighed by how many texts of a fixed sample hold them.

    The mean length is the sample's too. Scores of a query are told in its standard deviations over the sample, from
    its mean there, so that long queries count as much as short ones. A query that sets no two texts of the sample
    apart keeps its plain scores.
    """

    def __init__(self, sample: Sequence[str]) -> None:
        self.sample, documents = sample, [words_of(text) for text in sample]
        self.mean_length = max(1.0, sum(map(len, documents)) / max(1, len(documents)))
        self.holding = Counter(word for words in documents for word in set(words))

    def scores(self, texts: Sequence[str], domains: Sequence[Sequence[str]]) -> NDArray[np.float64]:
        """(n, k) of each text the mean of its standardised scores over each domain's queries."""
        queries, ends = [query for own in domains for query in own], np.cumsum([len(own) for own in domains])
        among = self._plain(self.sample, queries)
        middle, spread = among.mean(axis=1, keepdims=True), among.std(axis=1, keepdims=True)
        scale, found = np.where(spread > 0, spread, 1.0), np.empty((len(texts), len(domains)))
        for start in range(0, len(texts), BLOCK_TEXTS):
            block = slice(start, start + BLOCK_TEXTS)
            every = (self._plain(texts[block], queries) - middle) / scale
            found[block] = np.stack([own.mean(axis=0) for own in np.split(every, ends[:-1])], axis=1)
        return found

    def _plain(self, texts: Sequence[str], queries: Sequence[str]) -> NDArray[np.float64]:
        """(q, n) scores of the texts for each query."""
        import bm25s

        documents = [words_of(text) for text in texts]
        if not any(documents):
            return np.zeros((len(queries), len(texts)))
        # The library counts over the texts that it is given. In k1 and b their mean length is made the sample's, and in
        # what it has multiplied with a word's weight among them that weight is replaced.
        stretch = B * (sum(map(len, documents)) / len(documents)) / self.mean_length
        k1 = K1 * (1 - B + stretch)
        index = bm25s.BM25(k1=k1, b=K1 * stretch / k1, method="lucene", dtype="float64")
        index.index(documents, create_empty_token=False, show_progress=False)
        held = np.diff(index.scores["indptr"])
        by_number = sorted(index.vocab_dict, key=index.vocab_dict.__getitem__)
        wanted = _weights(np.array([self.holding[word] for word in by_number]), len(self.sample))
        index.scores["data"] *= np.repeat(wanted / _weights(held, len(documents)), held)
        return np.array([index.get_scores_from_ids(index.get_tokens_ids(words_of(query))) for query in queries])


def words_of(text: str) -> list[str]:
    """Runs of Unicode word characters, in lower case."""
    return re.findall(r"\w+", text.lower())


def _weights(holding: NDArray[np.integer], n: int) -> NDArray[np.float64]:
    """Inverse document frequency of words that so many of n texts hold, as Lucene has it."""
    return np.log1p((n - holding + 0.5) / (holding + 0.5))
