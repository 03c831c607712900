"""Tables of the stage `audit`: whether what stands in the lake is what its inputs and settings would give today."""

from typing import Final, Literal

import polars as pl

from g2is_assets.contracts.contract import Column, Contract

State = Literal["missing", "stale", "current", "unknown"]

STALENESS: Final = Contract(
    "audit staleness",
    "Every asset of the project, shared ones first, then domain by domain, each after what it is made from",
    {
        "asset": Column(pl.String, "The asset's key"),
        "domain": Column(pl.String, "The target domain; none for an asset that all share", nullable=True),
        "state": Column(
            pl.String, "`missing`, `stale`, `current`, or `unknown` where it cannot be told without reading or mending"
        ),
        "stale": Column(pl.Boolean, "Whether a refresh has something to make here: it is missing or stale"),
        "direct": Column(
            pl.Boolean,
            "Whether its own settings, code or inputs as they stand differ, not only something upstream of it",
        ),
        "reason": Column(pl.String, "Because of what, in words; none if it is current", nullable=True),
        "input": Column(pl.String, "The first input that is the cause: an asset, a file or the model", nullable=True),
        "made_from": Column(pl.String, "Data version of that input when this was made", nullable=True),
        "now": Column(
            pl.String, "Its data version now; none where it is gone, or has yet to be made itself", nullable=True
        ),
    },
)
