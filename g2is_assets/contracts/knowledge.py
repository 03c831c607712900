"""Tables of the stage `knowledge`: a domain's core directions and the spectrum that they were cut from."""

from typing import Final

import polars as pl

from g2is_assets.contracts.contract import DOMAIN, Column, Contract, count, row_id, share, vector

COMPONENTS: Final = Contract(
    ("knowledge/components",),
    "components",
    "The domain's nodes in the mixed graph: principal directions, the strongest first; or rows, or their mean",
    {
        "domain": DOMAIN,
        "component": count("0 is the strongest", unique=True),
        "weight": share("Share of the budget; they sum to 1"),
        "variance_share": share("Share of all variance; of principal directions only", nullable=True),
        "flipped": Column(pl.Boolean, "Whether its sign was turned towards the mean validation gradient"),
        "direction": Column(vector(pl.Float32), "Unit vector in the sketched gradient space"),
    },
    sorted_by=("component",),
    main=True,
)

SPECTRUM: Final = Contract(
    ("knowledge/components",),
    "spectrum",
    "Variance share of every direction, kept or not",
    {
        "domain": DOMAIN,
        "component": count("0 is the strongest", unique=True),
        "variance_share": share("Share of all variance"),
        "kept": Column(pl.Boolean, "Whether it is part of the core knowledge"),
    },
    sorted_by=("component",),
)

LOADINGS: Final = Contract(
    ("knowledge/components",),
    "loadings",
    "How much every validation row has of every kept direction",
    {
        "domain": DOMAIN,
        "row_id": row_id("The row in instructions/target", of="instructions/target"),
        "component": count("0 is the strongest"),
        "cosine": Column(pl.Float64, "Cosine of the row's feature to the direction", minimum=-1.00001, maximum=1.00001),
    },
    sorted_by=("row_id", "component"),
)
