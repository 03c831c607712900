"""A version appears whole or not at all, is not made twice, and readers follow the one that is current."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from g2is_assets.contracts.contract import Column, Contract
from g2is_assets.errors import ContractError, MissingInputError, StoreError
from g2is_assets.hashing import file_sha256
from g2is_assets.store.files import read_parquet, write_atomically
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import MANIFEST, Input
from g2is_assets.store.pruning import read_pruned
from g2is_assets.store.version import Draft, Recipe, Version

ROOT = Path(__file__).parents[2]
NUMBERS = Contract(
    ("stage/noun",), "noun", "Some numbers", {"n": Column(pl.Int64, "A number", minimum=0)}, sorted_by=("n",)
)
RECIPE = Recipe("stage/noun", None, "1", {"rate": 0.5}, {"up/stream": Input(data_version="v1")})


class Writer:
    """Writes a table of numbers and counts how often it was called."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers
        self.calls = 0

    def __call__(self, draft: Draft) -> None:
        self.calls += 1
        draft.write(NUMBERS, pl.DataFrame({"n": self.numbers}, schema=NUMBERS.schema))
        draft.metric(n_calls=self.calls)


class Unwritable:
    """Fails the test if it is called."""

    def __call__(self, draft: Draft) -> None:
        raise AssertionError("an equal version was written again")


def failing(error: BaseException) -> Callable[[Draft], None]:
    """Writes half a payload, then fails."""

    def write(draft: Draft) -> None:
        (draft.folder / "half.bin").write_bytes(b"half")
        raise error

    return write


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def make(lake: Lake, *numbers: int, recipe: Recipe = RECIPE) -> Version:
    version, written = lake.make(recipe, "run", Writer(*numbers))
    assert written
    return version


def numbers_of(version: Version) -> list[int]:
    return version.read(NUMBERS)["n"].to_list()


def entries(lake: Lake) -> set[str]:
    return {path.name for path in lake.place("stage/noun").iterdir()}


def test_a_version_is_a_folder_of_payload_and_manifest_with_a_pointer_beside_it(lake: Lake) -> None:
    version = make(lake, 1, 2)
    assert version.folder.parent == lake.root / "stage" / "noun"
    assert {path.name for path in version.folder.iterdir()} == {"noun.parquet", MANIFEST}
    assert entries(lake) == {version.folder.name, "current.json"}
    current = lake.current("stage/noun")
    assert current == version
    assert numbers_of(current) == [1, 2]
    manifest = current.manifest
    assert (manifest.asset, manifest.partition, manifest.run_id, manifest.code_version) == (
        "stage/noun",
        None,
        "run",
        "1",
    )
    assert (manifest.n_rows, manifest.metrics) == ({"noun": 2}, {"n_calls": 1})
    assert manifest.files["noun.parquet"].sha256 == file_sha256(version.folder / "noun.parquet")


def test_a_version_names_itself_as_an_input_by_content_and_manifest(lake: Lake) -> None:
    version = make(lake, 1)
    assert version.as_input == Input(
        data_version=version.manifest.data_version, manifest_sha256=file_sha256(version.folder / MANIFEST)
    )


def test_partitions_have_versions_of_their_own(lake: Lake) -> None:
    shop = make(lake, 1, recipe=replace(RECIPE, partition="shop"))
    other = make(lake, 2, recipe=replace(RECIPE, partition="other"))
    assert shop.folder.parent == lake.root / "stage" / "noun" / "shop"
    assert numbers_of(lake.current("stage/noun", "shop")) == [1]
    assert numbers_of(lake.current("stage/noun", "other")) == [2]
    assert shop.manifest.input_digest != other.manifest.input_digest
    assert lake.find("stage/noun") is None


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), ContractError("wrong")])
def test_a_failure_leaves_no_folder_and_the_previous_version_current(lake: Lake, error: BaseException) -> None:
    version = make(lake, 1)
    before = entries(lake)
    with pytest.raises(type(error)):
        lake.make(replace(RECIPE, code_version="2"), "run", failing(error))
    assert entries(lake) == before
    assert lake.current("stage/noun") == version


