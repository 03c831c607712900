"""The page as people use it: pointer, keys, phone, dark, print; and nothing of a row's text ever runs."""

from collections.abc import Iterator
from typing import Any

import pytest

from g2is_assets.reports.page.build import build_page
from support.pages import HOSTILE, N_TAKEN, before, material


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(build_page(material(before=before())).html, encoding="utf-8")
    return file.as_uri()


class Seen:
    """A page that has been opened, with all that it complained of or asked for."""

    def __init__(self, browser: Any, address: str, width: int = 1280, **options: Any) -> None:
        # Without smooth scrolling, so that what is pointed at stands still.
        options |= {"reduced_motion": "reduce", "viewport": {"width": width, "height": 900}}
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)

    def point(self, number: int) -> tuple[float, float]:
        """Where a point lies on the screen: the same sum as the script's, from its data."""
        self.page.locator("#map-canvas").scroll_into_view_if_needed()
        x, y = self.page.evaluate(
            """(i) => {
                const data = JSON.parse(document.getElementById("map-data").textContent);
                const box = document.getElementById("map-canvas").getBoundingClientRect();
                const w = Math.max(1, ...data.x), h = Math.max(1, ...data.y);
                const side = document.getElementById("map-canvas").clientWidth;
                const scale = (side - 28) / Math.max(w, h), left = (side - w * scale) / 2, top = (side - h * scale) / 2;
                return [box.left + left + data.x[i] * scale, box.top + top + (h - data.y[i]) * scale];
            }""",
            number,
        )
        return x, y


@pytest.fixture
def seen(browser: Any, address: str) -> Iterator[Seen]:
    opened = Seen(browser, address)
    yield opened
    assert opened.complaints == []
    assert opened.page.evaluate("window.ran") is None
    assert opened.requests == [address]
    opened.context.close()


def test_pointing_at_a_row_tells_its_source_and_first_words_as_text(seen: Seen) -> None:
    seen.page.mouse.move(*seen.point(0))
    tip = seen.page.locator("#map-tip")
    assert tip.is_visible()
    assert tip.inner_text() == f"plain: {HOSTILE[0]}"
    assert tip.locator("*").count() == 0
    seen.page.mouse.move(1, 1)
    assert not tip.is_visible()


def test_clicking_a_taken_row_shows_its_text_and_why_it_was_taken(seen: Seen) -> None:
    seen.page.mouse.click(*seen.point(1))
    panel = seen.page.locator("#map-row")
    assert "Row 2 of the subset" in panel.inner_text()
    assert "Taken as row 2 of 8 by the balanced walk" in panel.inner_text()
    assert panel.locator("pre").first.inner_text() == HOSTILE[1]
    assert panel.locator("script, img, svg").count() == 0


def test_clicking_another_row_says_that_it_was_not_taken(seen: Seen) -> None:
    seen.page.mouse.click(*seen.point(N_TAKEN + 2))
    said = seen.page.locator("#map-row").inner_text()
    assert "A row that was not taken" in said
    assert "<b>other</b>: plain row 2" in said
    assert "Left: its pull was 0.1000 and its redundancy 0.0200 when the walk ended, 3rd in line." in said


def test_a_row_of_the_domain_is_on_the_map_with_its_text(seen: Seen) -> None:
    own = N_TAKEN + 12
    seen.page.mouse.move(*seen.point(own))
    assert seen.page.locator("#map-tip").inner_text().startswith("The domain's own: </script><img")
    seen.page.mouse.click(*seen.point(own))
    panel = seen.page.locator("#map-row")
    assert "A row of the domain" in panel.inner_text()
    assert panel.locator("pre").first.inner_text() == HOSTILE[1]


def test_the_map_is_zoomed_and_dragged_and_comes_back(seen: Seen) -> None:
    canvas, tip = seen.page.locator("#map-canvas"), seen.page.locator("#map-tip")
    canvas.focus()
    canvas.blur()
    seen.page.mouse.move(1, 1)
    whole = canvas.screenshot()
    canvas.press("+")
    canvas.blur()
    assert canvas.screenshot() != whole
    canvas.press("-")
    canvas.blur()
    assert canvas.screenshot() == whole
    x, y = seen.point(7)
    seen.page.mouse.move(x, y)
    own = tip.inner_text()
    seen.page.mouse.dblclick(x, y)  # twice as large about the point, which stays where it is
    seen.page.mouse.down()
    seen.page.mouse.move(x + 30, y - 20, steps=3)
    seen.page.mouse.up()
    seen.page.mouse.move(x, y)
    assert not tip.is_visible() or tip.inner_text() != own
    seen.page.mouse.move(x + 30, y - 20)
    assert tip.inner_text() == own
    seen.page.get_by_role("button", name="Whole map").click()
    seen.page.mouse.move(*seen.point(7))
    assert tip.inner_text() == own


