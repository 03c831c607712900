"""The rule that finds a final answer and compares it, on the forms that real rows and models use."""

import pytest

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
    ],
)
def test_the_sentence_that_gives_the_answer_is_taken_from_the_end_of_the_response(
    response: str, answer: str, sides: tuple[str, str]
):
    assert closing_sentence(response, answer) == sides