def test_a_failure_of_the_first_version_leaves_none(lake: Lake) -> None:
    with pytest.raises(RuntimeError):
        lake.make(RECIPE, "run", failing(RuntimeError()))
    assert entries(lake) == set()
    assert lake.find("stage/noun") is None


def test_a_full_disk_is_told_as_such_and_leaves_the_previous_version(lake: Lake) -> None:
    version = make(lake, 1)
    with pytest.raises(StoreError, match=r"No space left.*the previous version is intact"):
        lake.make(replace(RECIPE, code_version="2"), "run", failing(OSError(28, "No space left on device")))
    assert lake.current("stage/noun") == version


def test_a_table_that_breaks_its_contract_is_never_written(lake: Lake) -> None:
    version = make(lake, 1)
    before = entries(lake)
    with pytest.raises(ContractError, match="stage/noun: column n, row 0: value is below 0"):
        lake.make(replace(RECIPE, code_version="2"), "run", Writer(-1))
    assert entries(lake) == before
    assert lake.current("stage/noun") == version


def test_a_refused_table_leaves_no_file_in_the_draft(tmp_path: Path) -> None:
    draft = Draft(tmp_path, "run")
    with pytest.raises(ContractError):
        Writer(2, 1)(draft)
    assert list(tmp_path.iterdir()) == []
    assert draft.n_rows == {}


def test_equal_inputs_are_not_written_again(lake: Lake) -> None:
    version = make(lake, 1)
    again, written = lake.make(RECIPE, "another run", Unwritable())
    assert not written
    assert again == version
    assert again.manifest.run_id == "run"


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": {"rate": 0.6}},
        {"settings": {"rate": 0.5, "more": 1}},
        {"code_version": "2"},
        {"inputs": {"up/stream": Input(data_version="v2")}},
        {"inputs": {"up/stream": Input(data_version="v1"), "more": Input(data_version="v1")}},
        {"inputs": {}},
    ],
)
def test_a_changed_setting_code_or_input_makes_another_version(lake: Lake, changed: dict[str, object]) -> None:
    first = make(lake, 1)
    second = make(lake, 2, recipe=replace(RECIPE, **changed))
    assert second.folder != first.folder
    assert numbers_of(lake.current("stage/noun")) == [2]
    assert numbers_of(first) == [1]


def test_an_input_made_again_with_equal_content_changes_nothing(lake: Lake) -> None:
    version = make(lake, 1)
    remade = replace(RECIPE, inputs={"up/stream": Input(data_version="v1", manifest_sha256="another manifest")})
    assert lake.make(remade, "run", Unwritable()) == (version, False)


def test_the_order_of_settings_and_inputs_does_not_matter() -> None:
    inputs = {"a": Input(data_version="1"), "b": Input(data_version="2")}
    one = replace(RECIPE, settings={"x": 1, "y": [1, 2]}, inputs=inputs)
    other = replace(RECIPE, settings={"y": [1, 2], "x": 1}, inputs=dict(reversed(inputs.items())))
    assert one.input_digest == other.input_digest
    assert one.input_digest != replace(one, settings={"x": 1, "y": [2, 1]}).input_digest


def test_an_earlier_version_with_equal_inputs_serves_again_and_becomes_current(lake: Lake) -> None:
    first = make(lake, 1)
    make(lake, 2, recipe=replace(RECIPE, code_version="2"))
    assert numbers_of(lake.current("stage/noun")) == [2]
    assert lake.make(RECIPE, "run", Unwritable()) == (first, False)
    assert numbers_of(lake.current("stage/noun")) == [1]


