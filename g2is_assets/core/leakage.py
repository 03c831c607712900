"""Leakage and repetition by text: pool rows that give away a domain's rows, and pool rows that are equal.

Texts in, row numbers out. What to do with a leaking row is decided elsewhere; near-duplicates by gradient are found
in `core.graph`.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, NamedTuple

import numpy as np
import regex
from numpy.typing import NDArray

LONG_GRAM_WORDS: Final = 13
"""Words in a row that two independent texts hardly ever share; the length is GPT-3's."""

MIN_PROMPT_WORDS: Final = 4
"""Words from which an equal prompt alone is a leak: below, prompts such as "Translate:" repeat by chance."""

MIN_TRIGRAMS: Final = 4
"""Distinct trigrams from which a prompt is compared by them: below, one common phrase would already be a leak."""

SHORT_PROMPT_TRIGRAMS: Final = 5
"""Distinct trigrams up to which a prompt counts as short."""

NEAR_PERCENT: Final = 60
"""Percent of a prompt's distinct trigrams in a pool row from which it nearly equals the prompt."""

NEAR_PERCENT_SHORT: Final = 70
"""The same for short prompts, where few trigrams coincide more easily."""

TEMPLATE_PERCENT: Final = 20
"""A trigram in more than this percent of a domain's rows is its template: an item's own words stand in few rows."""

TEMPLATE_MIN_ROWS: Final = 5
"""Rows that a template stands in at least: in a small domain two similar rows are already above the percent."""

_WORD: Final = 10
"""Size of a word in what `_size` counts: tenths of an English one."""

_UNSPACED: Final = r"\p{lb=ID}\p{lb=CJ}\p{lb=SA}\p{lb=AK}\p{lb=AS}\p{Han}\p{Kana}\p{Hangul}\p{Emoji_Presentation}"
"""Signs that form no words by spaces: ideographs, kana, the scripts of South East Asia (Unicode's line breaking classes
say between which signs a line may break without a space), Hangul, whose spaces writers set as they like, and emoji."""

_UNIT: Final = regex.compile(rf"[{_UNSPACED}]\p{{M}}*|[^\s{_UNSPACED}]+")
_ANY_UNSPACED: Final = regex.compile(rf"[{_UNSPACED}\p{{Tibetan}}]")
_SIZES: Final = (
    (regex.compile(r"[\p{Hiragana}\p{Katakana}\p{lb=CJ}\p{lb=SA}\p{lb=AK}\p{lb=AS}]"), 3),
    (regex.compile(r"\p{Hangul}"), 4),
    (regex.compile(r"[\p{Han}\p{Yi}\p{Tangut}\p{Tibetan}]"), 6),
)
"""What begins with these is part of a word. In 2,200 English words of Django's texts and their translations, a word is
1.6 ideographs, 3.5 kana, 2.3 Hangul syllables, or 3.4 signs of Thai, Khmer or Burmese."""

_DELETED: Final = regex.compile(r"(?V1)[\p{P}\p{DI}ـ[\p{Mn}&&[\p{Hebrew}\p{scx=Arabic}]]]")
"""Punctuation, what shows nothing (joiners, marks of direction, variation selectors), vowel points, and Arabic's
stretching sign."""

_BETWEEN_WORDS: Final = regex.compile(r"(?V1)[\p{P}&&\p{lb=BA}--\p{Common}]")
"""Punctuation that some scripts have for a space: between Tibetan syllables, Ethiopic words."""

Reason = Literal["equal", "shared 13-gram", "word trigrams"]
_Gram = tuple[str, ...]


class Text(NamedTuple):
    """What leakage looks at in a row: the whole prompt, that is instruction and input, and the response."""

    prompt: str
    response: str


@dataclass(frozen=True)
class Leak:
    """A pool row that equals or nearly equals a domain row.

    Attributes:
        pool_row: Index in the pool.
        domain_row: Index in the domain.
        reason: The strongest rule that holds, see `find_leaks`.
        share: 1.0 if equal, else the share in [0, 1] of the domain prompt's distinct trigrams that the pool row holds;
            0 is possible where only the response is shared.
    """

    pool_row: int
    domain_row: int
    reason: Reason
    share: float


