"""Disks that are full or read-only, files that vanished or were cut off: one error, nothing lost, mended easily."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from g2is_assets.errors import G2isError, SourceError, StoreError
from g2is_assets.orchestration.definitions import build_defs
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import read_manifest
from g2is_assets.store.views import rebuild_views
from support.commands import g2is
from support.processes import Commands, assert_all_that_is_current_is_whole
from support.projects import Undisturbed, flip, payload
from support.rows import write_jsonl
from support.runs import run

Mount = Callable[..., None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """A function that mounts, with the arguments of the command; undone afterwards."""
    places: list[str] = []

    def mounted(*arguments: str | Path) -> None:
        done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"needs the right to mount file systems (root in a container that allows it): {done.stderr}")
        if "remount" not in str(arguments):
            places.append(str(arguments[-1]))

    yield mounted
    for place in reversed(places):
        subprocess.run(["umount", place], check=True)


def read_only(mount: Mount, folder: Path) -> None:
    mount("--bind", folder, folder)
    mount("-o", "remount,ro,bind", folder)


def add_pool_rows(settings: Path) -> Path:
    rows = [{"prompt": f"Name number {n}.", "response": f"It is {n}."} for n in range(30)]
    return write_jsonl(settings.parent / "pool" / "more.jsonl", rows)


def fill(folder: Path, but: int) -> Path:
    """Write a file that leaves so many bytes free."""
    filler = folder / "filler"
    filler.write_bytes(b"f" * (shutil.disk_usage(folder).free - but))
    return filler


def test_a_full_disk_is_one_error_keeps_what_is_current_and_the_next_run_goes_on(
    built: Path, commands: Commands, mount: Mount, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    lake = built.parent / "lake"
    lake.rename(tmp_path / "moved")
    lake.mkdir()
    mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", lake)
    shutil.copytree(tmp_path / "moved", lake, dirs_exist_ok=True)
    filler = fill(lake, but=150_000)
    more = add_pool_rows(built)
    said = commands.refused(built)
    assert "No space left on device" in said
    assert "cannot be written" in said
    assert str(lake) in said
    assert "free space" in said
    filler.unlink()
    assert_all_that_is_current_is_whole(lake)
    assert {name: sha for name, sha in payload(lake).items() if "/sums/" in name} == {
        name: sha for name, sha in undisturbed.both.items() if "/sums/" in name
    }
    commands.refresh(built)
    assert Lake(lake).current("instructions/pool").manifest.n_rows["pool"] == 70
    more.unlink()
    commands.refresh(built)
    # An evaluation has the adapter that was served before it beside the new one, and that is another one now.
    left = {name for name, sha in undisturbed.both.items() if payload(lake).get(name) != sha}
    assert left == {f"finetune/evaluation/sums/{table}.parquet" for table in ("evaluation", "validation")}


def test_a_disk_that_is_too_full_for_the_history_is_one_error_too(
    built: Path, commands: Commands, mount: Mount, undisturbed: Undisturbed
) -> None:
    home = built.parent / ".dagster"
    mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", home)
    filler = fill(home, but=500_000)
    refused = commands.refused(built)  # while the database is being made
    filler.unlink()
    commands.refresh(built)
    filler = fill(home, but=0)
    refused_later = commands.refused(built)  # while a run is being written down
    filler.unlink()
    for said in (refused, refused_later):
        assert f"{home} cannot be written: (sqlite3.OperationalError) " in said
        assert "free space" in said
    commands.refresh(built)
    assert payload(built.parent / "lake") == undisturbed.both


@pytest.mark.parametrize("free", [0, 20_000, 200_000])
def test_views_for_which_there_is_no_room_are_one_error_and_the_earlier_ones_stay(
    built: Path, mount: Mount, tmp_path: Path, free: int
) -> None:
    lake = built.parent / "lake"
    lake.rename(tmp_path / "moved")
    lake.mkdir()
    mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", lake)
    shutil.copytree(tmp_path / "moved", lake, dirs_exist_ok=True)
    rebuild_views(Lake(lake))
    fill(lake, but=free)
    with pytest.raises(StoreError, match=r"g2is\.duckdb cannot be written: .*No space left on device.*; free space"):
        rebuild_views(Lake(lake))
    assert not list(lake.glob(".writing-*"))
    assert g2is(built, "sql", "SELECT count(*) FROM instructions_pool").exit_code == 0


def test_an_auditor_who_may_only_read_can_verify(built: Path, mount: Mount) -> None:
    read_only(mount, built.parent)
    done = g2is(built, "audit", "verify", "sums")
    assert done.exit_code == 3, done.output  # whole, but there is no history to tell the digest
    assert "finetune/adapter[sums]: whole" in done.output
    assert "unwitnessed" in done.output


@pytest.mark.parametrize("folder", ["lake", ".dagster"])
def test_a_read_only_folder_is_one_error_and_changes_nothing(
    built: Path, commands: Commands, mount: Mount, undisturbed: Undisturbed, folder: str
) -> None:
    read_only(mount, built.parent / folder)
    more = add_pool_rows(built)
    said = commands.refused(built)
    assert f"{built.parent / folder}" in said
    assert "Read-only file system" in said
    assert "make it writable" in said
    assert payload(built.parent / "lake") == undisturbed.both
    mount("-o", "remount,rw,bind", built.parent / folder)
    more.unlink()
    commands.refresh(built)
    assert payload(built.parent / "lake") == undisturbed.both


def current(settings: Path, key: str) -> Path:
    return Lake(settings.parent / "lake").current(key).folder


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def shards(settings: Path) -> list[Path]:
    lake = Lake(settings.parent / "lake")
    return [shard.folder / "vectors.parquet" for shard in lake.parts_of(lake.current("gradients/pool")).values()]


def damage_all_shards(settings: Path) -> None:
    files = shards(settings)
    for file in files:
        cut(file)
    shutil.rmtree(files[0].parents[1] / "mapped")


def damage_pointer(settings: Path) -> None:
    (settings.parent / "lake" / "instructions" / "pool" / "current.json").write_text('{"versio')


def change_a_row(settings: Path) -> None:
    flip(current(settings, "instructions/pool") / "pool.parquet")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a payload file that is gone": (
        lambda s: (current(s, "instructions/pool") / "pool.parquet").unlink(),
        r"instructions/pool/.*/pool\.parquet is missing or damaged: .*materialise the asset again",
    ),
    "a payload file that was cut off": (
        lambda s: cut(current(s, "instructions/pool") / "pool.parquet"),
        r"instructions/pool/.*/pool\.parquet is missing or damaged: .*materialise the asset again",
    ),
    "a payload file with another bit": (change_a_row, r"instructions/pool/.*/pool\.parquet is (missing or )?damaged"),
    "shards that were cut off": (
        damage_all_shards,
        r"gradients/pool/.* is made of vectors/shard/.* which is missing or damaged; materialise again",
    ),
    "a manifest that was cut off": (
        lambda s: cut(current(s, "instructions/pool") / "manifest.json"),
        r"instructions/pool/.*/manifest\.json is missing or damaged .*materialise the asset again",
    ),
    "a damaged pointer": (damage_pointer, r"instructions/pool/current\.json is damaged; .*materialise"),
    "a version folder that is gone": (
        lambda s: shutil.rmtree(current(s, "instructions/pool")),
        r"instructions/pool/.*/manifest\.json is missing or damaged .*materialise the asset again",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_a_domain_reads_and_is_damaged_is_told_by_file_and_mended_by_a_refresh(
    built: Path, instance: dg.DagsterInstance, undisturbed: Undisturbed, damage: str
) -> None:
    spoil, message = DAMAGES[damage]
    toml = built.parent / "domains" / "sums" / "domain.toml"
    toml.write_text("budget = 2\n")  # so that the domain has to be computed from what is damaged
    spoil(built)
    with pytest.raises(G2isError, match=message):
        run(built, instance, "refresh_domain", "sums")
    assert not list((built.parent / "lake").rglob(".writing-*"))
    toml.unlink()
    run(built, instance, "refresh_pool")
    run(built, instance, "refresh_domain", "sums")
    assert payload(built.parent / "lake") == undisturbed.both
    assert_all_that_is_current_is_whole(built.parent / "lake")


def test_a_damaged_file_is_one_error_of_the_command_line_too(built: Path, commands: Commands) -> None:
    file = current(built, "instructions/pool") / "pool.parquet"
    cut(file)
    said = commands.refused(built, "why", "sums", "sums:1")
    assert f"{file} is missing or damaged" in said
    assert "materialise the asset again" in said


def test_a_manifest_that_does_not_match_its_files_makes_the_version_anew(
    built: Path, instance: dg.DagsterInstance, undisturbed: Undisturbed
) -> None:
    folder = current(built, "instructions/pool")
    text = (folder / "manifest.json").read_text()
    sha = read_manifest(folder).files["pool.parquet"].sha256
    (folder / "manifest.json").write_text(text.replace(sha, "0" * 64))
    run(built, instance, "refresh_pool")
    assert payload(built.parent / "lake") == undisturbed.both
    assert current(built, "instructions/pool") != folder


def test_a_source_that_vanished_after_the_settings_were_loaded_is_told_by_file(
    built: Path, instance: dg.DagsterInstance
) -> None:
    before = payload(built.parent / "lake")
    definitions = build_defs(built)
    gone = built.parent / "domains" / "sums" / "validation.jsonl"
    os.rename(gone, gone.with_suffix(".away"))
    with pytest.raises(SourceError, match=r"sums/validation\.jsonl is not there as a file; a domain needs"):
        definitions.resolve_job_def("refresh_domain").execute_in_process(instance=instance, partition_key="sums")
    assert payload(built.parent / "lake") == before
    os.rename(gone.with_suffix(".away"), gone)
    run(built, instance, "refresh_domain", "sums")
    assert payload(built.parent / "lake") == before


def test_gc_in_a_read_only_project_is_one_error(built: Path, commands: Commands, mount: Mount) -> None:
    read_only(mount, built.parent)
    said = commands.refused(built, "gc", "--min-age-hours", "0")
    assert "cannot be written" in said
    assert "make it writable" in said
