"""What a response says in the end: finding the final answer, and comparing it with the right one."""

import sys
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from itertools import takewhile
from typing import Any, Final

import regex

MARKER: Final = regex.compile(
    r"""\*{0,2}(?:\b(?:so|thus|therefore|hence),?\ )?(?:\b(?:the|my|our)\ )?(?:\b(?:final|correct|right)\ )?
        \banswer\ is\b[ ]*:?[*_]*\s*
    | (?P<label>\*{0,2}(?:\bfinal\ )?\banswer[ ]*[*_]*[ ]*[:：][*_]*\s*)
    | \\boxed\{(?=(?P<boxed>(?:[^{}]+|\{(?:[^{}]+|\{[^{}]*+\})*+\})*+)\})
    | ^\#{4}\ +(?=\S+\s*$)
    | (?:所以|因此|故)?[，,]?(?:最终|最終|正确)?答案(?:[是为為][ ]*[:：]?|[ ]*[:：])\s*
    | 答え(?:は、?|[ ]*[:：])\s* | (?:정답|해답|\b답)(?:은|[ ]*[:：])\s* | (?:उत्तर|ответ)[ ]*[:：—–-]\s*
    | (?:الإجابة|الجواب)(?:\ ه[يو]\b|[ ]*:)[ ]*:?\s*
    | \bla\ respuesta\ es\b:?\s* | \bla\ réponse\ est\b\s?:?\s* | \bdie\ antwort\ (?:ist|lautet)\b:?\s*
    | \b(?:la\ risposta\ è|a\ resposta\ é):?\s*""",
    regex.IGNORECASE | regex.VERBOSE | regex.MULTILINE,
)
"""What an answer follows: "answer is", the box of LaTeX, the mark of GSM8K, "answer is" in other languages; and as a
`label` that counts where none of these stands, "Answer:", with which models go on to questions of their own."""

AROUND: Final = " \t\n.,;:!?\"'`*_$()[]“”‘’„‚«»‹›。、।॥؟،؛۔።։។။「」『』【】《》〈〉¿¡"
"""Signs around an answer that do not count."""

_COPULA: Final = r"(?:です|입니다|\ है)?"
_END: Final = regex.compile(
    rf"""(?V1){_COPULA}(?:[.!?]+(?=[\p{{Pe}}\p{{Pf}}"'*_$]*(?:\s|$))|[\p{{Sentence_Terminal}}--[.!?]]+(?!\d)|\n|$)""",
    regex.VERBOSE,
)
_ABBREVIATED: Final = regex.compile(
    r"\b(?:mrs?|ms|dr|prof|st|ste|mt|ft|sen|rep|gov|gen|col|capt|lt|sgt|rev|fr|hon|vs|figs?|eq|vol|pp?|approx|ca|cf|"
    r"e\.g|i\.e|messrs|mme|mlle|nr|sra?)$",
    regex.IGNORECASE,
)
_DOTTED: Final = regex.compile(r"\p{L}\.\p{L}$")
_INITIAL: Final = regex.compile(r"(?:^|\W)\p{Lu}$")
_INITIALS: Final = regex.compile(r"\b\p{Lu}\.\s*\p{Lu}$")
_INITIALED: Final = regex.compile(r"\p{Lu}\.")
_MIDDLE_INITIAL: Final = regex.compile(r"\b\p{Lu}\p{Ll}+ \p{Lu}$")
_OPENER: Final = regex.compile(
    r"(?:The|It|Its|This|That|These|Those|There|So|Because|Since|As|He|She|They|We|You|I|In|Therefore|Thus|Hence|However|"
    r"Note|To|If|For|But|And|A|An|Explanation|Reason|Step|Answer|Question|Let|All|No|Yes|Not)\b"
)
_DIGITS: Final = r"(?:\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)|\d+)(?:\.\d+)?|(?<!\d)\.\d+"
NUMBER: Final = regex.compile(rf"((?<![\w)\]])-)?([$€£¥₹])?({_DIGITS})([eE][+-]?\d{{1,4}}(?!\d))?(?:\s?(%))?")
_GOES_ON: Final = regex.compile(
    r"\.\d|[²³¹⁰-⁹¼-¾⅐-⅞]|\s+\d+/\d|\s*(?:\b(?:or|and|to|through)\b|[-–—/:^*×·+÷,;&|])\s*[$€£¥₹]?-?\.?\d"
    r"|\s+and (?:an?|one|two|three) (?:half|halves|thirds?|quarters?)\b"
    r"|\s*(?:dozen|hundred|thousand|million|billion|trillion)\b"
)
"""What makes another number of one, or one of several."""
_NEGATED: Final = regex.compile(r"[^\d,;]*\b(?:not|never|neither)\b", regex.IGNORECASE)


def final_answer(text: str) -> str | None:
    """What follows the last `MARKER`, up to the end of its sentence or line; None where nothing says so.

    A point ends no sentence after a title, "No." or initials, within "a.m." or "U.S.", or where no space follows.
    """
    mark = _last_mark(text)
    if mark is None or mark["boxed"] is not None:
        return mark and str(mark["boxed"]).strip()
    ends = (end for end in _ends(text, mark.end()) if not _goes_on_after_initial(text, mark.end(), end))
    return text[mark.end() : next(ends)].strip()