def find_leaks(pool: Sequence[Text], domain: Sequence[Text]) -> list[Leak]:
    """Pool rows that equal or nearly equal a row of the domain.

    Texts are compared as words (`words`); where a sign is one, so many signs as come to the size of the words said.
    The reasons, the strongest first:

    - equal: prompt and response equal the domain row's, or the prompt alone does and has `MIN_PROMPT_WORDS` or more.
    - shared 13-gram: 13 words in a row of the pool row's prompt or of its response stand in the domain row's prompt or
      response. A 13-gram that is mostly the domain's own template does not count: it says that two rows pose the same
      kind of task, and would throw out all rows of that kind. Template is a trigram in more than `TEMPLATE_PERCENT` of
      the domain's rows and in at least `TEMPLATE_MIN_ROWS` of them; mostly is more than half of the 13-gram's
      trigrams. So neither a 13-gram in that many rows counts nor one that adds an item's first words to a template.
    - word trigrams: prompt and response of the pool row together hold at least `NEAR_PERCENT` of the distinct trigrams
      of the domain row's prompt (`NEAR_PERCENT_SHORT` where there are 4 or 5; prompts with fewer are compared for
      equality only). Templates count here: a row that repeats a long template around a few other words is a leak.

    The 13-gram rule follows the decontamination of GPT-3 (Brown et al. 2020, appendix C): lower-cased words without
    punctuation, and common 13-grams do not count. There a hit cuts a window out of the training document, and common
    means found in more than 10 training documents; here a hit marks the whole row, as instruction rows are short, and
    common is counted over the domain, so that a row's verdict does not depend on the rest of the pool.

    Returns:
        At most one leak per pool row, in the order of the pool: the strongest reason, then the largest share, then the
        lowest domain row. Apart from that last tie, the order of the rows changes nothing.
    """
    index = _Index(domain)
    leaks = (index.leak(row, text) for row, text in enumerate(pool))
    return [leak for leak in leaks if leak is not None]


def compared_whole(domain: Sequence[Text]) -> list[int]:
    """Rows of a domain that a pool row can only be found to repeat if it equals them: too short for the other rules."""
    return _Index(domain).compared_whole()


def equal_text_groups(texts: Sequence[Text]) -> NDArray[np.int64]:
    """(n,) int64, the lowest index of the rows whose prompt and response are equal to each row's, as `words`."""
    first: dict[tuple[str, str], int] = {}
    keys = (_key(text, _words(text.prompt), _words(text.response)) for text in texts)
    return np.array([first.setdefault(key, row) for row, key in enumerate(keys)], dtype=np.int64)


def words(text: str) -> list[str]:
    """The words by which texts are compared: NFKC, casefold, punctuation deleted, split at white space.

    Punctuation is Unicode's category P. It is deleted, not replaced by a space: "1,000" is "1000", but "3.5" is "35",
    too, and "6 * 2" is "6 / 2". Symbols such as + and = stay. Where spaces do not make words (Chinese, Japanese,
    Korean, Thai, Lao, Khmer, Burmese and their like, emoji) each sign with its marks is one, whatever the spaces.
    Vowel points of Arabic and Hebrew, Arabic's hamza and the like, and the dot of a Turkish i do not count; a digit
    is the same in all scripts. Traditional and simplified Chinese stay different.
    """
    return list(_words(text).units)


class _Words(NamedTuple):
    """The words of a text and the size of each, in tenths of an English word; no sizes where all are words."""

    units: Sequence[str]
    sizes: Sequence[int] | None

    def size(self) -> int:
        return len(self.units) * _WORD if self.sizes is None else sum(self.sizes)


def _words(text: str) -> _Words:
    text = unicodedata.normalize("NFKC", text).casefold().translate(_COUNTED)
    if text.isascii():
        return _Words(text.split(), None)
    text = unicodedata.normalize("NFKC", text.replace("i\u0307", "i"))
    if not _ANY_UNSPACED.search(text):
        return _Words(text.split(), None)
    units = _UNIT.findall(text)
    return _Words(units, [_size(unit[0]) for unit in units])


@cache
def _size(sign: str) -> int:
    """Tenths of an English word that what begins with this sign is."""
    return next((size for signs, size in _SIZES if signs.match(sign)), _WORD)


class _Table(dict[int, str | None]):
    """Translation table of what does not count in words, besides case and width; a sign is judged once it comes."""

    def __missing__(self, code: int) -> str | None:
        sign, kept = chr(code), None
        if _BETWEEN_WORDS.match(sign):
            kept = " "
        elif not _DELETED.match(sign):
            kept = str(unicodedata.decimal(sign)) if sign.isdecimal() else sign
        self[code] = kept
        return kept


_COUNTED: Final = _Table(zip(map(ord, "ıآأإؤئىیکة"), "iاااويييكه", strict=True))


def _key(text: Text, prompt: _Words, response: _Words) -> tuple[str, str]:
    """Equal for texts of equal words; a part without words, such as a response of brackets, stands for itself."""
    return " ".join(prompt.units) or text.prompt.strip(), " ".join(response.units) or text.response.strip()


