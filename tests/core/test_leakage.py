"""Leaks between pool and domain by text, and groups of equal texts."""

import random
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import accumulate, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.core.leakage import Leak, Text, compared_whole, equal_text_groups, find_leaks, words
from support.scripts import PROMPTS


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
        ("İSTANBUL'UN ISSIZ SOKAĞI", "istanbul'un ıssız sokağı"),
        ("Việt", "VIỆT"),
        ("a\u00adb \u200fc\ufeff", "ab c"),
        ("مُحَمَّد كـــتب", "محمد كتب"),
        ("שָׁלוֹם צה״ל", "שלום צהל"),
        ("می‌خواهم", "میخواهم"),
        ("أين إلى مؤسسة کیف", "اين الي موسسه كيف"),
        ("क़ ३ + ४", "क़ 3 + 4"),
        ("ΟΔΟΣ", "οδος"),
        ("ＡＢＣ　１２３", "abc 123"),
        ("我们 去 公园。", "我们去公园"),
        ("ｶﾞｷﾞ！", "ガギ"),
        ("が", "が"),
        ("할 수 있다", "할수있다"),
        ("한", "한"),
        ("ไทย ดี", "ไทยดี"),
        ("ក​ខ", "កខ"),
        ("ሰላም፡ነው", "ሰላም ነው"),
        ("བོད་ཡིག", "བོད ཡིག"),
        ("❤️ 😀😀", "❤ 😀 😀"),
    ],
)
def test_case_punctuation_width_accents_and_white_space_make_no_difference(one: str, other: str) -> None:
    assert words(one) == words(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("3 + 4", "3 = 4"), ("re sign", "resign"), ("Olé", "Ole"), ("€5", "$5"), ("क", "कि"), ("ไม", "ไม่"), ("は", "ば")],
)
def test_symbols_spaces_and_accents_themselves_do(one: str, other: str) -> None:
    assert words(one) != words(other)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("请用Python写for循环", ["请", "用", "python", "写", "for", "循", "环"]),
        ("ラーメン3杯", ["ラ", "ー", "メ", "ン", "3", "杯"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("파이썬으로", ["파", "이", "썬", "으", "로"]),
        ("👍🏽ok 🇵🇪", ["👍", "🏽", "ok", "🇵", "🇪"]),
        ("कृपया बताइए।", ["कृपया", "बताइए"]),
        ("a[i] = b(i);", ["ai", "=", "bi"]),
    ],
)
def test_where_spaces_make_no_words_each_sign_is_one_with_its_marks(text: str, found: list[str]) -> None:
    assert words(text) == found


LATIN = st.text(st.characters(max_codepoint=0x24F, exclude_characters="\xadıİ", exclude_categories=("Cc",)))


@given(LATIN)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_latin_text_is_split_at_its_white_space_alone(text: str) -> None:
    assert words(text) == plain(text)


ASKED = {
    "Arabic": "اشرح لي كيف تعمل الخلايا الشمسية في توليد الكهرباء داخل البيوت",
    "Armenian": "Բացատրիր ինչպես են արևային վահանակները տանը հոսանք արտադրում",
    "Burmese": "နေရောင်ခြည်စွမ်းအင်သုံး ပြားများ ဘယ်လိုအလုပ်လုပ်သလဲ ရှင်းပြပါ",
    "Cyrillic": "Объясни, как солнечные панели вырабатывают электричество для дома",
    "Devanagari": "समझाइए कि सौर पैनल घर के लिए बिजली कैसे बनाते हैं",
    "Ethiopic": "የፀሐይ ፓነሎች ለቤት እንዴት ኤሌክትሪክ እንደሚያመነጩ አብራራ",
    "Georgian": "ახსენი როგორ გამოიმუშავებს მზის პანელი ელექტროენერგიას სახლისთვის",
    "Greek": "Εξήγησε πώς παράγουν ρεύμα οι ηλιακοί συλλέκτες σε ένα σπίτι",
    "Hebrew": "הסבר כיצד לוחות סולאריים מייצרים חשמל עבור הבית שלנו",
    "Khmer": "សូមពន្យល់ពីរបៀបដែលបន្ទះសូឡាផលិតអគ្គិសនីសម្រាប់ផ្ទះ",
    "Lao": "ກະລຸນາອະທິບາຍວ່າແຜງໂຊລາເຊວຜະລິດໄຟຟ້າໃຫ້ເຮືອນແນວໃດ",
    "Tamil": "சூரிய தகடுகள் வீட்டிற்கு எவ்வாறு மின்சாரம் தயாரிக்கின்றன என்று விளக்கு",
    "Tibetan": "ཉི་མའི་ནུས་པའི་གློག་འཁོར་གྱིས་ཁྱིམ་ལ་གློག་ཇི་ལྟར་བཏོན་པ་འགྲེལ་བཤད་གནང་རོགས།",
    "Turkish": "Işık panellerinin evde nasıl ISI ve elektrik ürettiğini İngilizce açıkla",
    "Vietnamese": "Giải thích cách các tấm pin mặt trời tạo ra điện cho ngôi nhà",
    **{name: prompts[0] for name, prompts in PROMPTS.items()},
}


