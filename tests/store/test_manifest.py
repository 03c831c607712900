"""A manifest comes back as it was written, or is refused as damaged."""

import hashlib
import json
import platform
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from g2is_assets.errors import StoreError
from g2is_assets.store.manifest import (
    LIBRARIES,
    MANIFEST,
    PACKAGE,
    FileRecord,
    Input,
    Manifest,
    describe_files,
    git_revision,
    library_versions,
    read_manifest,
)

WHOLE = Manifest(
    asset="instructions/target",
    partition="shop",
    data_version="d" * 64,
    input_digest="i" * 64,
    code_version="1",
    settings={"max_length": 512, "system": None, "nested": {"list": [1, 2.5, "x"]}},
    inputs={
        "file:a.jsonl": Input(data_version="a" * 64),
        "warmup/sample": Input(data_version="b", manifest_sha256="c"),
    },
    files={"target.parquet": FileRecord(sha256="e" * 64, n_bytes=12)},
    n_rows={"target": 3},
    metrics={"n_test": 0, "mean_loss": 1.0, "split": "test"},
    run_id="run-1",
    created_at="2025-01-01T00:00:00+00:00",
    git_revision="unknown",
    libraries={"python": "3.11"},
)


def write(folder: Path, text: str | bytes) -> Path:
    (folder / MANIFEST).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    back = read_manifest(write(tmp_path, WHOLE.model_dump_json(indent=2)))
    assert back == WHOLE
    assert [type(value) for value in back.metrics.values()] == [int, float, str]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", b"\xff\xfe", WHOLE.model_dump_json()[:-20]],
    ids=["empty", "cut", "list", "null", "no_fields", "not_utf8", "truncated"],
)
def test_a_damaged_manifest_is_refused_by_name(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(StoreError, match=r"manifest\.json is missing or damaged"):
        read_manifest(write(tmp_path, text))


def test_a_missing_manifest_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=re.escape(str(tmp_path / MANIFEST))):
        read_manifest(tmp_path)


def test_a_manifest_with_an_unknown_or_a_missing_field_is_refused(tmp_path: Path) -> None:
    fields = json.loads(WHOLE.model_dump_json())
    with pytest.raises(StoreError):
        read_manifest(write(tmp_path, json.dumps(fields | {"surprise": 1})))
    del fields["input_digest"]
    with pytest.raises(StoreError):
        read_manifest(write(tmp_path, json.dumps(fields)))


def test_a_manifest_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        WHOLE.asset = "other"  # type: ignore[misc]


def test_files_are_described_by_relative_path_size_and_digest(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "weights.bin").write_bytes(b"\x00\x01")
    (tmp_path / "a.txt").write_bytes(b"")
    write(tmp_path, "not part of the payload")
    assert describe_files(tmp_path) == {
        "a.txt": FileRecord(sha256=hashlib.sha256(b"").hexdigest(), n_bytes=0),
        "adapter/weights.bin": FileRecord(sha256=hashlib.sha256(b"\x00\x01").hexdigest(), n_bytes=2),
    }


def test_only_the_versions_own_manifest_is_no_payload(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    write(tmp_path / "adapter", "{}")
    write(tmp_path, "{}")
    assert list(describe_files(tmp_path)) == ["adapter/manifest.json"]


def test_library_versions_name_python_and_every_library() -> None:
    versions = library_versions()
    assert versions["python"] == platform.python_version()
    assert versions.keys() == {"python", PACKAGE, *LIBRARIES}
    assert all(re.match(r"\d", version) for version in versions.values())


def test_the_revision_is_a_commit_or_unknown() -> None:
    assert re.fullmatch(r"unknown|[0-9a-f]{40}(\+changes)?", git_revision())
