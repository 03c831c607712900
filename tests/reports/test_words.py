"""Other people's text in the UI's Markdown is text: rendered by a parser that would let HTML through."""

import base64
import html
import re

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
        {"name": "a", "sources": "x, y|z", "share": 0.123457},
        {"name": None, "sources": "", "share": 2.0},
    ]


def test_a_picture_holds_its_bytes() -> None:
    said = words.picture(b"\x89PNG", "map")
    assert base64.b64decode(said.removeprefix("![map](data:image/png;base64,").removesuffix(")")) == b"\x89PNG"