def test_a_version_made_on_request_ignores_its_inputs_but_not_its_settings(lake: Lake) -> None:
    calm = replace(RECIPE, follows_inputs=False)
    version = make(lake, 1, recipe=calm)
    grown = replace(calm, inputs={"up/stream": Input(data_version="v2")})
    assert lake.make(grown, "run", Unwritable()) == (version, False)
    other = make(lake, 2, recipe=replace(grown, settings={"rate": 0.6}))
    assert other.folder != version.folder
    assert other.manifest.inputs["up/stream"].data_version == "v2"


def test_force_makes_it_anew_also_with_other_content(lake: Lake) -> None:
    make(lake, 1)
    version, written = lake.make(RECIPE, "run", Writer(2), force=True)
    assert written
    assert lake.current("stage/noun") == version
    assert numbers_of(version) == [2]


def test_force_with_equal_content_leaves_the_whole_version_where_it_is(lake: Lake) -> None:
    first = make(lake, 1)
    second, written = lake.make(RECIPE, "second run", Writer(1), force=True)
    assert written
    assert second.folder == first.folder
    assert numbers_of(lake.current("stage/noun")) == [1]


def test_what_was_made_on_request_stays_current(lake: Lake) -> None:
    """Whatever the names of the versions are that equal inputs led to."""
    for number in range(1, 9):
        lake.make(RECIPE, "run", Writer(number), force=True)
        version, written = lake.make(RECIPE, "run", Unwritable())
        assert not written
        assert numbers_of(version) == [number]


def damage_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("{")


def remove_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def remove_payload(folder: Path) -> None:
    (folder / "noun.parquet").unlink()


def truncate_payload(folder: Path) -> None:
    file = folder / "noun.parquet"
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [damage_manifest, remove_manifest, remove_payload, truncate_payload])
def test_a_damaged_version_is_made_again(lake: Lake, damage: Callable[[Path], None]) -> None:
    version = make(lake, 1)
    damage(version.folder)
    writer = Writer(1)
    again, written = lake.make(RECIPE, "run", writer)
    assert (written, writer.calls) == (True, 1)
    assert lake.current("stage/noun") == again
    assert numbers_of(lake.current("stage/noun")) == [1]


@pytest.mark.parametrize("damage", [remove_payload, truncate_payload])
def test_the_manifest_of_a_damaged_version_stays_with_the_reason_when_it_is_replaced(
    lake: Lake, damage: Callable[[Path], None]
) -> None:
    """Other manifests name it by digest."""
    version = make(lake, 1)
    damage(version.folder)
    again = make(lake, 1)
    assert again.folder != version.folder
    assert {path.name for path in version.folder.iterdir()} == {MANIFEST, "pruned.json"}
    assert file_sha256(version.folder / MANIFEST) == version.as_input.manifest_sha256
    pruned = read_pruned(version.folder)
    assert pruned is not None
    assert pruned.reason == "damaged, and made again with the same content"
    found = lake.find_whole("stage/noun", version.manifest.data_version)
    assert found is not None
    assert found.folder == lake.current("stage/noun").folder != version.folder
    assert pruned.removed == version.manifest.files


def test_a_replaced_version_without_a_readable_manifest_goes_and_a_pruned_one_stays(lake: Lake) -> None:
    version = make(lake, 1)
    damage_manifest(version.folder)
    second = make(lake, 1)
    assert not version.folder.exists()
    (second.folder / "pruned.json").write_text("{")
    make(lake, 1)
    assert {path.name for path in second.folder.iterdir()} == {"noun.parquet", MANIFEST, "pruned.json"}