def _grams(length: int, *parts: _Words) -> Iterator[_Gram]:
    """So many words in a row of each part in turn, none across two parts.

    Of smaller units, one and as many behind it as come to the other words: so an edit breaks as much of a text.
    """
    for units, sizes in parts:
        if sizes is None:
            yield from zip(*(units[start:] for start in range(length)), strict=False)
            continue
        end, behind = 1, 0
        for start in range(len(units)):
            while behind < (length - 1) * _WORD and end < len(units):
                behind += sizes[end]
                end += 1
            if behind < (length - 1) * _WORD:
                break
            yield tuple(units[start:end])
            behind -= sizes[start + 1]


def _total(grams: Iterable[_Gram]) -> int:
    """Tenths that grams come to, each as much as its first unit: so many words begin one."""
    return sum(_size(gram[0][0]) for gram in grams)


class _Index:
    """Where the domain's texts, prompts, prompt trigrams and 13-grams stand."""

    def __init__(self, domain: Sequence[Text]) -> None:
        self._texts: dict[tuple[str, str], int] = {}
        self._prompts: dict[str, int] = {}
        self._trigrams_of: list[int] = []  # of each row, in tenths
        self._trigrams: dict[_Gram, list[int]] = {}
        self._long_grams: dict[_Gram, list[int]] = {}
        parts = [(_words(text.prompt), _words(text.response)) for text in domain]
        template = _template(parts)
        for row, (prompt, response) in enumerate(parts):
            key = _key(domain[row], prompt, response)
            self._texts.setdefault(key, row)
            if prompt.size() >= MIN_PROMPT_WORDS * _WORD:
                self._prompts.setdefault(key[0], row)
            trigrams = set(_grams(3, prompt))
            self._trigrams_of.append(_total(trigrams))
            for gram in trigrams:
                self._trigrams.setdefault(gram, []).append(row)
            for gram in set(_grams(LONG_GRAM_WORDS, prompt, response)):
                of_it = list(_grams(3, _Words(gram, [_size(unit[0]) for unit in gram])))
                if 2 * _total(trigram for trigram in of_it if trigram in template) <= _total(of_it):
                    self._long_grams.setdefault(gram, []).append(row)

    def leak(self, pool_row: int, text: Text) -> Leak | None:
        """The strongest leak of a pool row, if any."""
        prompt, response = _words(text.prompt), _words(text.response)
        key = _key(text, prompt, response)
        # Prompts first: where one is equal, the rows of equal text are among those of equal prompt.
        equal = self._prompts.get(key[0], self._texts.get(key))
        if equal is not None:
            return Leak(pool_row, equal, "equal", 1.0)
        found: Counter[int] = Counter()
        for gram in set(_grams(3, prompt, response)):
            for row in self._trigrams.get(gram, ()):
                found[row] += _size(gram[0][0])
        shared = {row for gram in _grams(LONG_GRAM_WORDS, prompt, response) for row in self._long_grams.get(gram, ())}
        rows = shared or {row for row, size in found.items() if _is_near(size, self._trigrams_of[row])}
        if not rows:
            return None
        # A prompt of one or two words has no trigrams; its response may be shared all the same.
        share, negative_row = max((found[row] / max(self._trigrams_of[row], 1), -row) for row in rows)
        return Leak(pool_row, -negative_row, "shared 13-gram" if shared else "word trigrams", share)

    def compared_whole(self) -> list[int]:
        """Rows that no rule but equality can find."""
        long = {row for rows in self._long_grams.values() for row in rows}
        return [row for row, size in enumerate(self._trigrams_of) if size < MIN_TRIGRAMS * _WORD and row not in long]


def _template(parts: Sequence[tuple[_Words, _Words]]) -> set[_Gram]:
    """Trigrams that stand in so many of the rows (prompt and response of each) that they belong to none."""
    n_rows = Counter(gram for prompt, response in parts for gram in set(_grams(3, prompt, response)))
    return {gram for gram, n in n_rows.items() if n >= TEMPLATE_MIN_ROWS and 100 * n > TEMPLATE_PERCENT * len(parts)}


def _is_near(found: int, of: int) -> bool:
    """Whether a pool row with so much of a prompt's distinct trigrams, in tenths, nearly equals it."""
    percent = NEAR_PERCENT_SHORT if of <= SHORT_PROMPT_TRIGRAMS * _WORD else NEAR_PERCENT
    return of >= MIN_TRIGRAMS * _WORD and 100 * found >= percent * of