def test_the_keys_alone_lead_through_the_rows_taken(seen: Seen) -> None:
    canvas, panel = seen.page.locator("#map-canvas"), seen.page.locator("#map-row")
    for _ in range(60):
        seen.page.keyboard.press("Tab")
        if seen.page.evaluate("document.activeElement.id") == "map-canvas":
            break
    else:
        pytest.fail("the map cannot be reached by Tab")
    seen.page.keyboard.press("ArrowRight")
    seen.page.keyboard.press("ArrowRight")
    assert seen.page.locator("#map-tip").inner_text().startswith("s & t: </script><img")
    seen.page.keyboard.press("Enter")
    assert "Row 2 of the subset" in panel.inner_text()
    seen.page.keyboard.press("End")
    seen.page.keyboard.press("Enter")
    assert f"Row {N_TAKEN} of the subset" in panel.inner_text()
    seen.page.keyboard.press("Home")
    seen.page.keyboard.press("ArrowLeft")
    seen.page.keyboard.press("Enter")
    assert "Row 1 of the subset" in panel.inner_text()
    assert canvas.evaluate("(it) => it === document.activeElement")


def test_a_source_can_be_highlighted(seen: Seen) -> None:
    blue = """(it) => {
        const pixels = it.getContext("2d").getImageData(0, 0, it.width, it.height).data;
        let found = 0;
        for (let i = 0; i < pixels.length; i += 4)
            found += pixels[i] === 0 && pixels[i + 1] === 114 && pixels[i + 2] === 178;
        return found;
    }"""
    canvas = seen.page.locator("#map-canvas")
    before = canvas.screenshot()
    seen.page.locator("#map-source").select_option(label="<b>other</b>")
    assert canvas.evaluate(blue) > 20
    assert seen.page.locator("#map-lit").inner_text() == "<b>other</b>"
    seen.page.locator("#map-source").select_option(label="none")
    assert canvas.screenshot() == before


def test_a_row_of_the_list_opens_by_keyboard_and_its_script_is_text(seen: Seen) -> None:
    seen.page.locator("#row-1 summary").focus()
    seen.page.keyboard.press("Enter")
    assert seen.page.locator("#row-1 pre").first.inner_text() == HOSTILE[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_of_the_screen_and_texts_stand_out_from_the_ground(
    browser: Any, address: str, width: int, scheme: str
) -> None:
    opened = Seen(browser, address, width, color_scheme=scheme)
    opened.page.evaluate("document.querySelectorAll('details').forEach((it) => { it.open = true; })")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    smallest = """Math.min(...[...document.body.querySelectorAll("*")].filter((it) => it.textContent.trim() !== "")
        .map((it) => parseFloat(getComputedStyle(it).fontSize)))"""
    assert opened.page.evaluate(smallest) >= 11
    lightness = """(name) => {
        const [r, g, b] = getComputedStyle(document.querySelector("figcaption"))[name].match(/[0-9]+/g).map(Number)
            .map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    }"""
    ink = opened.page.evaluate(lightness, "color")
    ground = 1.0 if scheme == "light" else 0.01
    contrast = (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05)
    assert contrast >= 4.5
    assert opened.complaints == []
    opened.context.close()


def test_a_finger_on_a_phone_chooses_a_row(browser: Any, address: str) -> None:
    opened = Seen(browser, address, 390, has_touch=True, is_mobile=True)
    opened.page.touchscreen.tap(*opened.point(0))
    assert "Row 1 of the subset" in opened.page.locator("#map-row").inner_text()
    opened.context.close()


def test_without_javascript_every_row_can_still_be_read(browser: Any, address: str) -> None:
    opened = Seen(browser, address, java_script_enabled=False)
    opened.page.locator("#row-2 summary").click()
    assert opened.page.locator("#row-2 pre").first.inner_text() == HOSTILE[1]
    opened.context.close()


def test_it_prints(seen: Seen) -> None:
    assert seen.page.pdf(format="A4").startswith(b"%PDF")
    seen.page.emulate_media(media="print", color_scheme="dark")
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not seen.page.locator("nav").is_visible()
    ours = seen.page.locator("circle.dot-own").evaluate("it => getComputedStyle(it).fill")
    assert ours == "rgb(194, 77, 0)"


def test_charts_follow_light_and_dark(seen: Seen) -> None:
    fills = []
    for scheme in ("light", "dark"):
        seen.page.emulate_media(color_scheme=scheme)
        fills.append(seen.page.locator("circle.dot-own").evaluate("it => getComputedStyle(it).fill"))
    assert fills == ["rgb(194, 77, 0)", "rgb(255, 154, 82)"]
