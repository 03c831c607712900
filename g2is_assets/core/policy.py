"""Which rows may be used: none whose withdrawal was asked for, and none with a licence that the project denies.

Records in, records out. What becomes of a row that may not be used is decided elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from g2is_assets.settings.config import LicensesSettings
from g2is_assets.settings.parsing import license_name

UNKNOWN: Final = "unknown"
"""Licence of a row for which no source says one."""

WITHDRAWN: Final = "withdrawn"
LICENSE: Final = "license"
REASONS: Final = (WITHDRAWN, LICENSE)


def in_force(policy: LicensesSettings) -> bool:
    """Whether a policy can deny a row at all."""
    return bool(policy.allow or policy.deny) or policy.unknown == "deny"


def denied(licenses: Iterable[str], policy: LicensesSettings) -> list[str]:
    """Those of a row's licences that are denied; the row may be used only if there are none.

    Names are compared as `license_name` gives them.
    """
    return [name for name in licenses if not _allowed(license_name(name), policy)]


def withhold(
    rows: Sequence[dict[str, Any]], policy: LicensesSettings, withdrawn: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Part the rows that may be used from those that may not, in their order.

    Args:
        rows: Records with the columns of the contract `WITHHELD`, but for reason and detail.
        policy: Of licences.
        withdrawn: Reason of every withdrawal by row id.

    Returns:
        The rows that may be used, and records of the contract `WITHHELD`. A row that is both withdrawn and
        denied counts as withdrawn.
    """
    used, withheld = [], []
    for row in rows:
        refused = denied(row["licenses"], policy)
        if row["row_id"] in withdrawn:
            why = {"reason": WITHDRAWN, "detail": withdrawn[row["row_id"]]}
        elif refused:
            why = {"reason": LICENSE, "detail": ", ".join(refused)}
        else:
            used.append(row)
            continue
        withheld.append({name: row[name] for name in ("row_id", "ids", "sources", "licenses")} | why)
    return used, withheld


def _allowed(name: str, policy: LicensesSettings) -> bool:
    if name in ("", UNKNOWN):
        return policy.unknown != "deny"
    return name not in policy.deny and (not policy.allow or name in policy.allow)
