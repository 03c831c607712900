"""Whatever stands in a file that people or disks can spoil: it is read, or refused with one of the project's errors."""

import io
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2is_assets.contracts.contract import Column, Contract
from g2is_assets.contracts.tables import TABLES
from g2is_assets.errors import G2isError
from g2is_assets.settings.config import Source
from g2is_assets.settings.project import load_project
from g2is_assets.settings.redaction import redacted, scrubbed
from g2is_assets.store.gc import collect_garbage
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import read_manifest
from g2is_assets.store.pruning import plan_pruning
from g2is_assets.store.sources import read_rows
from g2is_assets.store.version import Draft, Recipe
from g2is_assets.store.views import rebuild_views
from support.vectors import LENGTHS, fill_small, write_index

MANY = settings(max_examples=200, deadline=None, derandomize=True, database=None)
FEW = settings(max_examples=50, deadline=None, derandomize=True, database=None)
TABLE = Contract(("stage/noun",), "noun", "Rows", {"n": Column(pl.Int64, "A number")})

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def spoiled(text: str) -> st.SearchStrategy[bytes]:
    """A JSON text with a value, a key or some bytes changed; or anything else."""
    whole = json.loads(text)
    content = text.encode()
    keys = st.sampled_from(sorted(whole)) if whole else TEXT
    place = st.integers(0, max(len(content) - 1, 0))
    return st.one_of(
        st.tuples(keys, JSON).map(lambda pair: json.dumps(whole | {pair[0]: pair[1]}).encode()),
        keys.map(lambda key: json.dumps({k: v for k, v in whole.items() if k != key}).encode()),
        st.tuples(place, st.binary(max_size=3)).map(lambda p: content[: p[0]] + p[1] + content[p[0] + len(p[1]) :]),
        place.map(lambda length: content[:length]),
        JSON.map(lambda value: json.dumps(value).encode()),
        st.binary(max_size=30),
    )


PARQUET = io.BytesIO()
pl.DataFrame({"prompt": [f"Say {n}." for n in range(20)], "response": [str(n) for n in range(20)]}).write_parquet(
    PARQUET
)
BYTES = st.lists(st.tuples(st.integers(0, len(PARQUET.getvalue()) - 1), st.integers(0, 255)), max_size=4)


@MANY
@given(BYTES, st.none() | st.integers(0, len(PARQUET.getvalue())))
def test_any_parquet_file_is_read_or_refused(changes: list[tuple[int, int]], length: int | None) -> None:
    content = bytearray(PARQUET.getvalue())
    for place, value in changes:
        content[place] = value
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.parquet"
        file.write_bytes(content[:length])
        with suppress(G2isError):
            for _ in read_rows(str(file), Source(path="rows.parquet"), Path(folder)):
                pass


COLUMNS = st.sampled_from(
    ["prompt", "response", "messages", "choices", "id", "source", "license", "input", "instruction"]
)
VALUES = st.one_of(
    st.lists(st.integers(-5, 5) | st.none(), min_size=2, max_size=2),
    st.lists(TEXT | st.none(), min_size=2, max_size=2),
    st.lists(st.lists(TEXT, max_size=2), min_size=2, max_size=2),
    st.lists(st.fixed_dictionaries({"role": TEXT, "content": TEXT | st.none()}), min_size=2, max_size=2),
    st.lists(st.floats(), min_size=2, max_size=2),
    st.lists(st.binary(max_size=4), min_size=2, max_size=2),
    st.lists(st.datetimes(), min_size=2, max_size=2),
)


