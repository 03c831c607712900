"""A data set of the hub in the pool: pinned by its commit, found unchanged, read as it was when the recipe was made."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from g2is_assets.errors import SourceError
from g2is_assets.settings.project import load_project
from g2is_assets.stages.frame import make, recipe_of
from g2is_assets.stages.stage import PROJECT
from g2is_assets.stages.staleness import staleness
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.hub import commit_of
from support.hub import Hub, serving_hub

POOL, NAME = "instructions/pool", "somebody/sums"
INPUT = f"hub:{NAME}/default/train"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving_hub(tmp_path / "cache") as serving:
        yield serving


@pytest.fixture
def settings(make_project: Callable[..., Path]) -> Path:
    """A project whose pool is that data set, with columns of its own."""
    file = make_project()
    source = f'[{{ hub = "{NAME}", columns = {{ prompt = "q", response = "a" }} }}]'
    file.write_text(file.read_text().replace('["pool/*.jsonl"]', source))
    return file


def csv(*prompts: str) -> dict[str, str | bytes]:
    return {"train.csv": "q,a\n" + "".join(f"{prompt},yes\n" for prompt in prompts)}


def workspace(settings: Path) -> Workspace:
    return Workspace(load_project(settings))


def test_the_commit_stands_in_the_manifest_and_decides_whether_the_pool_is_made_anew(hub: Hub, settings: Path) -> None:
    first = hub.commit(NAME, csv("one", "two"))
    made = make(workspace(settings), POOL, PROJECT, "run 1")
    assert made.version.manifest.inputs[INPUT].data_version == first
    (source,) = made.version.manifest.settings["sources"]
    assert source == {"columns": {"prompt": "q", "response": "a"}, "hub": NAME, "license": None, "source": None}
    hub.asked.clear()
    assert not make(workspace(settings), POOL, PROJECT, "run 2").written
    assert [asked for asked in hub.asked if "resolve" in asked or "tree" in asked] == []

    second = hub.commit(NAME, csv("one", "two", "three"))
    table = staleness(workspace(settings))
    (reason,) = table.filter(table["asset"] == POOL)["reason"]
    assert reason.startswith(f"input {INPUT}")
    made = make(workspace(settings), POOL, PROJECT, "run 3")
    assert made.written
    assert made.version.manifest.inputs[INPUT].data_version == second
    assert made.version.manifest.n_rows["pool"] == 3


def test_the_rows_are_those_of_the_commit_in_the_recipe_whatever_comes_in_between(
    hub: Hub, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit(NAME, csv("one", "two"))

    def overtaken(source: object) -> str:
        commit = commit_of(source)
        hub.commit(NAME, csv("three", "four", "five"))
        return commit

    monkeypatch.setattr("g2is_assets.stages.instructions.commit_of", overtaken)
    made = make(workspace(settings), POOL, PROJECT, "run 1")
    assert made.version.manifest.n_rows["pool"] == 2


def test_without_the_hub_and_with_nothing_in_the_cache_no_recipe_is_made(
    hub: Hub, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="without HF_HUB_OFFLINE"):
        recipe_of(workspace(settings), POOL, PROJECT)
