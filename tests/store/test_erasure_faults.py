"""An erasure killed at any moment, on a full disk, or in a lake with damage: nothing is lost, nothing is left."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from g2is_assets.contracts.gradients import INDEX, VECTORS
from g2is_assets.errors import StoreError
from g2is_assets.store.features import MAPPED, copies_of
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import ERASED, ERASING, read_manifest
from g2is_assets.store.pruning import plan_pruning
from g2is_assets.store.version import Version
from g2is_assets.store.versions import versions_of
from g2is_assets.trail.chain import follow
from g2is_assets.trail.verify import verify
from support.erasable import (
    GONE,
    ROWS,
    build,
    every_version,
    features_of,
    gradients_of,
    residue,
    run,
    shard_with,
    snapshot,
    store_of,
    whole,
)
from support.stops import Stop, stopping
from support.vectors import flip_byte, vector


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("erasure") / "lake", shop="rows", other="components").root


@pytest.fixture
def lake(built: Path, tmp_path: Path) -> Lake:
    shutil.copytree(built, tmp_path / "lake")
    return Lake(tmp_path / "lake")


def test_a_page_whose_list_of_rows_is_lost_is_reported_and_left(lake: Lake) -> None:
    old = next(v for v in versions_of(lake, "audit/report")[0] if v.manifest.code_version == "1")
    (old.folder / "quoted.parquet").unlink()
    report = run(lake)
    assert any("quoted.parquet is missing" in said and "it may hold the row" in said for said in report.left_alone)


def test_scratch_of_killed_runs_and_copies_of_nothing_go_too(lake: Lake) -> None:
    store = store_of(lake).place
    text, half = f"secret of {GONE}".encode(), (vector(GONE, "sgd")).tobytes()
    scratch = lake.place("instructions/pool") / f".writing-{'a' * 32}"
    half_shard = store / f".writing-{'b' * 32}"
    for file, content in (
        (scratch / "pool.parquet", text),
        (half_shard / "vectors.parquet", half),
        (store / MAPPED / f"{'0' * 64}.sgd.npy", half),
        (store / MAPPED / f".writing-{'0' * 32}", half),
    ):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    run(lake)
    assert [file for file in lake.root.rglob("*") if file.is_file() and half in file.read_bytes()] == []
    assert not scratch.exists()
    assert not half_shard.exists()


def test_a_damaged_shard_that_may_hold_the_row_goes(lake: Lake) -> None:
    index = lake.current("gradients/pool").read(INDEX)
    shard = store_of(lake).place / index.filter(pl.col("row_id") == "row00")["shard"][0]
    flip_byte(shard)
    report = run(lake)
    assert shard in report.pruned
    assert residue(lake) == []
    assert gradients_of(lake, "5", ["row00"])[1] == ["row00"]


def test_a_damaged_version_is_reported_since_it_may_hold_the_row(lake: Lake) -> None:
    old = next(v for v in versions_of(lake, "instructions/pool")[0] if v.manifest.code_version == "1")
    file = old.folder / "pool.parquet"
    table = pl.read_parquet(file)
    table.reverse().write_parquet(file)
    (reason,) = run(lake).left_alone
    assert f"{old.folder} differs from its manifest; it may hold the row" in reason
    assert residue(lake) == [file]


def test_a_version_is_not_pruned_before_an_erasure_in_it_is_finished(lake: Lake) -> None:
    run(lake)
    old = next(
        v for v in every_version(lake) if (v.folder / ERASED).exists() and v.manifest.asset == "instructions/pool"
    )
    (old.folder / ERASED).rename(old.folder / ERASING)  # killed just before its last change
    with pytest.raises(StoreError, match="an erasure was begun and not finished"):
        plan_pruning(old.folder, old.manifest)
    run(lake)
    assert plan_pruning(old.folder, old.manifest)


def test_stopped_before_any_of_its_changes_the_lake_can_be_read_and_the_next_one_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build(tmp_path / "built", shop="rows").root
    undisturbed = Lake(tmp_path / "undisturbed")
    shutil.copytree(built, undisturbed.root)
    pruned = set(run(undisturbed).pruned)
    expected = snapshot(undisturbed)
    n_stops = 0
    while True:
        lake = Lake(tmp_path / f"stopped-{n_stops}")
        shutil.copytree(built, lake.root)
        with monkeypatch.context() as patch:
            stopping(patch, n_stops)
            try:
                run(lake)
                break
            except Stop:
                pass
        for version in every_version(lake):
            gone = undisturbed.root / version.folder.relative_to(lake.root) in pruned
            assert gone or whole(lake, version), (n_stops, version.folder)
            if version.manifest.parts:
                assert set(features_of(lake, version)) == set(version.read(INDEX)["row_id"])
        current = lake.current("gradients/pool")
        assert lake.parts_of(current), n_stops
        run(lake)
        assert snapshot(lake) == expected, n_stops
        assert residue(lake) == []
        assert not list(lake.root.rglob(ERASING))
        shutil.rmtree(lake.root)
        n_stops += 1
    assert n_stops > 30


def test_a_shard_in_which_the_row_has_another_id_is_damaged_and_goes_with_its_copies(lake: Lake) -> None:
    file = shard_with(lake, GONE) / VECTORS.file
    pl.read_parquet(file).with_columns(pl.col("row_id").replace(GONE, "rowXX")).write_parquet(file)
    run(lake)
    assert not file.exists()
    assert residue(lake) == []


def test_a_full_disk_costs_no_whole_shard_and_the_next_erasure_finishes(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = shard_with(lake, GONE)

    def refuse(folder: Path, name: str, content: bytes) -> None:
        raise StoreError(f"{folder / name} cannot be written: No space left on device")

    with monkeypatch.context() as full:
        full.setattr("g2is_assets.store.erasure.write_into", refuse)
        report = run(lake)
    assert shard not in report.pruned
    assert any(str(shard) in text for text in report.left_alone)
    lake.whole(shard)
    assert run(lake).left_alone == []
    assert residue(lake) == []


def test_an_erased_shard_that_is_damaged_later_breaks_no_chain(lake: Lake) -> None:
    run(lake)
    shard = shard_with(lake, GONE)
    version = Version(shard, read_manifest(shard))
    flip_byte(shard)
    lake.retire(shard)
    states = {finding.state for finding in verify(lake, follow(lake, [version], parts=True), lambda _: {})}
    assert states == {"erased", "pruned"}


def test_what_serves_in_place_of_a_damaged_shard_is_verified_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path / "lake")
    version, _ = gradients_of(lake, "1", ROWS)
    flip_byte(shard_with(lake, GONE))
    monkeypatch.setattr("g2is_assets.store.lake.user_name", lambda: "another")  # else, in one second, equal bytes
    gradients_of(lake, "1", ROWS)
    served = shard_with(lake, GONE)

    def altered() -> set[str]:
        found = verify(lake, follow(lake, [version], parts=True), lambda _: {})
        return {finding.where for finding in found if finding.state == "altered"}

    assert altered() == set()
    copy = copies_of(Version(served, read_manifest(served)))["sgd"]
    np.save(copy, np.ones_like(np.load(copy)))
    assert altered() == {str(copy)}
    copy.unlink()
    flip_byte(served)
    assert altered() == {str(served / VECTORS.file)}