@pytest.mark.parametrize("script", ASKED)
def test_a_prompt_inside_a_longer_row_is_found_in_every_script(script: str) -> None:
    asked, other = ASKED[script], ASKED["Greek" if script != "Greek" else "Hebrew"]
    for said in (asked, unicodedata.normalize("NFD", asked), asked.upper(), asked.replace(" ", "  ")):
        found = leaks_of(Text(f"{other} {said} ({other})!", "x"), Text(asked, "y"))
        assert [leak[2] for leak in found] == [1.0]
    first = min((at for gap in " ་" if (at := asked.find(gap)) > 0), default=4)
    mended = f"{asked[:first]} {other[:4]} {asked[first:]}"  # a word put in
    assert len(leaks_of(Text(mended, "x"), Text(asked, "y"))) == 1
    assert leaks_of(Text(other, "x"), Text(asked, "y")) == []


@pytest.mark.parametrize("script", PROMPTS)
def test_prompts_of_one_script_are_no_leaks_of_each_other(script: str) -> None:
    rows = [Text(prompt, "?") for prompt in PROMPTS[script]]
    assert [(leak.pool_row, leak.domain_row) for leak in find_leaks(rows, rows)] == [(i, i) for i in range(20)]
    assert [find_leaks(rows, rows[:i] + rows[i + 1 :])[i:] for i in range(20)] == [
        [Leak(row, row - 1, "equal", 1.0) for row in range(i + 1, 20)] for i in range(20)
    ]


@pytest.mark.parametrize(
    ("script", "ask"),
    [
        ("Chinese", "你是一位经验丰富的中学老师，请仔细阅读下面的问题，然后用简明的语言逐步回答："),
        ("Japanese", "あなたは経験豊かな教師です。次の質問をよく読んで、順を追って簡潔な言葉で答えなさい。質問："),
        ("Thai", "คุณเป็นครูที่มีประสบการณ์ โปรดอ่านคำถามต่อไปนี้ให้ละเอียดแล้วตอบทีละขั้นด้วยภาษาที่เข้าใจง่าย คำถาม:"),
        ("Korean", "당신은 경험이 많은 교사입니다. 다음 질문을 자세히 읽고 간결한 말로 차근차근 답하십시오. 질문:"),
    ],
)
def test_a_template_in_any_script_throws_out_no_other_row(script: str, ask: str) -> None:
    prompts = [f"{one}{other}" for one, other in zip(PROMPTS[script], PROMPTS[script][1:], strict=False)]
    domain, others = [Text(ask + prompt, "?") for prompt in prompts[:9]], prompts[10:]
    assert find_leaks([Text(ask + prompt, "!") for prompt in others], domain) == []
    assert {leak.reason for leak in find_leaks([Text(prompts[3], "!")], domain)} == {"shared 13-gram"}
    # In four rows it is no template yet.
    assert len(find_leaks([Text(ask + prompt, "!") for prompt in others], domain[:4])) == len(others)


@pytest.mark.parametrize(("sign", "needed"), [("一", 21), ("가", 31), ("あ", 41), ("ก", 41), ("😀", 13), ("ꀀ", 21)])
def test_so_many_signs_as_come_to_thirteen_words_are_a_leak_and_one_less_is_not(sign: str, needed: int) -> None:
    shared, own = "".join(chr(ord(sign) + i) for i in range(needed)), run("own", 40)
    assert leaks_of(Text(shared, "x"), Text(f"{own} {shared}", "y"))[0][1] == "shared 13-gram"
    assert leaks_of(Text(shared[:-1], "x"), Text(f"{own} {shared}", "y")) == []


