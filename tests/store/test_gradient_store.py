"""The store computes what it lacks and nothing else, notices damage, and resumes to the same bytes."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.contracts.gradients import INDEX, shard
from g2is_assets.errors import StoreError
from g2is_assets.store.features import StoredFeatures
from g2is_assets.store.gradient_store import (
    NOT_FINITE,
    ZERO_GRADIENT,
    Filled,
    GradientStore,
    Vectors,
    fill_store,
)
from g2is_assets.store.mapped import MAPPED
from support.vectors import ROWS, SETTINGS, SHARD_ROWS, Compute, fill, flip_byte, vector

ROOT = Path(__file__).parents[2]


def shard_files(store: GradientStore) -> dict[str, bytes]:
    files = [*store.folder.glob("[!.]*.parquet"), *store.folder.glob("[!.]*.shard.json")]
    return {file.name: file.read_bytes() for file in files}


def expected(rows: Sequence[str], kind: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    vectors = np.stack([vector(row, kind) for row in rows]).astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def holds(store: GradientStore, filled: Filled, rows: Sequence[str]) -> None:
    """The index has exactly these rows in this order, with their own vectors."""
    INDEX.validate(filled.index)
    assert filled.index["row_id"].to_list() == list(rows)
    for kind in SETTINGS["kinds"]:
        features = StoredFeatures(store.folder, filled.index, kind).array()
        assert features.dtype == np.float16
        np.testing.assert_allclose(features.astype(np.float64), expected(rows, kind), atol=1e-3)


@pytest.fixture
def store(tmp_path: Path) -> GradientStore:
    return GradientStore(tmp_path / "store", SETTINGS)


def test_an_empty_store_computes_all_rows_once_in_shards_of_the_planned_size(store: GradientStore) -> None:
    filled, computed = fill(store, ROWS)
    assert computed == ROWS
    assert (filled.n_computed, filled.n_tokens_computed, filled.n_damaged_shards) == (10, 50, 0)
    assert filled.set_aside == {}
    assert filled.index["shard"].value_counts()["count"].sort().to_list() == [2, 4, 4]
    assert filled.index["loss"].to_list() == [1.5] * 10
    assert filled.index["n_tokens"].to_list() == [5] * 10
    holds(store, filled, ROWS)


def test_a_shard_keeps_its_contract_and_the_norm_from_before_normalisation(store: GradientStore) -> None:
    filled, _ = fill(store, ROWS[:3])
    (name,) = filled.index["shard"].unique()
    table = shard(SETTINGS["kinds"]).validate(pl.read_parquet(store.folder / f"{name}.parquet"))
    assert table["row_id"].to_list() == ROWS[:3]
    norms = [float(np.linalg.norm(vector(row, "sgd").astype(np.float64))) for row in ROWS[:3]]
    assert table["norm_sgd"].to_list() == pytest.approx(norms)
    assert min(norms) > 2


def test_rows_that_are_there_are_not_computed_again(store: GradientStore) -> None:
    first, _ = fill(store, ROWS)
    compute = Compute()
    again, _ = fill(GradientStore(store.folder.parent, SETTINGS), ROWS, compute)
    assert compute.calls == 0
    assert (again.n_computed, again.n_tokens_computed) == (0, 0)
    assert again.index.equals(first.index)


def test_a_grown_set_computes_the_new_rows_only(store: GradientStore) -> None:
    fill(store, ROWS[:6])
    wanted = [ROWS[9], *ROWS[:3], ROWS[7], *ROWS[3:6]]
    filled, computed = fill(store, wanted)
    assert computed == [ROWS[9], ROWS[7]]
    assert filled.n_computed == 2
    holds(store, filled, wanted)


def test_a_shrunk_set_computes_nothing_and_indexes_what_is_left(store: GradientStore) -> None:
    fill(store, ROWS)
    wanted = [ROWS[8], ROWS[1], ROWS[4]]
    filled, computed = fill(store, wanted)
    assert computed == []
    holds(store, filled, wanted)


def test_an_edited_set_computes_the_changed_rows_and_returning_rows_cost_nothing(store: GradientStore) -> None:
    fill(store, ROWS)
    edited = ["edited", *ROWS[1:]]
    filled, computed = fill(store, edited)
    assert computed == ["edited"]
    holds(store, filled, edited)
    filled, computed = fill(store, ROWS)
    assert computed == []
    holds(store, filled, ROWS)


def test_no_wanted_row_needs_no_computation(store: GradientStore) -> None:
    filled, computed = fill(store, [])
    assert (computed, len(filled.index), filled.set_aside) == ([], 0, {})
    with pytest.raises(StoreError, match="no row has gradients"):
        StoredFeatures(store.folder, filled.index, "sgd").array()


def test_rows_without_a_usable_gradient_are_recorded_with_their_reason_and_not_tried_again(
    store: GradientStore,
) -> None:
    wanted = ["zero1", ROWS[0], "nan1", "inf1", ROWS[1], "badloss"]
    reasons = {"zero1": ZERO_GRADIENT, "nan1": NOT_FINITE, "inf1": NOT_FINITE, "badloss": NOT_FINITE}
    filled, computed = fill(store, wanted)
    assert computed == wanted
    assert filled.set_aside == reasons
    holds(store, filled, ROWS[:2])
    filled, computed = fill(store, wanted)
    assert computed == []
    assert filled.set_aside == reasons
    filled, _ = fill(store, ["zero1", ROWS[1]])
    assert filled.set_aside == {"zero1": ZERO_GRADIENT}


def test_a_shard_of_rows_set_aside_only_is_a_shard(store: GradientStore) -> None:
    filled, _ = fill(store, ["zero1", "zero2", "nan1", "nan2", ROWS[0]])
    holds(store, filled, ROWS[:1])
    assert len(filled.set_aside) == 4
    assert fill(store, ["zero1", "zero2", "nan1", "nan2", ROWS[0]])[1] == []


def truncate_file(store: GradientStore, name: str) -> None:
    file = store.folder / f"{name}.parquet"
    file.write_bytes(file.read_bytes()[:-9])


def delete_file(store: GradientStore, name: str) -> None:
    (store.folder / f"{name}.parquet").unlink()


def cut_record(store: GradientStore, name: str) -> None:
    file = store.folder / f"{name}.shard.json"
    file.write_text(file.read_text()[:-5])


def empty_record(store: GradientStore, name: str) -> None:
    (store.folder / f"{name}.shard.json").write_text("{}")


def list_in_place_of_record(store: GradientStore, name: str) -> None:
    (store.folder / f"{name}.shard.json").write_text("[]")


DAMAGES = [flip_byte, truncate_file, delete_file, cut_record, empty_record, list_in_place_of_record]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_noticed_and_its_rows_alone_are_computed_again(
    store: GradientStore, damage: Callable[[GradientStore, str], None]
) -> None:
    first, _ = fill(store, ROWS)
    before = shard_files(store)
    name = first.index["shard"][4]
    lost = first.index.filter(pl.col("shard") == name)["row_id"].to_list()
    damage(store, name)
    assert store.read_index()[2] == [name]
    filled, computed = fill(store, ROWS)
    assert computed == lost == ROWS[4:8]
    assert (filled.n_computed, filled.n_damaged_shards) == (4, 1)
    assert shard_files(store) == before
    holds(store, filled, ROWS)


def test_a_shard_without_its_record_does_not_count(store: GradientStore) -> None:
    first, _ = fill(store, ROWS)
    name = first.index["shard"][0]
    (store.folder / f"{name}.shard.json").unlink()
    filled, computed = fill(store, ROWS)
    assert computed == ROWS[:4]
    assert filled.n_damaged_shards == 0
    holds(store, filled, ROWS)


def test_rows_set_aside_in_a_damaged_shard_are_tried_again(store: GradientStore) -> None:
    wanted = ["zero1", ROWS[0]]
    first, _ = fill(store, wanted)
    flip_byte(store, first.index["shard"][0])
    filled, computed = fill(store, wanted)
    assert computed == wanted
    assert filled.set_aside == {"zero1": ZERO_GRADIENT}


def test_a_damaged_shard_of_rows_no_longer_wanted_computes_nothing(store: GradientStore) -> None:
    first, _ = fill(store, ROWS)
    flip_byte(store, first.index["shard"][0])
    filled, computed = fill(store, ROWS[4:])
    assert computed == []
    assert filled.n_damaged_shards == 1
    holds(store, filled, ROWS[4:])


def test_a_damaged_old_shard_of_a_grown_store_is_computed_again(store: GradientStore) -> None:
    first, _ = fill(store, ROWS[:4])
    fill(store, ROWS)
    flip_byte(store, first.index["shard"][0])
    filled, computed = fill(store, ROWS)
    assert computed == ROWS[:4]
    holds(store, filled, ROWS)


def test_a_vector_of_a_missing_shard_is_told_by_file(store: GradientStore) -> None:
    filled, _ = fill(store, ROWS)
    name = filled.index["shard"][0]
    delete_file(store, name)
    with pytest.raises(StoreError, match=rf"{name}\.parquet is missing or damaged"):
        StoredFeatures(store.folder, filled.index, "sgd").array()
    with pytest.raises(StoreError):
        StoredFeatures(store.folder, filled.index.filter(pl.col("shard") != name), "unknown_kind").array()


def test_other_settings_have_another_folder(tmp_path: Path) -> None:
    one, other = (GradientStore(tmp_path, SETTINGS | {"seed": seed}) for seed in (0, 1))
    assert one.folder != other.folder
    fill(one, ROWS)
    assert fill(other, ROWS)[1] == ROWS
    assert GradientStore(tmp_path, dict(reversed(SETTINGS.items()))).folder == one.folder


def test_a_folder_made_with_other_settings_is_refused_with_their_names(store: GradientStore) -> None:
    record = store.folder / "store.json"
    assert json.loads(record.read_text()) == SETTINGS
    record.write_text(json.dumps(SETTINGS | {"seed": 1, "checkpoint": "x"}))
    with pytest.raises(StoreError, match="was made with other settings: checkpoint, seed; move it away"):
        GradientStore(store.folder.parent, SETTINGS)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_record_of_the_settings_is_told_by_file(store: GradientStore, text: str) -> None:
    (store.folder / "store.json").write_text(text)
    with pytest.raises(StoreError, match=r"store\.json is damaged"):
        GradientStore(store.folder.parent, SETTINGS)


def test_vectors_come_in_the_order_of_the_index_from_whatever_shards(store: GradientStore) -> None:
    filled, _ = fill(store, ROWS)
    mixed = filled.index.sample(fraction=1, shuffle=True, seed=3)
    assert mixed["shard"].n_unique() == 3
    assert mixed["row_id"].to_list() != ROWS
    features = StoredFeatures(store.folder, mixed, "adam").array().astype(np.float64)
    np.testing.assert_allclose(features, expected(mixed["row_id"].to_list(), "adam"), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-3)


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
    undisturbed, store = (GradientStore(tmp_path / name, SETTINGS) for name in ("undisturbed", "interrupted"))
    fill(undisturbed, ROWS)
    with pytest.raises(Broken):
        fill(store, ROWS, BreaksAfter(3))
    assert len(store.read_index()[0]) == SHARD_ROWS
    filled, computed = fill(store, ROWS)
    assert computed == ROWS[4:]
    assert shard_files(store) == shard_files(undisturbed)
    holds(store, filled, ROWS)


def test_a_resumed_fill_follows_the_plan_also_if_the_batches_would_now_be_others(tmp_path: Path) -> None:
    undisturbed, store = (GradientStore(tmp_path / name, SETTINGS) for name in ("undisturbed", "interrupted"))
    fill(undisturbed, ROWS)
    with pytest.raises(Broken):
        fill(store, ROWS, BreaksAfter(2))
    wanted = {row: len(row) for row in ROWS}
    filled = fill_store(store, wanted, lambda lengths: [[i] for i in range(len(lengths))], Compute(), SHARD_ROWS)
    assert shard_files(store) == shard_files(undisturbed)
    holds(store, filled, ROWS)


def test_an_unfinished_plan_for_other_rows_is_not_followed(store: GradientStore) -> None:
    with pytest.raises(Broken):
        fill(store, ROWS, BreaksAfter(2))
    wanted = [ROWS[0], ROWS[9], "new"]
    filled, computed = fill(store, wanted)
    assert computed == [ROWS[9], "new"]
    holds(store, filled, wanted)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.vectors import ROWS, SETTINGS, Compute, fill
from g2is_assets.store.gradient_store import GradientStore

class Killed(Compute):
    def vectors(self, batches):
        for done, part in enumerate(super().vectors(batches)):
            if done == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)
            yield part

fill(GradientStore(Path(sys.argv[2]), SETTINGS), ROWS, Killed())
"""


