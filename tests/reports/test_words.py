"""Other people's text in the UI's Markdown is text: rendered by a parser that would let HTML through."""

import base64
import html
import re
from pathlib import Path

import polars as pl
import pytest
from markdown_it import MarkdownIt

from g2is_assets.reports import words

HOSTILE = (
    "<script>alert('x')</script>",
    "a | b || c \\| d",
    "![picture](http://example.org/x.png) and [link](javascript:alert(1))",
    "**bold** _it_ `code` ~~gone~~ # head &amp; &lt;b&gt; $x$",
    "<img src=x onerror=alert(1)>",
    "back\\slash \\* at the end \\",
    "line\nbreak\r\n| --- |\ttab",
)


def rendered(text: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_escaped_shows_the_text_as_it_is(text: str) -> None:
    page = rendered(words.escaped(text))
    assert set(re.findall(r"<(/?\w+)", page)) == {"p", "/p"}
    assert html.unescape(page) == f"<p>{' '.join(text.split())}</p>\n"


def test_a_long_text_is_cut_before_it_is_escaped() -> None:
    assert words.escaped("<" * 100, limit=4) == "&#60;" * 3 + "…"


def test_no_address_begins_a_link() -> None:
    said = words.escaped("see HTTP://e.org), WWW.e.org), me@e.org)")
    assert said == "see HTTP&#58;//e.org&#41;, WWW&#46;e.org&#41;, me&#64;e.org&#41;"


def test_ids_and_digests_are_shown_by_their_first_characters() -> None:
    assert [words.cell(text) for text in ("0a" * 16, "0b" * 32, "0c" * 15)] == ["0a0a0a0a", "0b0b0b0b", "0c" * 15]


def test_marks_that_reorder_or_move_are_not_shown() -> None:
    assert words.escaped("a\u202eb\x1b[31mc") == "a\ufffdb\ufffd&#91;31mc"
    assert words.cell("a\u202eb\x1b[31mc\nd") == "a\ufffdb\ufffd[31mc d"


def test_the_first_rows_have_lists_as_words_and_leave_vectors_out() -> None:
    rows = pl.DataFrame(
        {"name": ["a", None], "sources": [["x", "y|z"], []], "share": [0.1234567, 2.0], "vector": [[1.0], [2.0]]},
        schema_overrides={"vector": pl.Array(pl.Float32, 1)},
    )
    assert words.cells(rows) == [
        {"name": "a", "sources": "x, y|z", "share": 0.1235},
        {"name": None, "sources": "", "share": 2.0},
    ]


@pytest.mark.parametrize(("value", "shown"), [(5.74682, 5.7468), (-0.0000357628, -0.0000358), (0.0, 0.0), (1e6, 1e6)])
def test_numbers_are_rounded_to_what_people_read(value: float, shown: float) -> None:
    assert words.rounded(value) == shown


def test_a_picture_holds_its_bytes() -> None:
    said = words.picture(b"\x89PNG", "map")
    assert base64.b64decode(said.removeprefix("![map](data:image/png;base64,").removesuffix(")")) == b"\x89PNG"


def measured(**said: float | str) -> dict[str, int | float | str]:
    """Metrics of an evaluation whose adapter is better than everything."""
    nll = {"nll_base": 2.7197, "nll_random": 2.5780, "nll_g2is": 2.5394, "nll_served": 2.5294}
    found = {f"minus_{name[4:]}": nll["nll_g2is"] - value for name, value in nll.items()}
    ends = {
        f"{name}{end}": value + by for name, value in found.items() for end, by in (("_low", -0.01), ("_high", 0.005))
    }
    return {"split": "test", "n_vocabulary": 49152, "n_asked": 0, **nll, **found, **ends, **said}


def test_the_verdict_has_a_measure_and_right_answers_first() -> None:
    said = "Here G2IS is better than the base model (loss 6.6 % lower, perplexity 12.7 after 15.2) and better than "
    said += "a random subset of the same size (loss 1.5 % lower, perplexity 12.7 after 13.2) (one seed)."
    assert words.verdict(measured()) == said
    right = {"n_asked": 50, "n_right_g2is": 31, "n_right_base": 12, "n_right_random": 28}
    first = "31 of 50 answers right (base model 12; random subset 28)"
    assert words.verdict(measured(**right)) == f"{first}. {said}"
    ends = {"right_minus_base": 0.38, "right_minus_base_low": 0.24, "right_minus_base_high": 0.52}
    first = "31 of 50 answers right (base model 12: +38 points [+24, +52]; random subset 28)"
    assert words.verdict(measured(**right, **ends)) == f"{first}. {said}"
    alike = ends | {"right_minus_base_low": 0.38, "right_minus_base_high": 0.38}
    assert "(base model 12; random subset 28)" in words.verdict(measured(**right, **alike))
    none = dict.fromkeys(("n_right_g2is", "n_right_base", "n_right_random"), 0)
    assert words.verdict(measured(**right | none)) == f"{said} No model gets any of 50 rows right."


def test_an_adapter_worse_than_the_one_served_before_is_said_to_be_in_the_result() -> None:
    worse = words.result(measured(minus_served_low=0.001))
    said = "It is worse than the adapter served before (loss 0.4 % higher, perplexity 12.7 after 12.5)."
    assert worse == f"{words.verdict(measured())} {said}"
    alone = {name: value for name, value in measured().items() if "served" not in name}
    assert words.result(alone) == words.verdict(alone)


def test_a_random_models_verdict_is_that_it_guesses() -> None:
    for nll, guesses in ((10.79, True), (9.0, False)):
        metrics = measured(nll_base=nll, nll_g2is=nll - 0.01)
        assert words.verdict(metrics).startswith("The base model is guessing: its loss of 10.79 nats") is guesses
        assert ("better than" in words.verdict(metrics)) is not guesses


def test_before_now_and_difference_are_told_of_a_served_adapter_and_why_it_stays() -> None:
    folder = Path("/lake")
    told = "served before NLL 2.5294, this one 2.5394 on test rows: +0.0100 [+0.0000, +0.0150], worse than it"
    assert f"The newest adapter is served; {told}" in words.serving(folder / "new", folder / "new", measured())
    decides = {f"validation_minus_{name}": value for name, value in (("base", -0.2), ("random", -0.1), ("served", 0.1))}
    still = words.serving(folder / "old", folder / "new", measured(**decides))
    assert "base -0.2000, random -0.1000, served +0.1000, and has to be below 0 for all" in still
    assert "/lake/old/adapter is still served" in still
    assert not words.better_where_it_decides(measured(**decides))
    assert words.better_where_it_decides(measured(**decides | {"validation_minus_served": -0.1}))
    alone = {name: value for name, value in measured().items() if "served" not in name}
    assert words.against_served(alone) is None


def test_lines_are_folded_between_words_and_go_on_further_in() -> None:
    assert words.folded(["    from one two three", "short"], 16) == ["    from one two", "        three", "short"]
    assert words.folded(["a-very-long-word that is left whole"], 10)[0] == "a-very-long-word"


def test_a_share_has_a_space_before_its_sign_and_a_text_is_cut_between_words() -> None:
    assert (words.percent(0.0664, 1), words.percent(1)) == ("6.6 %", "100 %")
    assert words.beginning("What is the role of a central bank?", 24) == "What is the role of a…"
    assert words.beginning("x" * 40, 10) == "x" * 9 + "…"
