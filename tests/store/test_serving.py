"""Which adapter is served, and that collection never prunes it."""

from pathlib import Path

import polars as pl
import pytest

from g2is_assets.contracts.contract import Column, Contract
from g2is_assets.errors import StoreError
from g2is_assets.store.gc import collect_garbage
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import PRUNED
from g2is_assets.store.serving import promote, served_folder
from g2is_assets.store.version import Draft, Recipe

TABLE = Contract((), "log", "Numbers", {"n": Column(pl.Int64, "A number")})


def make(lake: Lake, n: int) -> Path:
    def write(draft: Draft) -> None:
        draft.write(TABLE, pl.DataFrame({"n": [n]}))

    recipe = Recipe("finetune/adapter", "math", "1", {"n": n})
    return lake.make(recipe, "run", write)[0].folder


def test_the_version_promoted_last_is_served_whatever_is_current(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first = make(lake, 1)
    assert served_folder(lake, "math") is None
    promote(lake, "math", first.name)
    second = make(lake, 2)
    assert lake.current("finetune/adapter", "math").folder == second
    assert served_folder(lake, "math") == first
    promote(lake, "math", second.name)
    assert served_folder(lake, "math") == second


def test_collection_prunes_old_versions_but_never_the_served_one(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    folders = [make(lake, n) for n in range(4)]
    promote(lake, "math", folders[1].name)
    collect_garbage(lake, keep_versions=1, min_age_s=0)
    assert [(folder / PRUNED).exists() for folder in folders] == [True, False, True, False]


def test_where_it_is_unknown_what_is_served_nothing_is_pruned(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    folders = [make(lake, n) for n in range(3)]
    (folders[0].parent / "served.json").write_text("{}")
    report = collect_garbage(lake, keep_versions=1, min_age_s=0)
    assert not any((folder / PRUNED).exists() for folder in folders)
    assert ["served.json is damaged" in line for line in report.left_alone] == [True]
    with pytest.raises(StoreError, match=r"served\.json is damaged; delete it"):
        served_folder(lake, "math")
