"""From tables to the page: every section's content, then the template."""

import base64
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from g2is_assets.contracts.audit import QUOTED
from g2is_assets.reports.page.chain import head_of, versions_behind
from g2is_assets.reports.page.composition import kept_out, lengths, mix
from g2is_assets.reports.page.map import draw_map
from g2is_assets.reports.page.material import Material
from g2is_assets.reports.page.render import render
from g2is_assets.reports.page.rows import answered_rows, taken_rows, validation_rows
from g2is_assets.reports.verdict import OTHERS, compared, verdict_with_intervals

MODELS: Final = {"base": "Base model", "random": "Adapter of random rows", "g2is": "This adapter (G2IS)"}


@dataclass(frozen=True)
class Page:
    """A page and what it quotes.

    Attributes:
        html: The page.
        quoted: Contract `audit/report quoted`: every row of which it holds text.
    """

    html: str
    quoted: pl.DataFrame


def build_page(material: Material) -> Page:
    """The page of a domain's adapter; equal tables give an equal page."""
    points = draw_map(material)
    context = {
        "domain": material.domain,
        "title": material.title,
        "model": material.model,
        "head": head_of(material.lineage),
        "n_taken": len(material.subset),
        "n_pool": len(material.pool),
        "verdict": _verdict(material),
        "checks": material.checks,
        "sources": mix(material, "sources"),
        "licenses": mix(material, "licenses"),
        "lengths": lengths(material),
        "map": points,
        "taken": taken_rows(material),
        "pictures": [(p.stage, p.caption, base64.b64encode(p.png).decode()) for p in material.pictures],
        "validation": validation_rows(material),
        "answers": answered_rows(material),
        "n_test": int((material.target["split"] == "test").sum()),
        "kept_out": kept_out(material),
        "chain": versions_behind(material.lineage, material.links),
        "n_unknown_license": _n_unknown(material),
    }
    return Page(render(context, points.data), _quoted(material, points.row_ids))


def _verdict(material: Material) -> dict[str, Any]:
    """The sentence, and the numbers behind it."""
    metrics = material.evaluation
    differences = {}
    for other in OTHERS:
        mean, low, high = (float(metrics[f"minus_{other}{end}"]) for end in ("", "_low", "_high"))
        differences[other] = {"mean": mean, "low": low, "high": high, "word": compared(low, high)}
    n_taken = len(material.subset)
    models = [
        {
            "name": name,
            "rows": 0 if key == "base" else n_taken,
            "nll": metrics[f"nll_{key}"],
            "than": differences.get(key),
        }
        for key, name in MODELS.items()
    ]
    return {
        "sentence": verdict_with_intervals(metrics, material.n_scored),
        "models": models,
        "split": metrics["split"],
        "n_scored": material.n_scored,
    }


def _n_unknown(material: Material) -> int:
    taken = material.pool.filter(pl.col("row_id").is_in(material.subset["row_id"].implode()))
    return taken.filter(pl.col("licenses").list.contains("unknown")).height


def _quoted(material: Material, shown: list[str]) -> pl.DataFrame:
    """Rows with text on the page; a row in two places is named once, by the first of them."""
    validation = material.target.filter(pl.col("split") == "validation")["row_id"]
    places = (
        ("taken", material.subset["row_id"]),
        ("validation", validation),
        ("answered", material.answers["row_id"]),
        ("pool", pl.Series(shown)),
    )
    parts = [pl.DataFrame({"row_id": rows.cast(pl.String), "place": [name] * len(rows)}) for name, rows in places]
    table = pl.concat(parts).unique("row_id", keep="first", maintain_order=True)
    return table.with_columns(pl.lit(material.domain).alias("domain")).select(*QUOTED.columns).sort("row_id")