def test_a_full_disk_is_no_reason_to_lose_the_manifest_of_a_damaged_version(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = make(lake, 1)
    truncate_payload(version.folder)

    def refuse(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", refuse)
        lake.retire(version.folder)
    assert {path.name for path in version.folder.iterdir()} == {"noun.parquet", MANIFEST}
    lake.retire(version.folder)
    assert {path.name for path in version.folder.iterdir()} == {MANIFEST, "pruned.json"}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"version": 5}', '{"version": ""}', '{"version": "gone"}']
)
def test_a_damaged_pointer_is_told_with_the_asset_and_made_again(lake: Lake, text: str) -> None:
    version = make(lake, 1)
    (lake.place("stage/noun") / "current.json").write_text(text)
    with pytest.raises(StoreError, match="stage/noun"):
        lake.find("stage/noun")
    with pytest.raises(StoreError, match="materialise"):
        lake.current("stage/noun")
    assert lake.make(RECIPE, "run", Unwritable()) == (version, False)
    assert lake.current("stage/noun") == version


def test_a_pointer_cannot_lead_out_of_its_folder(lake: Lake) -> None:
    make(lake, 1)
    other = make(lake, 2, recipe=replace(RECIPE, asset="stage/other"))
    pointer = lake.place("stage/noun") / "current.json"
    pointer.write_text(json.dumps({"version": f"../other/{other.folder.name}"}))
    with pytest.raises(StoreError):
        lake.find("stage/noun")


def test_a_missing_asset_is_told_with_its_partition(lake: Lake) -> None:
    assert lake.find("stage/noun", "shop") is None
    with pytest.raises(MissingInputError, match=r"stage/noun\[shop\] has not been materialised"):
        lake.current("stage/noun", "shop")
    with pytest.raises(MissingInputError, match=r"stage/noun has not been materialised"):
        lake.current("stage/noun")


def test_the_data_version_is_the_contents_and_not_the_runs(tmp_path: Path) -> None:
    versions = []
    for run, numbers in (("a", (1, 2)), ("b", (1, 2)), ("c", (1, 3))):
        recipe = replace(RECIPE, code_version=run, settings={"run": run})
        version, _ = Lake(tmp_path / run).make(recipe, run, Writer(*numbers))
        versions.append(version.manifest)
    first, second, third = versions
    assert first.run_id != second.run_id
    assert first.input_digest != second.input_digest
    assert first.data_version == second.data_version
    assert first.data_version != third.data_version


def test_metrics_are_no_part_of_the_data_version(tmp_path: Path) -> None:
    def write(draft: Draft) -> None:
        Writer(1)(draft)
        draft.metric(seconds=12.5)

    version, _ = Lake(tmp_path / "a").make(RECIPE, "run", write)
    assert version.manifest.metrics == {"n_calls": 1, "seconds": 12.5}
    assert version.manifest.data_version == make(Lake(tmp_path / "b"), 1).manifest.data_version


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_leaves_a_version_that_can_be_read_or_none(lake: Lake, value: float) -> None:
    def write(draft: Draft) -> None:
        Writer(1)(draft)
        draft.metric(mean_loss=value)

    try:
        made, _ = lake.make(RECIPE, "run", write)
    except StoreError:
        made = None
    found = lake.find("stage/noun")
    assert (found is None) == (made is None)


def test_a_version_without_its_table_is_told_by_file(lake: Lake) -> None:
    version = make(lake, 1)
    with pytest.raises(StoreError, match=r"gone\.parquet is missing or damaged"):
        version.read(replace(NUMBERS, table="gone"))
    truncate_payload(version.folder)
    with pytest.raises(StoreError, match=r"noun\.parquet is missing or damaged"):
        version.read(NUMBERS)


def test_a_table_is_held_to_its_contract_again_when_it_is_read(lake: Lake) -> None:
    version = make(lake, 1)
    stricter = replace(NUMBERS, columns={"n": Column(pl.Int64, "A number", minimum=5)})
    with pytest.raises(ContractError, match=version.folder.name):
        version.read(stricter)


