"""The store computes what it lacks and nothing else, notices damage, and resumes to the same bytes."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.contracts.gradients import INDEX, SET_ASIDE, VECTORS, vectors_of
from g2is_assets.core.codes import from_bytes, quantise
from g2is_assets.errors import StoreError
from g2is_assets.store.features import MAPPED, StoredFeatures
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import MANIFEST
from g2is_assets.store.vectors import NOT_FINITE, ZERO_GRADIENT, Filled, Vectors, VectorStore
from g2is_assets.store.version import Recipe
from support.vectors import (
    ROWS,
    SETTINGS,
    SHARD_ROWS,
    Compute,
    by_name,
    fill,
    fill_small,
    flip_byte,
    pairs,
    vector,
    write_index,
)

ROOT = Path(__file__).parents[2]


def shard_files(store: VectorStore) -> dict[str, bytes]:
    """Payload of all whole shards, by shard and file."""
    return {
        f"{shard.name}/{name}": (shard.folder / name).read_bytes()
        for shard in store.shards()[0]
        for name in shard.manifest.files
    }


def rows_in(store: VectorStore) -> list[str]:
    return sorted(row for shard in store.shards()[0] for batch in shard.manifest.settings["batches"] for row in batch)


def expected(rows: Sequence[str], kind: str) -> np.ndarray[Any, np.dtype[np.int8]]:
    return quantise(np.stack([vector(row, kind) for row in rows]))


def holds(filled: Filled, rows: Sequence[str]) -> None:
    """The index has exactly these rows in this order, with their own vectors."""
    INDEX.validate(filled.index)
    assert filled.index["row_id"].to_list() == list(rows)
    for kind in SETTINGS["kinds"]:
        codes = StoredFeatures(by_name(filled), filled.index, kind).array()
        assert codes.dtype == np.int8
        np.testing.assert_array_equal(codes, expected(rows, kind))


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    return VectorStore(Lake(tmp_path / "lake"), SETTINGS)


def test_an_empty_store_computes_all_rows_once_in_shards_of_the_planned_size(store: VectorStore) -> None:
    filled, computed = fill(store, ROWS)
    assert computed == ROWS
    assert (filled.n_computed, filled.n_tokens_computed, filled.n_damaged_shards) == (10, 50, 0)
    assert filled.set_aside == {}
    assert filled.index["shard"].value_counts()["count"].sort().to_list() == [2, 4, 4]
    assert filled.index["loss"].to_list() == [1.5] * 10
    assert filled.index["n_tokens"].to_list() == [5] * 10
    holds(filled, ROWS)


def test_a_shard_keeps_its_contract_and_the_norm_from_before_normalisation(store: VectorStore) -> None:
    filled, _ = fill(store, ROWS[:3])
    (made,) = filled.shards
    assert filled.index["shard"].unique().to_list() == [made.name]
    table = made.read(vectors_of(SETTINGS["kinds"]))
    assert table["row_id"].to_list() == ROWS[:3]
    norms = [float(np.linalg.norm(vector(row, "sgd").astype(np.float64))) for row in ROWS[:3]]
    assert table["norm_sgd"].to_list() == pytest.approx(norms)
    assert min(norms) > 2


def test_rows_that_are_there_are_not_computed_again(store: VectorStore) -> None:
    first, _ = fill(store, ROWS)
    compute = Compute()
    again, _ = fill(VectorStore(store.lake, SETTINGS), ROWS, compute)
    assert compute.calls == 0
    assert (again.n_computed, again.n_tokens_computed) == (0, 0)
    assert again.index.equals(first.index)


def test_a_grown_set_computes_the_new_rows_only(store: VectorStore) -> None:
    fill(store, ROWS[:6])
    wanted = [ROWS[9], *ROWS[:3], ROWS[7], *ROWS[3:6]]
    filled, computed = fill(store, wanted)
    assert computed == [ROWS[9], ROWS[7]]
    assert filled.n_computed == 2
    holds(filled, wanted)


def test_a_shrunk_set_computes_nothing_and_indexes_what_is_left(store: VectorStore) -> None:
    fill(store, ROWS)
    wanted = [ROWS[8], ROWS[1], ROWS[4]]
    filled, computed = fill(store, wanted)
    assert computed == []
    holds(filled, wanted)


def test_an_edited_set_computes_the_changed_rows_and_returning_rows_cost_nothing(store: VectorStore) -> None:
    fill(store, ROWS)
    edited = ["edited", *ROWS[1:]]
    filled, computed = fill(store, edited)
    assert computed == ["edited"]
    holds(filled, edited)
    filled, computed = fill(store, ROWS)
    assert computed == []
    holds(filled, ROWS)


def test_no_wanted_row_needs_no_computation(store: VectorStore) -> None:
    filled, computed = fill(store, [])
    assert (computed, len(filled.index), filled.set_aside) == ([], 0, {})
    with pytest.raises(StoreError, match="no row has gradients"):
        StoredFeatures(by_name(filled), filled.index, "sgd").array()


def test_rows_without_a_usable_gradient_are_recorded_with_their_reason_and_not_tried_again(
    store: VectorStore,
) -> None:
    wanted = ["zero1", ROWS[0], "nan1", "inf1", ROWS[1], "badloss"]
    reasons = {"zero1": ZERO_GRADIENT, "nan1": NOT_FINITE, "inf1": NOT_FINITE, "badloss": NOT_FINITE}
    filled, computed = fill(store, wanted)
    assert computed == wanted
    assert filled.set_aside == reasons
    holds(filled, ROWS[:2])
    filled, computed = fill(store, wanted)
    assert computed == []
    assert filled.set_aside == reasons
    filled, _ = fill(store, ["zero1", ROWS[1]])
    assert filled.set_aside == {"zero1": ZERO_GRADIENT}


def test_a_shard_of_rows_set_aside_only_is_a_shard(store: VectorStore) -> None:
    filled, _ = fill(store, ["zero1", "zero2", "nan1", "nan2", ROWS[0]])
    holds(filled, ROWS[:1])
    assert len(filled.set_aside) == 4
    assert fill(store, ["zero1", "zero2", "nan1", "nan2", ROWS[0]])[1] == []


def truncate_file(shard: Path) -> None:
    file = shard / VECTORS.file
    file.write_bytes(file.read_bytes()[:-9])


def delete_file(shard: Path) -> None:
    (shard / SET_ASIDE.file).unlink()


def cut_manifest(shard: Path) -> None:
    file = shard / MANIFEST
    file.write_text(file.read_text()[:-5])


def delete_manifest(shard: Path) -> None:
    (shard / MANIFEST).unlink()


def list_in_place_of_manifest(shard: Path) -> None:
    (shard / MANIFEST).write_text("[]")


def other_rows_in_manifest(shard: Path) -> None:
    file = shard / MANIFEST
    file.write_text(file.read_text().replace("row0", "row1"))


DAMAGES = [
    flip_byte,
    truncate_file,
    delete_file,
    cut_manifest,
    delete_manifest,
    list_in_place_of_manifest,
    other_rows_in_manifest,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_noticed_and_its_rows_alone_are_computed_again(
    store: VectorStore, damage: Callable[[Path], None]
) -> None:
    first, _ = fill(store, ROWS)
    before = shard_files(store)
    name = first.index["shard"][4]
    lost = first.index.filter(pl.col("shard") == name)["row_id"].to_list()
    damage(store.place / name)
    assert [folder.name for folder in store.shards()[1]] == [name]
    filled, computed = fill(store, ROWS)
    assert computed == lost == ROWS[4:8]
    assert (filled.n_computed, filled.n_damaged_shards) == (4, 1)
    assert shard_files(store) == before
    assert filled.index.equals(first.index)
    assert store.shards()[1] == []
    holds(filled, ROWS)


def test_rows_set_aside_in_a_damaged_shard_are_tried_again(store: VectorStore) -> None:
    wanted = ["zero1", ROWS[0]]
    first, _ = fill(store, wanted)
    flip_byte(store.place / first.index["shard"][0])
    filled, computed = fill(store, wanted)
    assert computed == wanted
    assert filled.set_aside == {"zero1": ZERO_GRADIENT}


def test_a_damaged_shard_of_rows_no_longer_wanted_computes_nothing(store: VectorStore) -> None:
    first, _ = fill(store, ROWS)
    flip_byte(store.place / first.index["shard"][0])
    filled, computed = fill(store, ROWS[4:])
    assert computed == []
    assert filled.n_damaged_shards == 1
    holds(filled, ROWS[4:])


def test_a_damaged_old_shard_of_a_grown_store_is_computed_again(store: VectorStore) -> None:
    first, _ = fill(store, ROWS[:4])
    fill(store, ROWS)
    flip_byte(store.place / first.index["shard"][0])
    filled, computed = fill(store, ROWS)
    assert computed == ROWS[:4]
    holds(filled, ROWS)


def test_a_vector_of_a_missing_shard_is_told_by_file(store: VectorStore) -> None:
    filled, _ = fill(store, ROWS)
    name = filled.index["shard"][0]
    (store.place / name / VECTORS.file).unlink()
    with pytest.raises(StoreError, match=rf"{name}/vectors\.parquet is missing or damaged"):
        StoredFeatures(by_name(filled), filled.index, "sgd").array()
    with pytest.raises(StoreError):
        StoredFeatures(by_name(filled), filled.index.filter(pl.col("shard") != name), "unknown_kind").array()


def test_other_settings_have_other_shards(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    one, other = (VectorStore(lake, SETTINGS | {"seed": seed}) for seed in (0, 1))
    assert one.address != other.address
    fill(one, ROWS)
    assert fill(other, ROWS)[1] == ROWS
    assert VectorStore(lake, dict(reversed(SETTINGS.items()))).address == one.address


def test_vectors_come_in_the_order_of_the_index_from_whatever_shards(store: VectorStore) -> None:
    filled, _ = fill(store, ROWS)
    mixed = filled.index.sample(fraction=1, shuffle=True, seed=3)
    assert mixed["shard"].n_unique() == 3
    assert mixed["row_id"].to_list() != ROWS
    codes = StoredFeatures(by_name(filled), mixed, "adam").array()
    np.testing.assert_array_equal(codes, expected(mixed["row_id"].to_list(), "adam"))


def test_four_bits_take_half_the_bytes_and_come_back(tmp_path: Path) -> None:
    store = VectorStore(Lake(tmp_path), SETTINGS | {"bits": 4})
    filled, _ = fill(store, ROWS)
    read = StoredFeatures(by_name(filled), filled.index, "adam").array()
    np.testing.assert_array_equal(read, quantise(np.stack([vector(row, "adam") for row in ROWS]), 4))
    table = filled.shards[0].read(vectors_of(SETTINGS["kinds"]))
    assert {len(row) for row in table["codes_adam"]} == {read.shape[1] // 2}
    assert store.address != VectorStore(store.lake, SETTINGS).address


class Broken(Exception):
    """What stops a computation."""


class BreaksAfter(Compute):
    """Computes so many batches, then fails."""

    def __init__(self, n_batches: int) -> None:
        super().__init__()
        self.n_batches = n_batches

    def vectors(self, batches: Iterable[list[str]]) -> Iterator[Vectors]:
        for done, part in enumerate(super().vectors(batches)):
            if done == self.n_batches:
                raise Broken
            yield part


def test_an_interrupted_fill_keeps_its_whole_shards_and_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    undisturbed, store = (VectorStore(Lake(tmp_path / name), SETTINGS) for name in ("undisturbed", "interrupted"))
    fill(undisturbed, ROWS)
    with pytest.raises(Broken):
        fill(store, ROWS, BreaksAfter(3))
    assert len(rows_in(store)) == SHARD_ROWS
    filled, computed = fill(store, ROWS)
    assert computed == ROWS[4:]
    assert shard_files(store) == shard_files(undisturbed)
    holds(filled, ROWS)


def test_a_resumed_fill_of_a_grown_set_ends_as_if_undisturbed(tmp_path: Path) -> None:
    undisturbed, store = (VectorStore(Lake(tmp_path / name), SETTINGS) for name in ("undisturbed", "interrupted"))
    for each in (undisturbed, store):
        fill(each, ROWS[1:4])
    fill(undisturbed, ROWS)
    with pytest.raises(Broken):
        fill(store, ROWS, BreaksAfter(3))
    filled, _ = fill(store, ROWS)
    assert shard_files(store) == shard_files(undisturbed)
    holds(filled, ROWS)


def test_a_fill_that_gives_too_few_or_too_many_vectors_is_refused(store: VectorStore) -> None:
    def too_few(batches: Iterable[list[str]]) -> Iterator[Vectors]:
        return islice(Compute().vectors(batches), 1)

    def too_many(batches: Iterable[list[str]]) -> Iterator[Vectors]:
        return Compute().vectors([*batches, ["another"]])

    for compute, said in ((too_few, "fewer"), (too_many, "more")):
        with pytest.raises(StoreError, match=f"{said} vectors than batches"):
            store.fill({"a": 1, "b": 1, "c": 1}, pairs, compute, SHARD_ROWS, "run")


def test_an_unfinished_plan_for_other_rows_is_not_followed(store: VectorStore) -> None:
    with pytest.raises(Broken):
        fill(store, ROWS, BreaksAfter(2))
    wanted = [ROWS[0], ROWS[9], "new"]
    filled, computed = fill(store, wanted)
    assert computed == [ROWS[9], "new"]
    holds(filled, wanted)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.vectors import ROWS, SETTINGS, Compute, fill
from g2is_assets.store.lake import Lake
from g2is_assets.store.vectors import VectorStore

class Killed(Compute):
    def vectors(self, batches):
        for done, part in enumerate(super().vectors(batches)):
            if done == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)
            yield part

fill(VectorStore(Lake(Path(sys.argv[2])), SETTINGS), ROWS, Killed())
"""


