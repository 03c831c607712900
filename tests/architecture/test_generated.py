"""What documents say of settings and files is made from these themselves."""

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SETTINGS = (DOCS / "settings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["settings", "architecture"])
def test_a_page_is_the_one_that_the_code_gives(page: str) -> None:
    written = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert runpy.run_path(str(DOCS / "generate.py"))[page]() == written, "run: python docs/generate.py"


def test_every_file_is_named_with_what_it_is() -> None:
    lines = [line for line in (DOCS / "architecture.md").read_text().splitlines() if line.startswith("- `")]
    assert len(lines) > 100
    assert [line for line in lines if len(line.split(": ", 1)[1]) < 15] == []


def test_every_key_has_a_meaning() -> None:
    rows = [line for line in SETTINGS.splitlines() if line.startswith("| `")]
    assert len(rows) > 90
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_walk_has_a_table_of_its_own_keys() -> None:
    sections = {title: keys for title, _, keys in (part.partition("\n") for part in SETTINGS.split("### "))}
    walks = {title: keys for title, keys in sections.items() if title.startswith("`[selection]` with `walk = ")}
    assert [("`redundancy`" in keys, "`reallocate`" in keys) for keys in walks.values()] == [
        (True, False),
        (False, True),
        (False, False),
    ]
