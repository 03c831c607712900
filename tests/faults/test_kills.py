"""A refresh that is killed at any moment is taken up by the next one, which ends as if nothing had happened."""

import os
import random
import re
import signal
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from g2is_assets.store.manifest import git_revision, library_versions
from support.processes import (
    DOMAIN_KEYS,
    POOL_KEYS,
    Commands,
    Moment,
    assert_all_that_is_current_is_whole,
    killer,
    place_of,
)
from support.projects import Undisturbed, payload
from support.vectors import small_refresh


def boundary(place: Path, number: int) -> Moment:
    """One of the moments at which a version comes into being, in turn."""
    folder = re.escape(str(place))
    return (
        Moment("open", rf"{folder}/\.writing-\w+/manifest\.json$"),  # payload without manifest
        Moment("os.rename", rf"{folder}/\.writing-"),  # whole, not in its place
        Moment("os.rename", rf"{folder}/current\.json$"),  # in its place, not yet current
        Moment("os.mkdir", rf"{folder}/\.writing-"),  # nothing of it yet
    )[number % 4]


@pytest.mark.campaign
def test_killed_at_the_boundary_of_every_stage_in_turn_it_ends_as_if_undisturbed(
    fresh: Path, commands: Commands, undisturbed: Undisturbed
) -> None:
    lake = fresh.parent / "lake"
    moments = [boundary(place_of(fresh, key), n) for n, key in enumerate([*POOL_KEYS, *DOMAIN_KEYS])]
    moments.insert(3, Moment("os.rename", r"vectors/shard/.*/\.writing-", 2))
    finished = 0
    for moment in moments:
        child = commands.demo(fresh, die_at=moment)
        assert child.wait() == -signal.SIGKILL, f"{moment}: {child.shown}"
        assert "waits for the pool" not in child.shown
        places = assert_all_that_is_current_is_whole(lake)
        assert len(places) >= finished
        finished = len(places)
    shown = commands.refresh(fresh)
    assert shown.count(": unchanged") >= len(DOMAIN_KEYS) - 2
    assert payload(lake) == undisturbed.sums


@pytest.mark.campaign
def test_killed_from_outside_at_random_moments_it_ends_as_if_undisturbed(
    fresh: Path, commands: Commands, undisturbed: Undisturbed
) -> None:
    draw, killed = random.Random(20), []
    for _ in range(3):
        child = commands.demo(fresh)
        killed.append(child)
        until = time.monotonic() + 60
        while not any((fresh.parent / ".dagster").glob("processes/*.lock")) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 2.0))
        child.kill()
        assert_all_that_is_current_is_whole(fresh.parent / "lake")
    shown = commands.refresh(fresh)
    # By whichever came next.
    assert any("is reported as failed: its process is gone" in text for text in (*(c.shown for c in killed), shown))
    assert payload(fresh.parent / "lake") == undisturbed.sums


def kill_everywhere(folder: Path) -> None:
    """Run the small refresh again and again in a new folder, killed before its first, second, ... file operation."""
    git_revision()  # once; each child would ask again
    library_versions()
    for number in count(1):
        root = folder / f"{number:03}"
        if (child := os.fork()) == 0:
            try:
                sys.addaudithook(killer(Moment("", re.escape(str(root)), number)))
                small_refresh(root)
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if status == 0:
            return
        assert os.WIFSIGNALED(status), status
        assert os.WTERMSIG(status) == signal.SIGKILL


def test_killed_before_any_of_its_file_operations_the_store_is_whole_and_the_next_run_ends_the_same(
    tmp_path: Path, commands: Commands
) -> None:
    child = commands.start(kill_everywhere, tmp_path / "killed")
    assert child.wait() == 0, child.shown
    *killed, undisturbed = sorted((tmp_path / "killed").iterdir())
    expected = payload(undisturbed)
    assert len(expected) == 3 + 3 * 2
    assert len(killed) > 25
    for root in killed:
        assert_all_that_is_current_is_whole(root)
        small_refresh(root)
        assert payload(root) == expected, root
        assert_all_that_is_current_is_whole(root)
