"""Here pictures are looked at."""

import pytest


@pytest.fixture(autouse=True)
def _pictures_are_drawn(rendered: None) -> None:
    """Not left blank, as elsewhere."""
