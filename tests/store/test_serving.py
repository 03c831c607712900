"""Which adapter is served, and that collection never prunes it."""

from pathlib import Path

import polars as pl
import pytest

from g2is_assets.contracts.contract import Column, Contract
from g2is_assets.errors import StoreError
from g2is_assets.store.gc import collect_garbage
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import PRUNED
from g2is_assets.store.serving import promote, refuse, rival_of, served_folder, was_refused
from g2is_assets.store.version import Draft, Recipe, Version

TABLE = Contract((), "log", "Numbers", {"n": Column(pl.Int64, "A number")})


def make(lake: Lake, n: int, seed: int = 0) -> Path:
    def write(draft: Draft) -> None:
        draft.write(TABLE, pl.DataFrame({"n": [n]}))

    recipe = Recipe("finetune/adapter", "math", "1", {"n": n, "seed": seed})
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


def at(lake: Lake, folder: Path) -> Version:
    return lake.whole(folder)


def rival(lake: Lake, folder: Path) -> str | None:
    found = rival_of(lake, at(lake, folder))
    return found.folder.name if found else None


def test_an_adapter_has_the_same_rival_before_it_is_promoted_and_after(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first, second, third = (make(lake, n) for n in range(3))
    assert rival(lake, first) is None
    promote(lake, "math", first.name)
    assert rival(lake, first) is None
    for before, folder in ((first, second), (second, third), (third, first)):
        assert rival(lake, folder) == before.name
        promote(lake, "math", folder.name)
        promote(lake, "math", folder.name)
        assert rival(lake, folder) == before.name


def test_an_adapter_of_equal_content_is_no_rival(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first, second = make(lake, 1), make(lake, 2)
    promote(lake, "math", first.name)
    promote(lake, "math", second.name)
    again = make(lake, 2, seed=1)
    assert again != second
    assert rival(lake, again) == first.name
    promote(lake, "math", again.name)
    assert rival(lake, again) == first.name


def test_what_was_refused_is_remembered_until_another_is_promoted(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first, second, third = (make(lake, n) for n in range(3))
    refuse(lake, "math", second.name)  # nothing is served, so there is nothing to go on with
    assert not was_refused(at(lake, second))
    promote(lake, "math", first.name)
    refuse(lake, "math", second.name)
    assert was_refused(at(lake, second))
    assert served_folder(lake, "math") == first
    promote(lake, "math", third.name)
    assert not was_refused(at(lake, second))


def test_a_rival_that_is_damaged_is_none(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first, second = make(lake, 1), make(lake, 2)
    promote(lake, "math", first.name)
    (first / TABLE.file).unlink()
    assert rival(lake, second) is None


def test_collection_prunes_old_versions_but_never_the_served_one_nor_the_one_before_it(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    folders = [make(lake, n) for n in range(5)]
    promote(lake, "math", folders[1].name)
    promote(lake, "math", folders[2].name)
    collect_garbage(lake, keep_versions=1, min_age_s=0)
    assert [(folder / PRUNED).exists() for folder in folders] == [True, False, False, True, False]


def test_where_it_is_unknown_what_is_served_nothing_is_pruned(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    folders = [make(lake, n) for n in range(3)]
    (folders[0].parent / "served.json").write_text("{}")
    report = collect_garbage(lake, keep_versions=1, min_age_s=0)
    assert not any((folder / PRUNED).exists() for folder in folders)
    assert ["served.json is damaged" in line for line in report.left_alone] == [True]
    with pytest.raises(StoreError, match=r"served\.json is damaged; delete it"):
        served_folder(lake, "math")
