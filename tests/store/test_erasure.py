"""Erasure reaches every version and shard; killed at any moment, the lake can be read and the next one finishes."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from g2is_assets.contracts.audit import ERASED_PAGE, PAGE, QUOTED
from g2is_assets.contracts.gradients import INDEX, VECTORS
from g2is_assets.contracts.instructions import POOL, WITHHELD
from g2is_assets.contracts.tables import TABLES
from g2is_assets.contracts.warmup import SAMPLE
from g2is_assets.core.codes import quantise
from g2is_assets.errors import SettingsError, StoreError
from g2is_assets.hashing import file_sha256
from g2is_assets.store.erasure import Erased, erase, with_text
from g2is_assets.store.features import MAPPED, StoredFeatures, copies_of
from g2is_assets.store.gc import VERSIONS, collect_garbage
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import ERASED, ERASING, PRUNED, Input, read_manifest
from g2is_assets.store.pruning import ROW_IDS, plan_pruning
from g2is_assets.store.tombstones import read_tombstones
from g2is_assets.store.vectors import VectorStore
from g2is_assets.store.version import Draft, Recipe, Version
from g2is_assets.store.versions import assets_of, versions_of
from g2is_assets.store.withholding import licenses_of
from g2is_assets.trail.chain import follow
from g2is_assets.trail.verify import verify
from support.rows import UNREMARKABLE, answered
from support.stops import Stop, stopping
from support.vectors import DIM, SETTINGS, by_name, fill, flip_byte, vector, write_index

ROWS = [f"row{i:02d}" for i in range(6)]
GONE = "row02"
SAID = f"secret of {GONE}"
WHY = "asked"


def record(row_id: str) -> dict[str, Any]:
    text = f"secret of {row_id}"
    return {
        "row_id": row_id,
        "ids": [f"id {text}"],
        "sources": ["s"],
        "licenses": ["MIT"],
        "messages": answered([{"role": "user", "content": text}], "r"),
        "prompt": text,
        "response": text,
        "n_prompt_tokens": 3,
        "n_response_tokens": 3,
        "answer": text,
        "choices": [text, "no"],
        **UNREMARKABLE,
    }


def pool_of(lake: Lake, code: str, rows: Iterable[str], withheld: Iterable[str] = ()) -> Version:
    def write(draft: Draft) -> None:
        draft.write(POOL, pl.DataFrame([record(row) for row in rows], schema=POOL.schema))
        out = [record(row) | {"reason": "withdrawn", "detail": WHY} for row in withheld]
        table = pl.DataFrame([{name: row[name] for name in WITHHELD.columns} for row in out], schema=WITHHELD.schema)
        draft.write(WITHHELD, table)

    return lake.make(Recipe("instructions/pool", None, code, {}), "run", write)[0]


def sample_of(lake: Lake, rows: Iterable[str]) -> Version:
    def write(draft: Draft) -> None:
        table = pl.DataFrame([{n: record(row)[n] for n in SAMPLE.columns} for row in rows], schema=SAMPLE.schema)
        draft.write(SAMPLE, table)

    return lake.make(Recipe("warmup/sample", None, "1", {}), "run", write)[0]


def store_of(lake: Lake) -> VectorStore:
    return VectorStore(lake, SETTINGS | {"asset": "gradients/pool"})


def gradients_of(
    lake: Lake, code: str, rows: list[str], asset: str = "gradients/pool", partition: str | None = None
) -> tuple[Version, list[str]]:
    """A version of these rows' gradients, with mapped copies; and the rows that were computed."""
    computed: list[str] = []

    def write(draft: Draft) -> None:
        filled, rows_computed = fill(VectorStore(lake, SETTINGS | {"asset": asset}), rows)
        computed.extend(rows_computed)
        write_index(draft, filled)
        StoredFeatures(by_name(filled), filled.index, "sgd").array()

    return lake.make(Recipe(asset, partition, code, {}), "run", write)[0], computed


