"""The licence policy by hand: every licence of a row counts, and rows without one are decided on explicitly."""

from typing import Any

import pytest

from g2is_assets.core.policy import denied, in_force, withhold
from g2is_assets.settings.config import LicensesSettings


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
    assert denied(licenses, policy(**values)) == refused


def test_a_policy_that_can_deny_nothing_is_not_in_force() -> None:
    assert not in_force(policy())
    assert not in_force(policy(unknown="allow"))
    assert in_force(policy(unknown="deny"))
    assert in_force(policy(deny=["x"], unknown="allow"))


def test_rows_withheld_are_listed_with_their_reason_and_without_their_text() -> None:
    rows = [row("a", "MIT"), row("b", "GPL", "MIT"), row("c", "MIT"), row("d", "GPL")]
    used, withheld = withhold(rows, policy(deny=["gpl"], unknown="allow"), {"c": "asked", "d": "asked too"})
    assert used == [rows[0]]
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
        assert denied([in_row], policy(deny=[said], unknown="allow")) == [in_row]
        assert denied([in_row], policy(allow=[said], unknown="deny")) == []
