"""The page of a domain's adapter: what it says, that texts stay texts, and that it needs nothing but itself."""

import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest

from g2is_assets.contracts.audit import QUOTED
from g2is_assets.reports.page.build import as_json, build_page
from g2is_assets.reports.page.charts import axis
from g2is_assets.reports.page.sections import MAX_POINTS, TEXT_LIMIT
from support.pages import HOSTILE, N_TAKEN, before, evaluated, material, row_id

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Tree(HTMLParser):
    """Elements with their attributes and the text directly in them, in order; `faults` are wrongly nested ends."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[dict[str, Any]] = []
        self.open: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = {"tag": tag, "attrs": dict(attrs), "text": "", "within": [e["tag"] for e in self.open]}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append({"tag": tag, "attrs": dict(attrs), "text": "", "within": [e["tag"] for e in self.open]})

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1]["tag"] != tag:
            self.faults.append(f"</{tag}> in {[e['tag'] for e in self.open]}")
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element["text"] += data

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [element for element in self.elements if element["tag"] == tag]


@pytest.fixture(scope="module")
def page() -> str:
    return build_page(material(before=before())).html


@pytest.fixture(scope="module")
def tree(page: str) -> Tree:
    return Tree(page)


def test_the_page_is_well_formed_and_each_section_has_a_heading_of_the_next_level(tree: Tree) -> None:
    assert tree.faults == []
    assert tree.open == []
    headings = [element for element in tree.elements if re.fullmatch(r"h[1-6]", element["tag"])]
    levels = [int(element["tag"][1]) for element in headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [element["attrs"]["id"] for element in tree.elements if "id" in element["attrs"]]
    assert len(ids) == len(set(ids))
    names = [element["attrs"].get("aria-labelledby") for element in tree.all("section")]
    assert {name for name in names if name} <= set(ids)
    anchors = {a["attrs"]["href"] for a in tree.all("a")}
    assert {anchor[1:] for anchor in anchors} <= set(ids)
    sections = {section["attrs"].get("id") for section in tree.all("section")} - {"result", "map-row"}
    assert sections == {anchor[1:] for anchor in anchors} - {"content"}
    assert {"answers", "changed", "map", "checks", "chain", "limits"} < sections


def test_shapes_are_hidden_from_readers_aloud_and_tables_have_captions_and_scopes(tree: Tree) -> None:
    assert all(svg["attrs"]["aria-hidden"] == "true" for svg in tree.all("svg"))
    assert len(tree.all("caption")) == len(tree.all("table")) > 5
    assert all(th["attrs"].get("scope") in ("row", "col") for th in tree.all("th"))
    regions = [e["attrs"] for e in tree.elements if e["attrs"].get("role") == "region"]
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)
    (canvas,) = tree.all("canvas")
    assert canvas["attrs"]["tabindex"] == "0"
    assert "20 rows of the pool" in canvas["attrs"]["aria-label"]
    assert tree.all("html")[0]["attrs"]["lang"] == "en"


def test_no_text_of_a_row_becomes_markup(page: str, tree: Tree) -> None:
    scripts = tree.all("script")
    assert [script["attrs"] for script in scripts] == [{"type": "application/json", "id": "map-data"}, {}]
    assert len(tree.all("style")) == 1
    assert {svg["attrs"]["class"] for svg in tree.all("svg")} == {"bars", "strip", "axis", "upright", "field", "stroke"}
    assert tree.all("img") == []
    assert [name for e in tree.elements for name in e["attrs"] if name.startswith("on")] == []
    assert [e for e in tree.elements if "style" in e["attrs"]] == []
    assert {b["text"] for b in tree.all("b")} == {"They were not chosen by topic.", "40", "1"}
    assert page.count("<script>alert") == 0


def test_every_text_is_shown_whole_but_for_what_would_reorder_or_control(tree: Tree) -> None:
    shown = {pre["text"] for pre in tree.all("pre")}
    for text in (HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[5], HOSTILE[7]):
        assert text in shown
        assert f"answer to {text}" in shown
    assert "שלום עולם \ufffdevil\ufffd \ufffdx\ufffd مرحبا" in shown
    assert "line \u2028 and \u2029 separators \ufffd \ufffd[31m \ud7ff tab\tend\nnext" in shown
    assert all(pre["attrs"]["dir"] == "auto" for pre in tree.all("pre"))


def test_a_long_text_is_cut_and_the_page_says_so(tree: Tree) -> None:
    assert HOSTILE[6][:TEXT_LIMIT] + "…" in {pre["text"] for pre in tree.all("pre")}
    notes = {p["text"] for p in tree.all("p")}
    assert f"The first {TEXT_LIMIT:,} of {len(HOSTILE[6]):,} characters." in notes


def test_the_data_for_the_script_survives_and_holds_no_markup(page: str, tree: Tree) -> None:
    (island,) = re.findall(r'<script type="application/json" id="map-data">(.*?)</script>', page, flags=re.S)
    assert not set(island) & set("<>&\u2028\u2029")
    data = json.loads(island)
    assert data["n_taken"] == N_TAKEN
    assert data["words"][0] == HOSTILE[0]
    assert set(data["sources"]) == {"plain", "s & t", "<b>other</b>"}
    assert data["before"] == [-1, *range(N_TAKEN - 1)]
    assert max(*data["x"], *data["y"]) == 4095
    assert len(data["x"]) == N_TAKEN + 12 + 2
    assert data["own"] == [2, 3]
    assert data["why"][0] == "Left: its pull was 0.1000 and its redundancy 0.0200 when the walk ended, 1st in line."
    assert data["why"][11] == "Left."
    assert json.loads(as_json({"a": "</script>\u2028&"})) == {"a": "</script>\u2028&"}


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_from_elsewhere(page: str, tree: Tree) -> None:
    (policy,) = [m["attrs"]["content"] for m in tree.all("meta") if "http-equiv" in m["attrs"]]
    digests = {
        tag: base64.b64encode(hashlib.sha256(tree.all(tag)[-1]["text"].encode()).digest()).decode()
        for tag in ("style", "script")
    }
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digests['style']}'; script-src 'sha256-{digests['script']}'; "
        "base-uri 'none'; form-action 'none'"
    )
    addresses = [
        e["attrs"][name] for e in tree.elements for name in ("src", "href", "action", "srcset") if name in e["attrs"]
    ]
    assert [address for address in addresses if not address.startswith("#")] == []
    own = tree.all("style")[0]["text"] + tree.all("script")[-1]["text"]
    assert re.findall(r"https?:|url\(|@import|innerHTML|insertAdjacent|document\.write|\beval\b|fetch\(", own) == []


def test_the_verdict_is_one_sentence_with_relative_numbers(tree: Tree) -> None:
    (verdict,) = [p["text"] for p in tree.all("p") if p["attrs"].get("class") == "verdict"]
    assert verdict == (
        "Here G2IS is better than the base model (loss 13.3 % lower, perplexity 3.67 after 4.48) and not told apart "
        "from a random subset of the same size (loss 0.8 % higher, perplexity 3.67 after 3.63) (one seed)."
    )


def test_scores_on_validation_rows_are_called_indicative() -> None:
    page = build_page(material(evaluated=evaluated({**material().metrics, "split": "validation"}))).html
    assert "On its own validation rows, so only indicative" in page
    assert "Loss on 40 validation rows" in page


def test_checks_are_listed_with_severity_result_and_finding(tree: Tree) -> None:
    rows = [" ".join(row["text"].split()) for row in tree.all("tr")]
    assert "walk_stays_homeIt stays <home>.failedwarningcosine 0.1 & less" in rows
    assert "budgets_add_upThey add up.passederrorall" in rows
    results = [span["attrs"]["class"] for span in tree.all("span") if span["text"] in ("failed", "passed")]
    assert results == ["warning", "passed"]
    (line,) = [p["text"] for p in tree.all("p") if p["attrs"].get("class") == "checks-line"]
    assert line.startswith("1 of 2 checks passed: not walk_stays_home.")


def test_what_was_kept_out_is_counted_by_reason_and_why_a_row_was_withdrawn_stays_in_the_store(
    page: str, tree: Tree
) -> None:
    rows = [td["text"] for td in tree.all("td")]
    cells = list(zip(rows, rows[1:], rows[2:], strict=False))
    assert ("rows of the pool's files", "unusable: no response left: N tokens <b>", "2") in cells
    assert ("pool rows", "licence not allowed: CC-BY-NC", "1") in cells
    assert ("domain rows", "used, but max_length cut the end off", "0") in cells
    assert ("pool rows", "withdrawn on request", "1") in cells
    assert ("pool rows", "near-duplicate of another pool row", "1") in cells
    assert ("pool rows", "leak: repeats a test row (equal)", "1") in cells
    assert "asked by a person" not in page


def test_a_taken_row_says_why_in_words_and_what_it_resembles(tree: Tree) -> None:
    lines = [li["text"] for li in tree.all("li")]
    assert any("Taken as row 2 of 8 by the balanced walk: pull 0.5000 less redundancy 0.1000" in line for line in lines)
    assert any(f"it resembles {row_id(0)[:8]} (<script>window.ran = 1</script> hello) most" in line for line in lines)


def test_a_row_of_the_papers_walk_says_so_too() -> None:
    made = material().made.model_copy(update={"settings": {"walk": "gradient", "delta": 0.8, "min_core_cosine": 0.2}})
    walked = material().subset.with_columns(predecessor_cosine=0.3, consistency_before=0.6)
    lines = [li["text"] for li in Tree(build_page(material(made=made, subset=walked)).html).all("li")]
    assert "Taken as row 1 of 8, by component 0." in lines
    assert "Consistency 0.5000, where 0.8 x 0.6000 was needed. Cosine to the component 0.5000." in lines
    (island,) = re.findall(r'id="map-data">(.*?)</script>', build_page(material(made=made, subset=walked)).html)
    assert json.loads(island)["why"][0] == "Left: below the smallest core cosine, 0.2."


def test_the_chain_names_every_version_with_digest_time_and_inputs(tree: Tree) -> None:
    codes = [code["text"] for code in tree.all("code")]
    assert {"1" * 64, "2" * 64, "3" * 64} <= set(codes)
    text = " ".join(td["text"] for td in tree.all("td"))
    assert "2025-01-02 03:04:05" in text
    names = {th["text"] for th in tree.all("th")}
    assert {"finetune/adapter[shop]", "selection/subset[shop]", "file:<i>.jsonl", "walk", "withdrawn"} <= names
    assert "1 in number" in text


def test_equal_tables_give_equal_pages_whatever_the_order_of_the_map() -> None:
    first, again = build_page(material()), build_page(material())
    assert first.html == again.html
    shuffled = material()
    other = build_page(material(places=shuffled.places.reverse()))
    assert other.html == first.html


def test_every_row_with_text_on_the_page_is_listed_as_quoted(page: str) -> None:
    given = material()
    quoted = QUOTED.validate(build_page(given).quoted)
    places = dict(quoted.select("row_id", "place").iter_rows())
    texts = dict(pl.concat([t.select("row_id", "prompt") for t in (given.pool, given.target)]).iter_rows())
    words = Tree(page)
    shown = "".join(words.all("html")[0]["text"].split())
    for known, prompt in texts.items():
        if "".join(prompt.split()) in shown:
            assert known in places, prompt
    assert places[row_id(0)] == "taken"
    assert places[row_id(1000)] == "pool"
    assert places[row_id(0, "b")] == "validation"
    assert places[row_id(7, "b")] == "answered"


def test_of_a_large_pool_a_fixed_sample_is_shown_with_all_rows_taken() -> None:
    large = material(n_others=MAX_POINTS + 500)
    page = build_page(large)
    (island,) = re.findall(r'id="map-data">(.*?)</script>', page.html, flags=re.S)
    assert len(json.loads(island)["x"]) == MAX_POINTS + N_TAKEN + 2
    assert "a random sample of 10,000 of 10,500, drawn with a fixed seed" in page.html
    assert page.html == build_page(large).html
    assert set(page.quoted.filter(pl.col("place") == "taken")["row_id"]) == {row_id(n) for n in range(N_TAKEN)}
    assert len(page.quoted) == MAX_POINTS + N_TAKEN + 4
    assert len(page.html.encode()) < 3_000_000


def test_the_result_is_drawn_with_every_model_in_its_place_and_the_interval_about_the_others(tree: Tree) -> None:
    dots = {e["attrs"]["class"]: float(e["attrs"]["cx"][:-1]) for e in tree.all("circle")}
    assert [e["attrs"]["class"] for e in tree.all("circle")] == ["dot-other", "dot-other", "dot-own"]
    lines = [e["attrs"] for e in tree.all("line") if e["attrs"]["class"] == "interval"]
    ours = {e["attrs"]["x1"] for e in tree.all("line") if e["attrs"]["class"] == "ours"}
    assert ours == {f"{dots['dot-own']:.2f}%"}
    base, random = ([float(line[end][:-1]) for end in ("x1", "x2")] for line in lines)
    assert dots["dot-own"] < base[0] < base[1]
    assert random[0] < dots["dot-own"] < random[1]


def test_a_model_that_was_served_before_is_drawn_where_the_evaluation_has_one() -> None:
    served = {"nll_served": 1.4, "minus_served": -0.1, "minus_served_low": -0.2, "minus_served_high": 0.0}
    shares = {"n_asked": 8, "n_right_base": 2, "n_right_g2is": 4}
    shares |= {"right_minus_base": 0.25, "right_minus_base_low": -0.125, "right_minus_base_high": 0.625}
    page = build_page(material(evaluated=evaluated({**material().metrics, **served, **shares}))).html
    assert "<small>+25 points</small><small>[−12, +62]</small>" in page
    names = [span["text"] for span in Tree(page).all("span") if "name" in (span["attrs"].get("class") or "")]
    assert names[:4] == ["Base model", "Random rows", "Served before", "This adapter"]
    assert names[4:6] == ["Base model", "This adapter"]


def test_rows_are_counted_as_won_tied_and_lost(tree: Tree) -> None:
    told = [span["text"] for span in tree.all("span") if span["attrs"].get("class") == "value" and "·" in span["text"]]
    assert told == ["40 · 0 · 0", "1 · 39 · 0"]


def test_answers_stand_before_and_after_with_what_is_right(tree: Tree) -> None:
    (item,) = [li for li in tree.all("li") if "Improved most" in li["text"]]
    assert "loss 1.500 → 1.300" in item["text"]
    assert [h["text"].split() for h in tree.all("h4")][1:3] == [
        ["Before:", "base", "model", "wrong"],
        ["After:", "this", "adapter", "right"],
    ]
    assert {"</pre><script>base</script>", "</pre><script>g2is</script>"} <= {pre["text"] for pre in tree.all("pre")}


def test_what_changed_names_rows_that_came_and_went_with_their_words_where_there_are_some(
    tree: Tree, page: str
) -> None:
    items = [" ".join(li["text"].split()) for li in tree.all("li")]
    assert f"{row_id(1000)[:8]} plain row 0 the walk's choice" in items
    assert f"{row_id(5000)[:8]} no longer in the pool left the pool" in items
    cells = [td["text"] for td in tree.all("td")]
    assert ["1.4000", "1.3000", "−0.1000"] in [cells[n : n + 3] for n in range(len(cells))]
    assert "file:&lt;i&gt; changed" in page
    assert "What changed" not in build_page(material()).html
    places = dict(build_page(material(before=before())).quoted.select("row_id", "place").iter_rows())
    assert places[row_id(1000)] == "before"


def test_lift_says_how_much_more_of_a_source_there_is_than_in_the_pool(tree: Tree) -> None:
    rows = [" ".join(row["text"].split()) for row in tree.all("tr")]
    assert "s & t7 87.5 %7 35.0 %× 2.5" in rows


@pytest.mark.parametrize("values", [[0.1, 0.2, 1.7], [5.0], [-3.0, -2.9], [0.0, 0.0], [1e-9, 2e-9], [1e6, 3e6]])
def test_every_value_lies_on_its_axis_between_round_ticks(values: list[float]) -> None:
    scale = axis(values)
    assert all(0 < float(scale.at(value)) < 100 for value in values)
    assert 2 <= len(scale.ticks) <= 9
    assert all(0 <= float(place) <= 100 for place, _ in scale.ticks)
    assert len({label for _, label in scale.ticks}) == len(scale.ticks)