@MANY
@given(st.dictionaries(COLUMNS, VALUES, max_size=5))
def test_any_columns_are_read_or_refused(columns: dict[str, list[Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.parquet"
        pl.DataFrame({"prompt": ["a", "b"], "response": ["c", "d"]} | columns, strict=False).write_parquet(file)
        with suppress(G2isError):
            for row in read_rows(str(file), Source(path="rows.parquet"), Path(folder)):
                assert row.line in (1, 2)


DOMAIN_TOML = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.tuples(
            st.sampled_from(
                ["title", "budget", "members", "knowledge", "selection", "finetune", "selection.budget", "x"]
            ),
            st.one_of(
                st.integers().map(str),
                st.floats().map(str),
                st.sampled_from(["true", "[]", "{}", '["sums"]', '"a"', "{delta = 2}", "{budget = 1.5}", "1979-05-27"]),
            ),
        ).map(" = ".join),
        max_size=4,
    ).map("\n".join),
)


@MANY
@given(DOMAIN_TOML, st.booleans())
def test_any_domain_toml_is_loaded_or_refused(text: str, with_rows: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "g2is.toml"
        file.write_text('[instructions]\nsources = ["pool.jsonl"]\n')
        for name in ("sums", "odd"):
            (Path(folder) / "domains" / name).mkdir(parents=True)
        (Path(folder) / "domains" / "odd" / "domain.toml").write_bytes(text.encode("utf-8", "replace"))
        if with_rows:
            (Path(folder) / "domains" / "odd" / "validation.jsonl").touch()
        with suppress(G2isError):
            assert "odd" in load_project(file).domains


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake with two versions of a table, the older one pruned, and a version of gradients with three shards."""
    lake = Lake(tmp_path_factory.mktemp("small"))
    patch = pytest.MonkeyPatch()
    patch.setitem(TABLES, ("stage/noun", TABLE.table), TABLE)
    for code in "12":
        lake.make(Recipe("stage/noun", None, code, {}), "run", write_table)
    lake.make(Recipe("gradients/pool", None, "1", {}), "run", lambda draft: write_index(draft, fill_small(lake)))
    collect_garbage(lake, 1, 0)
    assert len(list(lake.root.rglob("pruned.json"))) == 1
    yield lake
    patch.undo()


def write_table(draft: Draft) -> None:
    draft.write(TABLE, pl.DataFrame({"n": [1, 2]}))


def plans_of(lake: Lake) -> None:
    for version in lake.place("stage/noun").glob("*-*"):
        with suppress(G2isError):
            plan_pruning(version, read_manifest(version))


def refill(lake: Lake) -> None:
    """In a copy: what is damaged is computed again."""
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(lake.root, Path(folder) / "lake")
        assert len(fill_small(Lake(copy)).index) == len(LENGTHS)


READERS: dict[str, Callable[[Lake], object]] = {
    "table": lambda lake: lake.current("stage/noun").read(TABLE),
    "current": lambda lake: lake.find_whole("stage/noun"),
    "content": lambda lake: lake.find_whole("stage/noun", "0" * 64),
    "views": rebuild_views,
    "gc": lambda lake: collect_garbage(lake, 1, 0, dry_run=True),
    "pruning": plans_of,
    "parts": lambda lake: lake.parts_of(lake.current("gradients/pool")),
    "fill": refill,
}
FILES = {
    "stage/noun/current.json": "table current content views gc",
    "stage/noun/*/manifest.json": "table current content views gc pruning",
    "gradients/pool/*/manifest.json": "views gc parts",
    "stage/noun/*/pruned.json": "gc pruning",
    "vectors/shard/*/*/manifest.json": "views gc parts fill",
}


@pytest.mark.parametrize("pattern", FILES)
def test_any_content_of_the_lakes_own_small_files_is_read_or_refused(
    small: Lake, pattern: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = sorted(small.root.glob(pattern))[-1]
    whole = file.read_text()
    caplog.set_level(logging.CRITICAL)

    @FEW
    @given(spoiled(whole))
    def spoil(content: bytes) -> None:
        file.write_bytes(content)
        for reader in FILES[pattern].split():
            with suppress(G2isError):
                READERS[reader](small)
        assert file.exists()

    try:
        spoil()
    finally:
        file.write_text(whole)
    for reader in READERS.values():
        reader(small)


@MANY
@given(st.text(max_size=40), st.text("ab:/@?#.0 ", max_size=25))
def test_any_address_can_be_redacted_and_stays_so(prefix: str, rest: str) -> None:
    for address in (prefix, f"s3://{rest}", prefix + "://" + rest):
        once = redacted(address)
        assert redacted(once) == once
        assert scrubbed(once) == once or "://" in prefix
        scrubbed(prefix + address, address)
