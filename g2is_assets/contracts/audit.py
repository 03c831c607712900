"""Tables of the stage `audit`: what lies behind a domain's adapter, and whether it is what would come out today.

Beside its table, `audit/report` has a page.
"""

from typing import Final, Literal

import polars as pl

from g2is_assets.contracts.contract import DOMAIN, Column, Contract, count, row_id

LINEAGE: Final = Contract(
    ("audit/lineage",),
    "lineage",
    "Every version behind the domain's adapter and its evaluation, the nearest first, as its manifest describes it",
    {
        "domain": DOMAIN,
        "depth": count("Steps from the adapter, the shortest way"),
        "asset": Column(pl.String, "The asset"),
        "partition": Column(pl.String, "Its domain; null where domains share it", nullable=True),
        "version": Column(pl.String, "Folder of the version"),
        "manifest_sha256": Column(pl.String, "Digest of its manifest, which commits to everything behind it"),
        "data_version": Column(pl.String, "Digest of its content"),
        "input_digest": Column(pl.String, "Digest of code version, settings and inputs"),
        "code_version": Column(pl.String, "Version of the code that made it"),
        "git_revision": Column(pl.String, "Commit of that code"),
        "made_by": Column(pl.String, "System user who ran it"),
        "run_id": Column(pl.String, "Dagster's run"),
        "created_at": Column(pl.String, "When, UTC"),
        "seeds": Column(pl.String, "Its seeds, JSON"),
        "settings": Column(pl.String, "All its settings, JSON"),
        "libraries": Column(pl.String, "Versions of Python and of the libraries that determine results, JSON"),
        "n_rows": Column(pl.String, "Rows of its tables, JSON"),
    },
    sorted_by=("depth", "asset"),
    main=True,
    pruned="whole",
)

LINKS: Final = Contract(
    ("audit/lineage",),
    "links",
    "What each of these versions was made from: other versions, files and models",
    {
        "domain": DOMAIN,
        "asset": Column(pl.String, "The asset"),
        "manifest_sha256": Column(pl.String, "Digest of its manifest"),
        "input": Column(pl.String, "Asset, `file:` with a path relative to the settings file, or a model's part"),
        "input_data_version": Column(pl.String, "Digest of that input's content"),
        "input_manifest_sha256": Column(pl.String, "Digest of its manifest, where it is an asset", nullable=True),
    },
    sorted_by=("asset", "manifest_sha256", "input"),
    pruned="whole",
)

ROWS: Final = Contract(
    ("audit/lineage",),
    "rows",
    "The pool rows that the domain's adapter was trained on, with where they come from; it stays when versions go",
    {
        "domain": DOMAIN,
        "order": count("Place in the subset", unique=True),
        "row_id": row_id("The row", unique=True),
        "sources": Column(pl.List(pl.String), "Every source that holds this row"),
        "licenses": Column(pl.List(pl.String), "Every licence under which it was found"),
    },
    sorted_by=("order",),
    pruned="whole",
)

QUOTED: Final = Contract(
    ("audit/report",),
    "quoted",
    "Rows of which the report holds text, so that their erasure reaches it",
    {
        "domain": DOMAIN,
        "row_id": row_id("The row", unique=True),
        "place": Column(
            pl.String,
            "Where: `taken`, `validation`, `answered`, `before` (taken then) or `pool` (a point of the map)",
        ),
    },
    sorted_by=("row_id",),
    main=True,
    pruned="nothing",
)

State = Literal["missing", "stale", "current", "unknown"]

STALENESS: Final = Contract(
    ("audit/staleness",),
    "staleness",
    "Every asset but those of studies, shared ones first, then domain by domain, each after what it is made from",
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
    main=True,
)

PAGE: Final = "report.html"
PAGE_ADDRESS: Final = "/g2is/report"
"""Where `g2is ui` serves the pages: below it come domain and version."""

HTML_HEAD: Final = '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
ERASED_PAGE: Final = (
    f"{HTML_HEAD}<title>Report removed</title>\n<p>This report quoted rows that have been erased on request since, so "
    "it was removed. When and which is recorded in erased.json beside it. A refresh of the domain makes the report of "
    "today.</p>\n</html>\n"
).encode()
"""What stands in a page's place once it quoted a row that was erased: the same bytes always."""
