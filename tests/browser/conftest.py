"""A real browser; without one the tests of this folder are skipped and say what to install."""

import importlib.util
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = []
    if importlib.util.find_spec("playwright") is None:
        missing.append("Playwright is not installed: pip install -e '.[browser]'")
    if CHROMIUM is None:
        missing.append("no Chromium is installed: apt-get install chromium")
    for item in items:
        if missing and "tests/browser" in item.path.as_posix():
            item.add_marker(pytest.mark.skip(reason="; ".join(missing)))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()