def components_of(lake: Lake, gradients: Version, nodes: str) -> Version:
    def write(draft: Draft) -> None:
        rows = gradients.read(INDEX)["row_id"] if nodes == "rows" else ["a mean"]
        (draft.folder / "directions.bin").write_bytes(b"".join(vector(row, "sgd").tobytes() for row in rows))

    inputs = {"gradients/target": Input(data_version=gradients.manifest.data_version)}
    recipe = Recipe("knowledge/components", gradients.manifest.partition, "1", {"nodes": nodes}, inputs)
    return lake.make(recipe, "run", write)[0]


def report_of(lake: Lake, code: str, rows: Iterable[str], domain: str = "shop") -> Version:
    """A page with some rows' text, and the table that names them."""

    def write(draft: Draft) -> None:
        (draft.folder / PAGE).write_text("".join(f"<p>secret of {row}</p>" for row in rows))
        quoted = [{"domain": domain, "row_id": row, "place": "pool"} for row in rows]
        draft.write(QUOTED, pl.DataFrame(quoted, schema=QUOTED.schema))

    return lake.make(Recipe("audit/report", domain, code, {}), "run", write)[0]


def build(root: Path, **domains: str) -> Lake:
    """A lake in which the row has left everything but the sample: two versions of most, one withheld list."""
    lake, rest = Lake(root), [row for row in ROWS if row != GONE]
    pool_of(lake, "1", ROWS)
    pool_of(lake, "2", rest, [GONE])
    sample_of(lake, ROWS[1:4])
    gradients_of(lake, "1", ROWS)
    gradients_of(lake, "2", rest)
    report_of(lake, "1", ROWS)
    report_of(lake, "2", rest)
    for domain, nodes in domains.items():
        components_of(lake, gradients_of(lake, "1", ROWS[:4], "gradients/target", domain)[0], nodes)
        current, _ = gradients_of(lake, "2", ["row00", "row03"], "gradients/target", domain)
        components_of(lake, current, nodes)
    return lake


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("erasure") / "lake", shop="rows", other="components").root


@pytest.fixture
def lake(built: Path, tmp_path: Path) -> Lake:
    shutil.copytree(built, tmp_path / "lake")
    return Lake(tmp_path / "lake")


def in_use(*domains: str) -> list[tuple[str, str | None]]:
    shared = [("instructions/pool", None), ("gradients/pool", None)]
    return [*shared, *((a, d) for a in ("gradients/target", "knowledge/components", "audit/report") for d in domains)]


def run(lake: Lake, *rows: str, dry_run: bool = False) -> Erased:
    return erase(lake, rows or (GONE,), WHY, in_use("shop", "other"), dry_run=dry_run)


def every_version(lake: Lake) -> list[Version]:
    return [version for asset in assets_of(lake) for version in versions_of(lake, asset)[0]]


def whole(lake: Lake, version: Version) -> bool:
    manifest = version.manifest
    return lake.find_whole(manifest.asset, manifest.data_version, manifest.partition) is not None


def features_of(lake: Lake, version: Version) -> dict[str, np.ndarray]:
    """Vectors by row id, as graph and walk read them."""
    index = version.read(INDEX)
    return dict(zip(index["row_id"], StoredFeatures(lake.parts_of(version), index, "sgd").array(), strict=True))


def residue(lake: Lake, row: str = GONE) -> list[Path]:
    """Files that still hold the row's text or one of its vectors."""
    codes = {quantise(vector(row, kind)[None]).tobytes() for kind in SETTINGS["kinds"]}
    needles = [f"secret of {row}".encode(), vector(row, "sgd").tobytes(), *codes]
    found = []
    for file in lake.root.rglob("*"):
        if not file.is_file() or file.name == "g2is.duckdb":
            continue
        content = file.read_bytes()
        if file.suffix == ".parquet":
            table = pl.read_parquet(file)
            content += repr(table.select(~pl.selectors.array()).rows()).encode()
            for name in table.select(pl.selectors.array()).columns:
                content += table[name].to_numpy().tobytes()
        if any(needle in content for needle in needles):
            found.append(file)
    return found