@pytest.mark.parametrize(("n_batches", "n_kept"), [(1, 0), (4, 8)], ids=["within_a_shard", "between_shards"])
def test_a_killed_process_loses_at_most_one_shard_and_the_next_one_ends_with_the_same_bytes(
    tmp_path: Path, n_batches: int, n_kept: int
) -> None:
    undisturbed = VectorStore(Lake(tmp_path / "undisturbed"), SETTINGS)
    fill(undisturbed, ROWS)
    command = [sys.executable, "-c", KILLED, str(ROOT / "tests"), str(tmp_path / "killed"), str(n_batches)]
    killed = subprocess.run(command, cwd=ROOT, check=False, timeout=60, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store = VectorStore(Lake(tmp_path / "killed"), SETTINGS)
    assert rows_in(store) == ROWS[:n_kept]
    filled, computed = fill(store, ROWS)
    assert computed == ROWS[n_kept:]
    assert 2 * n_batches - n_kept <= SHARD_ROWS
    assert shard_files(store) == shard_files(undisturbed)
    holds(filled, ROWS)


POOL = [f"{fault}{i}" for fault in ("row", "zero", "nan") for i in range(5)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from(POOL), unique=True, max_size=10), min_size=1, max_size=4), st.data())
def test_whatever_is_wanted_and_damaged_each_missing_row_is_computed_once(
    wishes: list[list[str]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = VectorStore(Lake(Path(folder)), SETTINGS)
        for wanted in wishes:
            folders = [shard.folder for shard in store.shards()[0]]
            for shard in data.draw(st.lists(st.sampled_from(folders), unique=True, max_size=1)) if folders else []:
                data.draw(st.sampled_from(DAMAGES))(shard)
            have = set(rows_in(store))
            filled, computed = fill(store, wanted)
            assert sorted(computed) == sorted(set(wanted) - have)
            good = [row for row in wanted if row.startswith("row")]
            assert filled.index["row_id"].to_list() == good
            assert filled.set_aside.keys() == set(wanted) - set(good)
            if good:
                holds(filled, good)


def test_a_run_that_needs_more_disk_than_there_is_says_so_before_it_starts(tmp_path: Path) -> None:
    store = VectorStore(Lake(tmp_path), SETTINGS | {"sketch_dim": 10**15})
    compute = Compute()
    with pytest.raises(StoreError, match=r"10 rows need \d+\.\d+ GB, .* GB are free"):
        fill(store, ROWS, compute)
    assert compute.calls == 0


def test_mapped_copies_equal_the_shards_and_are_made_again_when_deleted_or_cut_off(store: VectorStore) -> None:
    filled, _ = fill(store, ROWS)
    first = StoredFeatures(by_name(filled), filled.index, "sgd").array()
    copies = sorted((store.place / MAPPED).glob("*.sgd.npy"))
    assert len(copies) == len(filled.shards)
    copies[0].unlink()
    copies[1].write_bytes(copies[1].read_bytes()[:-10])
    assert np.array_equal(StoredFeatures(by_name(filled), filled.index, "sgd").array(), first)
    assert sorted((store.place / MAPPED).glob("*.sgd.npy")) == copies
    for shard in filled.shards:
        digest = shard.manifest.files[VECTORS.file].sha256
        table = shard.read(vectors_of(SETTINGS["kinds"]))
        copy = np.load(store.place / MAPPED / f"{digest}.sgd.npy")
        assert np.array_equal(copy, from_bytes(table["codes_sgd"].to_list()))


def test_a_shard_that_differs_from_its_record_is_not_mapped(store: VectorStore) -> None:
    filled, _ = fill(store, ROWS)
    file = store.place / filled.index["shard"][0] / VECTORS.file
    table = pl.read_parquet(file)
    table.with_columns(loss=table["loss"] + 1).write_parquet(file)
    with pytest.raises(StoreError, match="digest differs from its record"):
        StoredFeatures(by_name(filled), filled.index, "adam").array()


def test_a_version_whose_list_of_parts_was_edited_is_not_whole(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    recipe = Recipe("gradients/pool", None, "1", {})
    version, _ = lake.make(recipe, "run", lambda draft: write_index(draft, fill_small(lake)))
    manifest = json.loads((version.folder / MANIFEST).read_text())
    manifest["parts"].popitem()
    (version.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="was altered: its data version is not that of its files"):
        lake.whole(version.folder)