@pytest.mark.parametrize(("n_batches", "n_kept"), [(1, 0), (4, 8)], ids=["within_a_shard", "between_shards"])
def test_a_killed_process_loses_at_most_one_shard_and_the_next_one_ends_with_the_same_bytes(
    tmp_path: Path, n_batches: int, n_kept: int
) -> None:
    undisturbed = GradientStore(tmp_path / "undisturbed", SETTINGS)
    fill(undisturbed, ROWS)
    command = [sys.executable, "-c", KILLED, str(ROOT / "tests"), str(tmp_path / "killed"), str(n_batches)]
    killed = subprocess.run(command, cwd=ROOT, check=False, timeout=60, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store = GradientStore(tmp_path / "killed", SETTINGS)
    assert sorted(store.read_index()[0]["row_id"]) == ROWS[:n_kept]
    filled, computed = fill(store, ROWS)
    assert computed == ROWS[n_kept:]
    assert 2 * n_batches - n_kept <= SHARD_ROWS
    assert shard_files(store) == shard_files(undisturbed)
    holds(store, filled, ROWS)


POOL = [f"{fault}{i}" for fault in ("row", "zero", "nan") for i in range(5)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from(POOL), unique=True, max_size=10), min_size=1, max_size=4), st.data())
def test_whatever_is_wanted_and_damaged_each_missing_row_is_computed_once(
    wishes: list[list[str]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = GradientStore(Path(folder), SETTINGS)
        for wanted in wishes:
            names = sorted(file.name.removesuffix(".shard.json") for file in store.folder.glob("*.shard.json"))
            for name in data.draw(st.lists(st.sampled_from(names), unique=True, max_size=1)) if names else []:
                data.draw(st.sampled_from(DAMAGES))(store, name)
            index, set_aside, _ = store.read_index()
            have = {*index["row_id"], *set_aside}
            filled, computed = fill(store, wanted)
            assert sorted(computed) == sorted(set(wanted) - have)
            good = [row for row in wanted if row.startswith("row")]
            assert filled.index["row_id"].to_list() == good
            assert filled.set_aside.keys() == set(wanted) - set(good)
            if good:
                holds(store, filled, good)


def test_a_run_that_needs_more_disk_than_there_is_says_so_before_it_starts(tmp_path: Path) -> None:
    store = GradientStore(tmp_path, SETTINGS | {"sketch_dim": 10**15})
    compute = Compute()
    with pytest.raises(StoreError, match=r"10 rows need \d+\.\d+ GB, .* GB are free"):
        fill(store, ROWS, compute)
    assert compute.calls == 0


def test_mapped_copies_equal_the_shards_and_are_made_again_when_deleted_or_cut_off(store: GradientStore) -> None:
    filled, _ = fill(store, ROWS)
    first = StoredFeatures(store.folder, filled.index, "sgd").array()
    copies = sorted((store.folder / MAPPED).glob("*.sgd.*.npy"))
    assert len(copies) == filled.index["shard"].n_unique()
    copies[0].unlink()
    copies[1].write_bytes(copies[1].read_bytes()[:-10])
    assert np.array_equal(StoredFeatures(store.folder, filled.index, "sgd").array(), first)
    assert sorted((store.folder / MAPPED).glob("*.sgd.*.npy")) == copies
    for name in filled.index["shard"].unique():
        table = pl.read_parquet(store.folder / f"{name}.parquet")
        (copy,) = (store.folder / MAPPED).glob(f"{name}.sgd.*.npy")
        assert np.array_equal(np.load(copy), table["features_sgd"].to_numpy())


def test_a_shard_that_differs_from_its_record_is_not_mapped(store: GradientStore) -> None:
    filled, _ = fill(store, ROWS)
    file = store.folder / f"{filled.index['shard'][0]}.parquet"
    table = pl.read_parquet(file)
    table.with_columns(loss=table["loss"] + 1).write_parquet(file)
    with pytest.raises(StoreError, match="digest differs from its record"):
        StoredFeatures(store.folder, filled.index, "adam").array()