def snapshot(lake: Lake) -> dict[str, str]:
    """Digest of every file but views and mapped copies, which readers make; records without their times."""
    found = {}
    for file in sorted(lake.root.rglob("*")):
        name = file.relative_to(lake.root).as_posix()
        if file.name in (ERASED, PRUNED):
            found[name] = json.dumps(without_times(json.loads(file.read_text())), sort_keys=True)
        elif file.is_file() and file.name != "g2is.duckdb" and file.parent.name != MAPPED:
            found[name] = file_sha256(file)
    return found


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in ("erased_at", "pruned_at")}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def test_the_row_leaves_every_file_and_all_else_keeps_its_bytes(lake: Lake) -> None:
    kept = {v.folder: features_of(lake, v) for v in every_version(lake) if v.manifest.parts}
    assert len(residue(lake)) == 9
    report = run(lake)
    assert residue(lake) == []
    assert report.left_alone == []
    for folder, before in kept.items():
        after = features_of(lake, next(v for v in every_version(lake) if v.folder == folder))
        assert list(after) == list(before)
        for row, values in before.items():
            assert after[row].any() == (row != GONE)
            assert row == GONE or (after[row] == values).all()


def test_every_version_is_whole_afterwards_but_the_one_whose_payload_was_the_vector(lake: Lake) -> None:
    broken = [version for version in every_version(lake) if not whole(lake, version)]
    assert broken == []
    report = run(lake)
    pruned = [version for version in every_version(lake) if not whole(lake, version)]
    assert [v.folder for v in pruned] == report.pruned
    assert [(v.manifest.asset, v.manifest.partition) for v in pruned] == [("knowledge/components", "shop")]
    assert plan_pruning(pruned[0].folder, pruned[0].manifest) is None


def test_the_record_of_an_erasure_names_rows_and_files(lake: Lake) -> None:
    old = next(v for v in versions_of(lake, "instructions/pool")[0] if v.manifest.n_rows["pool"] == len(ROWS))
    run(lake)
    (tombstone,) = read_tombstones(old.folder)
    assert (tombstone.rows, tombstone.reason, set(tombstone.files)) == ([GONE], WHY, {"pool.parquet"})
    change = tombstone.files["pool.parquet"]
    assert change.old == old.manifest.files["pool.parquet"]
    assert change.new.sha256 == file_sha256(old.folder / "pool.parquet")
    row = old.read(POOL).row(by_predicate=pl.col("row_id") == GONE, named=True)
    blank = {"ids": [], "messages": [], "tools": None, "prompt": "", "response": "", "answer": None, "choices": None}
    assert row == record(GONE) | blank
    current = lake.current("instructions/pool")
    withheld = current.read(WITHHELD).to_dicts()
    assert [(r["row_id"], r["ids"], r["sources"], r["detail"]) for r in withheld] == [(GONE, [], ["s"], WHY)]


def test_a_page_that_quotes_the_row_goes_as_a_whole_and_others_stay(lake: Lake) -> None:
    old, current = sorted(versions_of(lake, "audit/report")[0], key=lambda version: version.manifest.code_version)
    page = (current.folder / PAGE).read_bytes()
    run(lake)
    assert (old.folder / PAGE).read_bytes() == ERASED_PAGE
    assert (current.folder / PAGE).read_bytes() == page
    (tombstone,) = read_tombstones(old.folder)
    assert (tombstone.rows, set(tombstone.files)) == ([GONE], {PAGE})
    assert set(old.read(QUOTED)["row_id"]) == set(ROWS)
    assert read_tombstones(current.folder) == []


def test_a_page_whose_list_of_rows_is_lost_is_reported_and_left(lake: Lake) -> None:
    old = next(v for v in versions_of(lake, "audit/report")[0] if v.manifest.code_version == "1")
    (old.folder / "quoted.parquet").unlink()
    report = run(lake)
    assert any("quoted.parquet is missing" in said and "it may hold the row" in said for said in report.left_alone)


