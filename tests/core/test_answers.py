"""The rule that finds a final answer and compares it, on the forms that real rows and models use."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.core.answers import closing_sentence, final_answer, is_right


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("12 + 3 = 15. The answer is 15.", "15"),
        ("So the answer is (B).", "(B)"),
        ("The answer is 4.5. That is all.", "4.5"),
        ("The answer is: yes\nQuestion: why?", "yes"),
        ("The answer is 3. No, wait, the ANSWER IS 4.", "4"),
        ("The answer is", ""),
        ("No", None),
        ("The answers are many.", None),
        ("The answer isn't known.", None),
        ("The answer is Mr. Smith. He came late.", "Mr. Smith"),
        ("The answer is J. R. R. Tolkien. He wrote it.", "J. R. R. Tolkien"),
        ("The answer is John F. Kennedy. He won.", "John F. Kennedy"),
        ("The answer is vitamin C. It helps.", "vitamin C"),
        ("The answer is B. Because it fits.", "B"),
        ("The answer is the U.S. Senate. It votes.", "the U.S. Senate"),
        ("The answer is 10 a.m. on Monday.", "10 a.m. on Monday"),
        ("The answer is 10 a.m. The train left.", "10 a.m"),
        ("The answer is No. 5. It won.", "No. 5"),
        ("The answer is no. It lost.", "no"),
        ("The answer is https://a.example/b.html?x=1. See there.", "https://a.example/b.html?x=1"),
        ("The answer is e.g. x.", "e.g. x"),
        ('The answer is "Smith." That is all.', '"Smith'),
        ("The answer is 北京。它很大。", "北京"),
        ("The answer is १२।", "१२"),
        ("**Answer:** 42\nDone", "42"),
        ("**Answer**: Paris.", "Paris"),
        ("It is \\boxed{\\frac{1}{2}}, I think.", "\\frac{1}{2}"),
        ("2 + 2 = 4\n#### 4", "4"),
        ("#### Step 2: add\nand so on", None),
        ("所以答案是北京。", "北京"),
        ("答えは42です。", "42"),
        ("정답은 서울입니다.", "서울"),
        ("La respuesta es Madrid. Y ya.", "Madrid"),
        ("Die Antwort lautet Bonn.", "Bonn"),
        ("الجواب هو القاهرة.", "القاهرة"),
        ("उत्तर: दिल्ली।", "दिल्ली"),
        ("Ответ: Москва.", "Москва"),
    ],
)
def test_the_final_answer_is_what_follows_the_last_mark_up_to_the_end_of_its_sentence(text: str, found: str | None):
    assert final_answer(text) == found


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("He pays $1,200. The answer is 1,200.00 dollars.", "1200", True),
        ("The answer is -3.", "-3", True),
        ("The answer is 3.", "-3", False),
        ("First 5, then 7 apples", "7", True),  # no mark: the last number
        ("First 5, then 7 apples", "5", False),
        ("The answer is 5 of 7.", "5", True),  # with the mark: the first
        ("The answer is unknown.", "5", False),
        ("", "5", False),
        ("So the answer is (b).", "(B)", True),
        ("So the answer is B.", "(B)", True),
        ("So the answer is yes", "Yes", True),
        ("Yes.", "Yes", True),
        ("Yes, it does.", "Yes", False),
        ("No, working  hours fell", "No, working hours fell.", True),
        ("", "Yes", False),
        ("The answer is Mr. Smith.", "Mr. Smith", True),
        ("The answer is Mr. Smith.", "Mr", False),
        ("The answer is mr. smith. He came late.", "Mr. Smith", True),
        ("The answer is Smithson.", "Smith", False),
        ("The answer is not Smith.", "Smith", False),
        ("The answer is Smith or Jones.", "Smith", False),
        ("The answer is A or B.", "A", False),
        ("The answer is (A) or (B).", "A", False),
        ("The answer is B. Because it fits.", "B", True),
        ("The answer is B. Paris is larger.", "B", True),
        ("The answer is Option B. Paris is larger.", "Option B", True),
        ("The answer is J. R. R. Tolkien.", "J. R. R. Tolkien", True),
        ("The answer is J. R. R. Tolkien. He wrote it.", "J. R. R. Tolkien", True),
        ("The answer is J. R. R. Tolkien.", "J", False),
        ("The answer is J. R. R. Tolkien.", "J. R. R.", False),
        ("The answer is John F. Kennedy. He won.", "John F. Kennedy", True),
        ("The answer is Gen. Ulysses S. Grant.", "Gen. Ulysses S. Grant", True),
        ("The answer is the U.S. Senate.", "the U.S.", False),
        ("The answer is the U.S. Senate.", "the U.S. Senate", True),
        ("The answer is the U.S. It is large.", "the U.S.", True),
        ("The answer is the U.S.", "the U.S.", True),
        ("The answer is 10 a.m. on Monday.", "10 a.m. on Monday", True),
        ("The answer is 10 a.m. on Monday.", "10 a.m.", False),
        ("The answer is 10 a.m. The train left.", "10 a.m.", True),
        ("The answer is No. 5.", "No. 5", True),
        ("The answer is No. 5.", "No", False),
        ("The answer is No. That is all.", "No", True),
        ("the answer is paris. it is large.", "Paris", True),
        ("The answer is e.g. x.", "e.g. x", True),
        ("The answer is a.example. Go there.", "a.example", True),
        ("The answer is a.example/b.", "a", False),
        ("The answer is 'Smith'! Yes.", "Smith", True),
        ("**Answer:** Paris.", "Paris", True),
        ("The answer is **Paris**.", "Paris", True),
        ("So it is \\boxed{\\text{Paris}}.", "Paris", True),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}", True),
        ("The answer is A.\nNo, the answer is B.", "B", True),
        ("The answer is A.\nNo, the answer is B.", "A", False),
        ("The answer is Ｓｍｉｔｈ。", "Smith", True),
        ("The answer is Ole\u0301.", "Olé", True),
        ("The answer is Ole.", "Olé", False),
        ("答案是北京。它很大。", "北京", True),
        ("答案是北京大学。", "北京", False),
        ("答案：北京！", "北京", True),
        ("答えは東京です。", "東京", True),
        ("정답은 서울입니다.", "서울", True),
        ("उत्तर: दिल्ली।", "दिल्ली", True),
        ("مُلخّص. الجواب هو القاهرة؟", "القاهرة", True),
        ("The answer is 12.5.", "12", False),
        ("The answer is 12.", "12.5", False),
        ("The answer is .5.", "5", False),
        ("The answer is 0.5.", ".5", True),
        ("The answer is 5.", "-5", False),
        ("The answer is -$5.", "5", False),
        ("The answer is -$5.", "-5", True),
        ("It goes from 3 to 9-5", "5", True),
        ("The answer is −5.", "-5", True),
        ("The answer is 1,000.", "1", False),
        ("The answer is 1,000.", "1000", True),
        ("The answer is 1.", "1,000", False),
        ("The answer is 12,34,567.", "1234567", True),
        ("The answer is 1\u202f000.", "1000", True),
        ("The answer is 1{,}000.", "1000", True),
        ("The answer is 12,5.", "125", False),
        ("The answer is 12,5.", "12", False),
        ("The answer is 1,2,3.", "123", False),
        ("The answer is 50%.", "50", True),
        ("The answer is 50.", "50%", False),
        ("The answer is 50.0 %.", "50%", True),
        ("The answer is 50 percent of it.", "50", True),
        ("The answer is 5 or 6.", "5", False),
        ("The answer is 5/6.", "5", False),
        ("The answer is 5 1/2.", "5", False),
        ("The answer is 5½.", "5", False),
        ("The answer is 10².", "10", False),
        ("The answer is 10².", "102", False),
        ("The answer is 5 million.", "5", False),
        ("The answer is 5e3.", "5000", True),
        ("The answer is 1.2.3.", "1.2", False),
        ("The answer is not 5.", "5", False),
        ("The answer isn't 5 but 6", "5", False),
        ("The answer is not x = 5.", "5", False),
        ("The answer is 5, not 6.", "5", True),
        ("The answer is 5.", "1e99999999999999999999", False),
        ("The answer is x = 5.", "5", True),
        ("The answer is 5 * 2 = 10.", "10", True),
        ("The answer is 5 * 2 = 10.", "5", False),
        ("The answer is approx. 5 apples.", "5", True),
        ("The answer is ٤٢.", "42", True),
        ("The answer is ４２．", "42", True),
        ("The answer is १,०००।", "1000", True),
        ("答案是42。", "42", True),
        ("答えは42です。", "42", True),
        ("48 / 2 = 24\n#### 24", "24", True),
        ("$\\boxed{-42}$ in 3 steps", "-42", True),
        ("The answer is €5.", "$5", False),
        ("The answer is €5.", "5", True),
        ("The answer is [0, 1).", "(0, 1]", False),
        ("The answer is [0, 1).", "[0, 1)", True),
        ("The answer is 0, 1.", "[0, 1]", True),
        ("The answer is 5.\n\nQuestion: what else?\nAnswer: 7", "5", True),
        ("First 3. Final answer: 7. That took 2 steps", "7", True),
    ],
)
def test_an_answer_is_right_if_it_is_the_same_number_or_the_same_words(text: str, answer: str, right: bool):
    assert is_right(text, answer) is right


@pytest.mark.parametrize(
    ("response", "answer", "sides"),
    [
        ("It rose. So the answer is yes.", "yes", ("So the answer is ", ".")),
        ("2 + 2 = 4.\nThe answer is 4.", "4", ("The answer is ", ".")),
        ("So the answer is (A).\n", "(A)", ("So the answer is ", ".")),
        ("Yes", "Yes", ("", "")),
        ("So the answer is yes. Or is it?", "yes", ("", "")),
        ("The answer is Mr. Smith.", "Mr. Smith", ("The answer is ", ".")),
        ("The answer is Mr. Smith.", "Smith", ("", "")),
        ("The answer is -5.", "5", ("", "")),
        ("The answer is 50%.", "50", ("", "")),
        ("3 + 4 = 7, so the answer is: **7**.", "7", ("so the answer is: **", "**.")),
        ("**Answer:** 42", "42", ("**Answer:** ", "")),
        ("2 + 2 = 4\n#### 4", "4", ("#### ", "")),
        ("It is \\boxed{4}.", "4", ("\\boxed{", "}.")),
        ("他走了。所以答案是北京。", "北京", ("所以答案是", "。")),
        ("答えは42です。", "42", ("答えは", "です。")),
        ("La respuesta es Madrid.", "Madrid", ("La respuesta es ", ".")),
    ],
)
def test_the_sentence_that_gives_the_answer_is_taken_from_the_end_of_the_response(
    response: str, answer: str, sides: tuple[str, str]
):
    assert closing_sentence(response, answer) == sides


@given(st.text(max_size=60), st.text(max_size=12))
@settings(max_examples=500, deadline=None, derandomize=True)
def test_any_text_is_judged_and_an_answer_said_alone_is_right(text: str, answer: str) -> None:
    is_right(text, answer)
    assert final_answer(f"{text} x") is None or "\n" not in str(final_answer(f"{text} x"))
    _, after = closing_sentence(f"{text}{answer}", answer)
    assert f"{text}{answer}".rstrip().endswith(after)
    assert is_right(answer, answer)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=2))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_number_is_right_however_it_is_written(number: Decimal) -> None:
    for said in (f"{number}", f"{number:,}", f"${number:,}", f"**{number}**", f"{number} apples", f"x = {number}"):
        assert is_right(f"So the answer is {said}.", f"{number}")
        assert not is_right(f"So the answer is {said}.", f"{number + 1}")
