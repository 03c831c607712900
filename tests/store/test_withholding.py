"""The licence policy by hand: every licence of a row counts, and rows without one are decided on explicitly."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from g2is_assets.contracts.warmup import SAMPLE
from g2is_assets.settings.config import LicensesSettings
from g2is_assets.store.lake import Lake
from g2is_assets.store.pruning import plan_pruning
from g2is_assets.store.version import Draft, Recipe
from g2is_assets.store.withholding import Withholding, licenses_of
from support.erasable import ROWS, pool_of, record


def policy(**values: Any) -> LicensesSettings:
    return LicensesSettings.model_validate(values)


def row(row_id: str, *licenses: str) -> dict[str, Any]:
    return {"row_id": row_id, "ids": [f"id-{row_id}"], "sources": ["s"], "licenses": list(licenses), "prompt": "text"}


@pytest.mark.parametrize(
    ("licenses", "values", "refused"),
    [
        (["MIT"], {}, []),
        (["MIT"], {"allow": ["mit"], "unknown": "deny"}, []),
        ([" mIt "], {"allow": ["  MIT"], "unknown": "deny"}, []),
        (["GPL-3.0"], {"allow": ["mit"], "unknown": "deny"}, ["GPL-3.0"]),
        (["GPL-3.0"], {"deny": ["gpl-3.0"], "unknown": "allow"}, ["GPL-3.0"]),
        (["MIT"], {"deny": ["gpl-3.0"], "unknown": "allow"}, []),
        (["CC-BY-NC-4.0", "MIT"], {"deny": ["cc-by-nc-4.0"], "unknown": "allow"}, ["CC-BY-NC-4.0"]),
        (["MIT", "odd"], {"allow": ["mit"], "unknown": "allow"}, ["odd"]),
        (["unknown"], {"allow": ["mit"], "unknown": "allow"}, []),
        (["unknown"], {"deny": ["mit"], "unknown": "deny"}, ["unknown"]),
        (["Unknown "], {"unknown": "deny"}, ["Unknown "]),
        (["MIT", "unknown"], {"allow": ["mit"], "unknown": "deny"}, ["unknown"]),
    ],
)
def test_a_row_is_allowed_only_if_every_licence_of_it_is(
    licenses: list[str], values: dict[str, Any], refused: list[str]
) -> None:
    assert policy(**values).denied(licenses) == refused


def test_a_policy_that_can_deny_nothing_is_not_in_force() -> None:
    assert not policy().in_force
    assert not policy(unknown="allow").in_force
    assert policy(unknown="deny").in_force
    assert policy(deny=["x"], unknown="allow").in_force


def test_rows_withheld_are_listed_with_their_reason_and_without_their_text() -> None:
    rows = [row("a", "MIT"), row("b", "GPL", "MIT"), row("c", "MIT"), row("d", "GPL")]
    withholding = Withholding(policy(deny=["gpl"], unknown="allow"), {"c": "asked", "d": "asked too"})
    used, table = withholding.part(pl.DataFrame(rows))
    withheld = table.to_dicts()
    assert used.to_dicts() == [rows[0]]
    assert [(r["row_id"], r["reason"], r["detail"]) for r in withheld] == [
        ("b", "license", "GPL"),
        ("c", "withdrawn", "asked"),
        ("d", "withdrawn", "asked too"),
    ]
    assert withheld[0]["licenses"] == ["GPL", "MIT"]
    assert all(record.keys() == {"row_id", "ids", "sources", "licenses", "reason", "detail"} for record in withheld)


def test_accents_are_compared_however_they_are_encoded() -> None:
    whole, parts = "Licence \u00c9talab", "Licence E\u0301talab"
    for said, in_row in ((whole, parts), (parts, whole)):
        assert policy(deny=[said], unknown="allow").denied([in_row]) == [in_row]
        assert policy(allow=[said], unknown="deny").denied([in_row]) == []


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