def test_a_shard_is_rewritten_as_any_other_version_and_keeps_its_name(lake: Lake) -> None:
    index = lake.current("gradients/pool").read(INDEX)
    shard = lake.parts_of(lake.current("gradients/pool"))[index.filter(pl.col("row_id") == "row03")["shard"][0]]
    run(lake)
    assert lake.current("gradients/pool").read(INDEX).equals(index)
    (tombstone,) = read_tombstones(shard.folder)
    assert (tombstone.rows, set(tombstone.files)) == ([GONE], {"vectors.parquet"})
    assert tombstone.files["vectors.parquet"].new.sha256 == file_sha256(shard.folder / "vectors.parquet")
    place = pl.read_parquet(shard.folder / "vectors.parquet").row(by_predicate=pl.col("row_id") == GONE, named=True)
    assert [place[f"norm_{kind}"] for kind in SETTINGS["kinds"]] == [0.0, 0.0]
    assert place["codes_adam"] == bytes(DIM)


def test_the_store_serves_on_and_computes_nothing_again(lake: Lake) -> None:
    run(lake)
    assert lake.parts_of(lake.current("gradients/pool"))
    rest = [row for row in ROWS if row != GONE]
    made, computed = gradients_of(lake, "3", [*rest, "new"])
    assert computed == ["new"]
    assert made.read(INDEX)["row_id"].to_list() == [*rest, "new"]


def test_a_zero_never_serves_as_a_vector_should_an_erased_row_be_asked_for_again(lake: Lake) -> None:
    run(lake)
    made, computed = gradients_of(lake, "4", ROWS)
    assert computed == [GONE]
    assert all(values.any() for values in features_of(lake, made).values())


def test_two_rows_of_one_shard_may_be_erased_one_after_the_other(tmp_path: Path) -> None:
    lakes = [Lake(tmp_path / name) for name in ("both", "one by one")]
    for lake in lakes:
        pool_of(lake, "1", ROWS)
        gradients_of(lake, "1", ROWS)
        pool_of(lake, "2", ROWS[2:])
        gradients_of(lake, "2", ROWS[2:])
    run(lakes[0], "row00", "row01")
    run(lakes[1], "row00")
    run(lakes[1], "row01")
    shards = [[f.read_bytes() for f in sorted(lake.root.glob("vectors/shard/*/*/vectors.parquet"))] for lake in lakes]
    assert shards[0] == shards[1]
    for lake in lakes:
        assert residue(lake, "row00") == residue(lake, "row01") == []
        assert all(whole(lake, version) for version in every_version(lake))
    old = next(v for v in versions_of(lakes[1], "instructions/pool")[0] if v.manifest.code_version == "1")
    assert [entry.rows for entry in read_tombstones(old.folder)] == [["row00"], ["row01"]]


def test_a_dry_run_changes_nothing_and_foretells_the_real_one(lake: Lake) -> None:
    before = snapshot(lake)
    foretold = run(lake, dry_run=True)
    assert snapshot(lake) == before
    assert run(lake) == foretold
    assert len(foretold.versions) == 6


def test_a_second_erasure_finds_nothing(lake: Lake) -> None:
    run(lake)
    before = snapshot(lake)
    assert run(lake) == Erased()
    assert snapshot(lake) == before


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("row00", r"instructions/pool.*run `g2is refresh --domain other --domain shop`, then erase"),
        (
            "row05",
            r"instructions/pool, gradients/pool, audit/report\[shop\]; run `g2is refresh --domain shop`",
        ),
    ],
)
def test_a_row_that_a_current_version_uses_is_refused_and_nothing_changes(lake: Lake, row: str, named: str) -> None:
    before = snapshot(lake)
    with pytest.raises(SettingsError, match=f"still used by .*{named}"):
        run(lake, GONE, row)
    assert snapshot(lake) == before


def test_what_the_lake_holds_of_a_domain_that_is_gone_does_not_stand_in_the_way(lake: Lake) -> None:
    gradients_of(lake, "1", ROWS[:4], "gradients/target", "shop")
    with pytest.raises(SettingsError, match=r"gradients/target\[shop\]; run `g2is refresh --domain shop`, then erase"):
        run(lake)
    erase(lake, [GONE], WHY, in_use("other"))
    assert residue(lake) == []


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