def test_a_table_whose_bytes_changed_is_not_read(lake: Lake) -> None:
    version = make(lake, 1)
    pl.DataFrame({"n": [2]}).write_parquet(version.folder / "noun.parquet")
    with pytest.raises(StoreError, match=r"noun\.parquet is damaged: its digest differs"):
        version.read(NUMBERS)
    assert lake.make(RECIPE, "run", Writer(1))[1] is True
    assert numbers_of(lake.current("stage/noun")) == [1]


def test_a_place_that_cannot_be_a_folder_is_told_with_the_remedy(lake: Lake) -> None:
    lake.root.mkdir()
    (lake.root / "stage").write_text("a file where a folder is needed")
    with pytest.raises(StoreError, match=r"cannot be written.*G2IS_HOME"):
        lake.make(RECIPE, "run", Writer(1))


@pytest.mark.parametrize("name", ["it's a lake", "lake [1]", "lake*", "lake=1"])
def test_a_lake_may_lie_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    lake = Lake(tmp_path / name)
    make(lake, 1, 2)
    assert numbers_of(lake.current("stage/noun")) == [1, 2]
    assert lake.make(RECIPE, "run", Unwritable())[1] is False


def test_an_atomic_write_replaces_the_text_and_leaves_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "note.json"
    write_atomically(file, "old")
    write_atomically(file, "new ä\n")
    assert file.read_text(encoding="utf-8") == "new ä\n"
    assert list(tmp_path.iterdir()) == [file]


def test_a_parquet_file_can_be_read_by_columns_and_a_missing_column_is_told(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pl.DataFrame({"a": [1], "b": [2]}).write_parquet(file)
    assert read_parquet(file, ["b"]).to_dict(as_series=False) == {"b": [2]}
    with pytest.raises(StoreError, match=r"t\.parquet"):
        read_parquet(file, ["c"])


KILLED = """
import os, signal, sys
from pathlib import Path
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Recipe

def write(draft):
    (draft.folder / "noun.parquet").write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)

Lake(Path(sys.argv[1])).make(Recipe("stage/noun", None, "2", {}), "run", write)
"""


def test_a_process_killed_while_writing_leaves_the_previous_version_and_the_next_one_succeeds(lake: Lake) -> None:
    version = make(lake, 1)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(lake.root)], cwd=ROOT, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert lake.current("stage/noun") == version
    assert numbers_of(version) == [1]
    after = make(lake, 2, recipe=Recipe("stage/noun", None, "2", {}))
    assert lake.current("stage/noun") == after
    assert numbers_of(after) == [2]


KILLED_WHILE_REPLACING = """
import os, shutil, signal, sys
from pathlib import Path
import polars as pl
from g2is_assets.store import lake as module

def kill(*_args, **_more):
    os.kill(os.getpid(), signal.SIGKILL)

remove = shutil.rmtree

def remove_and_die(path, *args, **more):
    remove(path, *args, **more)
    kill()

module.shutil.rmtree = remove_and_die
recipe = module.Recipe("stage/noun", None, "1", {})
module.Lake(Path(sys.argv[1])).make(
    recipe, "run", lambda draft: (draft.folder / "a.txt").write_text("a"), force=True
)
"""


def test_a_process_killed_while_replacing_an_equal_version_leaves_a_whole_one(lake: Lake) -> None:
    recipe = Recipe("stage/noun", None, "1", {})
    lake.make(recipe, "run", lambda draft: draft.folder.joinpath("a.txt").write_text("a") and None)
    subprocess.run([sys.executable, "-c", KILLED_WHILE_REPLACING, str(lake.root)], cwd=ROOT, check=False, timeout=60)
    assert (lake.current("stage/noun").folder / "a.txt").read_text() == "a"


def test_others_may_read_what_the_umask_lets_them(lake: Lake) -> None:
    before = os.umask(0o022)
    try:
        version = make(lake, 1)
    finally:
        os.umask(before)
    assert version.folder.stat().st_mode & 0o777 == 0o755
    assert (version.folder.parent / "current.json").stat().st_mode & 0o777 == 0o644