def is_right(text: str, answer: str) -> bool:
    """Whether a generated text gives this answer.

    If the answer is a number, the first number of the final answer counts, or without one the last number of the text;
    thousands' commas, zeros after the point and units do not matter (% does where the answer has it), but there may be
    no second number ("5 or 6", "5/6") and no "not". Otherwise the final answer, or without one the whole text, has to
    equal it but for case, runs of blanks, width, the script of digits, and signs and brackets around it.
    """
    mark, number = _last_mark(text), NUMBER.fullmatch(_fold(answer).strip())
    if number:
        if mark is None:
            found = list(NUMBER.finditer(_fold(text)))
            return bool(found) and _same_number(found[-1], number)
        said = _fold(final_answer(text) or "")
        sides = said.split("=")
        return not _NEGATED.match(said) and any(_is_number(side, number) for side in (sides[0], sides[-1]))
    if mark is None or mark["boxed"] is not None:
        return _same_words(text if mark is None else mark["boxed"], answer)
    longest = mark.end() + 4 * len(answer) + 200
    ends = takewhile(lambda end: end <= longest, _ends(text, mark.end()))
    return any(_same_words(text[mark.end() : end], answer) for end in ends)


def closing_sentence(response: str, answer: str) -> tuple[str, str]:
    """What stands before and after the answer in the sentence that gives it at the end of a response.

    That is `("So the answer is ", ".")`, or with another `MARKER`; nothing on either side where the response does not
    end so.
    """
    mark = _last_mark(response)
    around = rf"""([\p{{Ps}}\p{{Pi}}"'`*_$]*){regex.escape(answer)}({_COPULA}[\p{{STerm}}\p{{Pe}}\p{{Pf}}"'`*_$]*)\s*"""
    found = mark and regex.compile(around, regex.IGNORECASE).fullmatch(response, mark.end())
    return (mark[0] + found[1], found[2]) if mark and found else ("", "")


def _last_mark(text: str) -> Any:
    marks = list(MARKER.finditer(text))
    return ([mark for mark in marks if not mark["label"]] or marks or [None])[-1]


def _ends(text: str, start: int) -> Iterator[int]:
    """Where the sentence that begins at `start` may end: at each end of a sentence or line behind it."""
    for end in _END.finditer(text, start):
        said = text[max(start, end.start() - 20) : end.start()]
        rest = text[end.end() : end.end() + 40].partition("\n")[0].lstrip(" \"'”’)*")
        if end[0] == "." and rest:
            opens = _OPENER.match(rest)
            if (
                _ABBREVIATED.search(said)
                or (said.endswith("No") and rest[0].isdigit())
                or (_DOTTED.search(said) and not opens and not (said[-1].islower() and rest[0].isupper()))
                or (_INITIAL.search(said) and _INITIALED.match(rest))
                or (_INITIALS.search(said) and not opens)
            ):
                continue
        yield end.start()


def _goes_on_after_initial(text: str, start: int, end: int) -> bool:
    rest = text[end + 1 :].lstrip(" ")
    return bool(_MIDDLE_INITIAL.search(text[start:end]) and rest[:1].isupper() and not _OPENER.match(rest))


def _is_number(said: str, number: Any) -> bool:
    found = NUMBER.search(said)
    return bool(found) and _same_number(found, number) and not _GOES_ON.match(said, found.end())


def _same_number(one: Any, other: Any) -> bool:
    """Equal values; a currency or % counts where the right answer has one, and another currency than that is wrong."""
    (value, percent, currency), (right, right_percent, right_currency) = _value(one), _value(other)
    same_unit = (not right_percent or percent) and (not currency or not right_currency or currency == right_currency)
    return value == right and bool(same_unit)


def _value(number: Any) -> tuple[Decimal, str, str]:
    sign, currency, digits, power, percent = number.groups(default="")
    return Decimal(sign + digits.replace(",", "") + power), percent, currency


def _same_words(said: str, answer: str) -> bool:
    """Equal words; of several values, as in [0, 1), the brackets count where both have some."""
    ends = [(text[:1] + text[-1:]) for text in (_fold(t).strip(" \t\n.*$`") for t in (said, answer))]
    differ = "," in answer and ends[0] != ends[1] and all(set(end) <= set("()[]{}") for end in ends)
    return _plain(said) == _plain(answer) and not differ


def _plain(text: str) -> str:
    return " ".join(_fold(text).casefold().split()).strip(AROUND)


def _fold(text: str) -> str:
    """Width, compatibility forms and the script of digits set aside, but not what is raised, lowered or a fraction."""
    text = regex.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3})|\\,|\{(?=,\})|(?<=\{,)\}|\\(?=[$%])", "", text)
    text = regex.sub(r"\\(?:text|textbf|mathrm|mathbf)\{([^{}]*)\}", r"\1", text)
    return unicodedata.normalize("NFC", text.translate(_forms()))


@cache
def _forms() -> dict[int, str]:
    forms = {ord("−"): "-", ord("٪"): "%", ord("٫"): ".", ord("٬"): ","}
    for sign in map(chr, range(128, sys.maxunicode + 1)):
        kind = unicodedata.decomposition(sign).partition(" ")[0]
        if sign.isdecimal():
            forms[ord(sign)] = str(unicodedata.decimal(sign))
        elif kind.startswith("<") and kind not in {"<super>", "<sub>", "<fraction>"}:
            forms[ord(sign)] = unicodedata.normalize("NFKC", sign)
    return forms