def test_collection_goes_on_as_before_after_an_erasure(lake: Lake) -> None:
    run(lake)
    current = lake.current("gradients/pool")
    before = features_of(lake, current)
    report = collect_garbage(lake, 1, 0)
    assert report.left_alone == []
    assert {item.kind for item in report.removed} >= {VERSIONS}
    after = features_of(lake, current)
    assert list(after) == list(before)
    assert all((after[row] == before[row]).all() for row in before)
    assert run(lake) == Erased()


def test_pruning_a_pool_keeps_the_ids_of_rows_that_were_in_it_and_of_no_others(lake: Lake) -> None:
    current = lake.current("instructions/pool")
    pruning = plan_pruning(current.folder, current.manifest)
    assert pruning is not None
    pruning.apply()
    assert GONE not in pl.read_parquet(current.folder / ROW_IDS)["row_id"]
    assert len(pl.read_parquet(current.folder / ROW_IDS)) == len(ROWS) - 1


NAMES = {"row_id", "domain", "split", "model", "shard", "sha256", "kind", "file", "id", "source", "sources", "licenses"}
NAMES |= {"reason", "detail", "ended", "relation", "other_row_id", "duplicate_group", "lost", "chosen"}
NAMES |= {
    "features",
    "predecessor",
    "min_cosine_row",
    "conflict_row",
    "nearest_row",
    "pulled_by",
    "place",
    "folder",
    "study",
    "variant",
    "cell",
    "part",
    "other",
}
OF_MANIFESTS = {"asset", "partition", "version", "manifest_sha256", "data_version", "input_digest", "code_version"}
OF_MANIFESTS |= {"git_revision", "made_by", "run_id", "created_at", "seeds", "settings", "libraries", "n_rows"}
OF_MANIFESTS |= {"input", "input_data_version", "input_manifest_sha256", "state", "made_from", "now"}


def test_every_column_of_every_table_that_can_hold_text_is_erased_or_holds_names_only() -> None:
    for contract in TABLES.values():
        can_hold = {n for n, t in contract.schema.items() if isinstance(t, pl.String | pl.List)}
        names = NAMES | (OF_MANIFESTS if contract.name.startswith("audit") else set())
        texts = contract.texts.keys() - {name for name in contract.columns if name.startswith(("codes_", "norm_"))}
        assert can_hold - names == texts, contract.name
        assert (contract is VECTORS) == (texts != contract.texts.keys())


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


def test_the_licences_of_a_sample_are_known_also_when_its_pool_was_pruned(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    drawn_from = pool_of(lake, "1", ROWS)

    def write(draft: Draft) -> None:
        rows = [{n: record(ROWS[0])[n] for n in SAMPLE.columns}]
        draft.write(SAMPLE, pl.DataFrame(rows, schema=SAMPLE.schema))

    sample, _ = lake.make(
        Recipe("warmup/sample", None, "1", {}, {"instructions/pool": drawn_from.as_input}), "run", write
    )
    pool_of(lake, "2", ROWS[1:])
    pruning = plan_pruning(drawn_from.folder, drawn_from.manifest)
    assert pruning
    pruning.apply()
    assert licenses_of(lake, sample)[ROWS[0]] == ["MIT"]


def test_what_is_left_of_a_sample_has_text() -> None:
    rows = [{n: record(row)[n] for n in SAMPLE.columns} for row in ("a", "b")]
    rows[0] |= {"messages": [], "response": ""}
    table = pl.DataFrame(rows, schema=SAMPLE.schema)
    assert with_text(table)["row_id"].to_list() == ["b"]
    with pytest.raises(StoreError, match=r"every row of the warmup sample was erased; .*redraw"):
        with_text(table.head(1))


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


def shard_with(lake: Lake, row: str) -> Path:
    return next(s.folder for s in store_of(lake).shards()[0] if row in str(s.manifest.settings["batches"]))


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


def test_rows_of_which_every_one_was_erased_are_computed_if_the_same_set_is_wanted_again(tmp_path: Path) -> None:
    store = store_of(Lake(tmp_path / "lake"))
    fill(store, ROWS)
    for _ in range(2):
        erase(store.lake, ROWS[:4], WHY, [])
        filled, computed = fill(store, ROWS)
        assert computed == ROWS[:4]
        assert filled.index["row_id"].to_list() == ROWS


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