def test_rows_too_short_for_more_than_equality_are_named() -> None:
    rows = [
        Text("one two three four five six", ""),
        Text("one two three four five", ""),
        Text("Go on", run("s", 13)),
        Text("Go on", run("s", 12)),
        Text("", ""),
        Text("?!", ")"),
        Text("请翻译成英文", "好"),
        Text("请把这段话翻译成英文吧", "好"),
        Text("😀😀😀😀😀", ""),
        Text("for(i=0;i<n;i++){a[i]=b[i];}", ""),
        Text("a b a b a b a b", ""),
    ]
    assert compared_whole(rows) == [1, 3, 4, 5, 6, 8, 9, 10]
    assert compared_whole([]) == []


def test_a_response_that_is_all_template_lets_no_row_be_compared_by_it() -> None:
    assert compared_whole([Text(f"Go on {row}", run("s", 20)) for row in range(9)]) == list(range(9))


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
SIZES = {"天": 6, "地": 6, "가": 4, "か": 3, "ก": 3}
"""Tenths of a word that signs without spaces between them are."""
LONG = "天地か天地가" * 4
WORDS = st.sampled_from(["a", "B", "c,", "d", *SIZES, "天地", "か가", "地。か"])
PHRASES = st.sampled_from([run("s", 13), run("s", 16), run("t", 12), run("t", 14), run("u", 6), LONG, LONG[5:]])
PARTS = st.lists(st.one_of(WORDS, PHRASES), max_size=8).map(" ".join)
TEXTS = st.builds(Text, prompt=PARTS, response=PARTS)


def plain(text: str) -> list[str]:
    kept = "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if unicodedata.category(c)[0] != "P")
    return kept.split()


def split(text: str) -> tuple[str, ...]:
    return tuple("".join(f" {c} " if c in SIZES else c for c in " ".join(plain(text))).split())


def size(units: Iterable[str]) -> int:
    return sum(SIZES.get(unit, 10) for unit in units)


def total(grams: Iterable[tuple[str, ...]]) -> int:
    """As much as the first units of these grams are."""
    return size([gram[0] for gram in grams])


@cache
def windows(part: tuple[str, ...], n: int) -> list[tuple[str, ...]]:
    """Each unit with the fewest behind it that come to one word less than `n`."""
    sums = [0, *accumulate(SIZES.get(unit, 10) for unit in part)]
    ends = [next((j for j, at in enumerate(sums) if at >= behind + 10 * (n - 1)), None) for behind in sums[1:]]
    return [part[i:j] for i, j in enumerate(ends) if j]


def brute_force(pool: list[Text], domain: list[Text]) -> list[Leak]:
    """The rules one by one, over all pairs of rows."""
    ours, theirs = ([(split(t.prompt), split(t.response)) for t in texts] for texts in (pool, domain))

    @cache
    def is_template(trigram: tuple[str, ...]) -> bool:
        n = sum(trigram in windows(p, 3) or trigram in windows(r, 3) for p, r in theirs)
        return n >= 5 and n / len(theirs) > 0.2

    def verdict(row: tuple[tuple[str, ...], ...], other: tuple[tuple[str, ...], ...]) -> tuple[int, float] | None:
        trigrams = set(windows(other[0], 3))
        held, of = total(trigrams.intersection(windows(row[0], 3) + windows(row[1], 3))), total(trigrams)
        share = held / of if of else 0.0
        if row == other or (row[0] == other[0] and size(other[0]) >= 40):
            return 3, 1.0
        for mine, yours in product(row, other):
            for gram in set(windows(mine, 13)).intersection(windows(yours, 13)):
                if 2 * total(t for t in windows(gram, 3) if not is_template(t)) >= total(windows(gram, 3)):
                    return 2, share
        return (1, share) if of >= 40 and 10 * held >= of * (7 if of <= 50 else 6) else None

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
    parts = [(split(t.prompt), split(t.response)) for t in texts]
    assert equal_text_groups(texts).tolist() == [parts.index(part) for part in parts]
