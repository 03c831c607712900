"""A table that is described once is seen, exposed, erased, verified and pruned, with no line of code of its own."""

from pathlib import Path

import polars as pl
import pytest

from g2is_assets.contracts.contract import Column, Contract, row_id
from g2is_assets.contracts.gradients import VECTORS
from g2is_assets.contracts.tables import TABLES, main_table
from g2is_assets.orchestration.assets import table_metadata
from g2is_assets.orchestration.auditing import FIRST_ROWS, assets_showing
from g2is_assets.reports.drawn import draw
from g2is_assets.reports.shown import show
from g2is_assets.store.erasure import erase
from g2is_assets.store.lake import Lake
from g2is_assets.store.pruning import ROW_IDS, plan_pruning
from g2is_assets.store.query import list_views
from g2is_assets.store.version import Draft, Recipe, Version
from g2is_assets.store.views import rebuild_views
from g2is_assets.trail.chain import follow
from g2is_assets.trail.exposure import TRAINED, Exposures
from g2is_assets.trail.verify import verify

ASSET = "letters/inbox"
LETTERS = Contract(
    (ASSET,),
    "inbox",
    "Letters that a row was made of",
    {
        "row_id": row_id("The row made of it", of="instructions/pool", unique=True),
        "letter": Column(pl.String, "What it says", text=True),
        "reply": Column(pl.String, "What was answered, where somebody did", nullable=True, text=True),
        "n_pages": Column(pl.Int64, "Its pages", minimum=1),
        "shelf": Column(pl.String, "Where it lies", kept=True),
    },
    sorted_by=("row_id",),
    main=True,
    exposure=TRAINED,
)
ROWS = pl.DataFrame(
    {
        "row_id": ["gone", "stays"],
        "letter": ["a secret", "hello"],
        "reply": ["another secret", None],
        "n_pages": [1, 2],
        "shelf": ["north", "south"],
    }
)


@pytest.fixture(autouse=True)
def described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, (ASSET, LETTERS.table), LETTERS)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def version(lake: Lake) -> Version:
    return lake.make(Recipe(ASSET, None, "1", {}), "run", lambda draft: draft.write(LETTERS, ROWS))[0]


def test_it_is_a_view_whose_columns_are_explained(lake: Lake, version: Version) -> None:
    rebuild_views(lake)
    (view,) = list_views(lake)
    assert (view.name, view.meaning) == ("letters_inbox", LETTERS.meaning)
    assert [(name, meaning) for name, _, meaning in view.columns] == [
        (name, column.meaning) for name, column in LETTERS.columns.items()
    ]


def test_the_ui_is_told_its_columns_where_its_rows_come_from_and_that_it_shows_text(version: Version) -> None:
    assert main_table(ASSET) is LETTERS
    metadata = table_metadata(ASSET)
    assert [column.name for column in metadata["dagster/column_schema"].columns] == list(LETTERS.columns)
    (dependency,) = metadata["dagster/column_lineage"].deps_by_column["row_id"]
    assert dependency.asset_key.to_user_string() == "instructions/pool"


def test_its_meaning_stands_beside_its_file(lake: Lake, version: Version) -> None:
    (table,) = show(lake, version, draw, n_rows=0)["tables"]
    assert table["meaning"] == LETTERS.meaning


def test_history_is_searched_for_its_text(instance: object) -> None:
    import dagster as dg

    assert isinstance(instance, dg.DagsterInstance)
    metadata = {FIRST_ROWS: dg.MetadataValue.md("| gone | a secret |")}
    instance.report_runless_asset_event(dg.AssetMaterialization(ASSET.split("/"), metadata=metadata))
    assert assets_showing(instance, ["gone"]) == {"gone": [ASSET]}


def test_an_adapter_behind_which_it_lies_was_exposed_to_its_rows(lake: Lake, version: Version) -> None:
    def train(draft: Draft) -> None:
        (draft.folder / "weights.bin").write_bytes(b"w")

    inputs = {ASSET: version.as_input}
    adapter, _ = lake.make(Recipe("finetune/adapter", "shop", "1", {}, inputs), "run", train)
    for _ in range(2):  # also when nothing is left of the letters but their ids
        (found,) = Exposures(lake).of(["gone"])
        assert (found.kind, found.row_id, found.version) == (TRAINED, "gone", adapter.folder)
        if pruning := plan_pruning(version.folder, version.manifest):
            pruning.apply()


def test_an_erasure_empties_its_text_and_the_verification_accepts_it(lake: Lake, version: Version) -> None:
    report = erase(lake, ["gone"], "asked", [])
    assert report.versions == [version.folder]
    assert report.left_alone == []
    assert version.read(LETTERS).rows() == [("gone", "", None, 1, "north"), ("stays", "hello", None, 2, "south")]
    assert [finding.state for finding in verify(lake, follow(lake, [version]), lambda _: {})] == ["erased"]


def test_a_pruned_version_keeps_its_ids_and_what_else_is_to_be_kept(version: Version) -> None:
    pruning = plan_pruning(version.folder, version.manifest)
    assert pruning is not None
    pruning.apply()
    assert not (version.folder / LETTERS.file).exists()
    assert pl.read_parquet(version.folder / ROW_IDS).equals(ROWS.select("row_id", "shelf"))


def test_a_table_that_is_described_nowhere_is_neither_erased_nor_pruned_but_named(
    lake: Lake, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(TABLES, (ASSET, LETTERS.table))
    report = erase(lake, ["gone"], "asked", [])
    assert report.versions == []
    assert ["has no table 'inbox'" in said and "it may hold the row" in said for said in report.left_alone] == [True]


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
    for contract in (each for each in TABLES.values() if each is not LETTERS):
        can_hold = {n for n, t in contract.schema.items() if isinstance(t, pl.String | pl.List)}
        names = NAMES | (OF_MANIFESTS if contract.name.startswith("audit") else set())
        texts = contract.texts.keys() - {name for name in contract.columns if name.startswith(("codes_", "norm_"))}
        assert can_hold - names == texts, contract.name
        assert (contract is VECTORS) == (texts != contract.texts.keys())
