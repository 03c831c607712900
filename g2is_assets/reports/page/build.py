"""From tables to the page: every section's content, then the template, with the page's own style, script and policy."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from g2is_assets.contracts.audit import QUOTED
from g2is_assets.reports.page import charts, sections
from g2is_assets.reports.page.material import Material
from g2is_assets.reports.words import result

FOLDER: Final = Path(__file__).parent
_UNSAFE: Final = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
"""Characters of JSON, all of them within strings, that could end a script element or a line of script."""


class Page(NamedTuple):
    """A page, and the table `audit/report quoted` with every row of which it holds text."""

    html: str
    quoted: pl.DataFrame


def build_page(material: Material) -> Page:
    """The page of a domain's adapter; equal tables give an equal page."""
    points = sections.draw_map(material)
    context = {
        **{name: getattr(material, name) for name in ("domain", "title", "model", "checks")},
        "head": sections.head_of(material.lineage),
        "n_taken": len(material.subset),
        "n_pool": len(material.pool),
        "sentence": result(material.metrics),
        "split": material.metrics["split"],
        "n_scored": material.n_scored,
        "losses": charts.losses(material.metrics),
        "right": charts.right_answers(material.metrics),
        "contests": charts.contests(material.scores),
        "tie": charts.TIE,
        "course": charts.course(material.subset),
        "training": charts.training(material),
        "failed": [check for check in material.checks if not check.passed],
        "sources": sections.mix(material, "sources"),
        "licenses": sections.mix(material, "licenses"),
        "lengths": sections.lengths(material),
        "map": points,
        "taken": sections.taken_rows(material),
        "changed": sections.changed(material),
        "validation": sections.rows_with_text(material.validation),
        "answers": sections.answered_rows(material),
        "n_judged": material.answers.filter(pl.col("right").is_not_null())["row_id"].n_unique(),
        "n_test": int((material.target["split"] == "test").sum()),
        "kept_out": sections.kept_out(material),
        "chain": sections.versions_behind(material.lineage, material.links),
        "n_unknown_license": int(material.taken["licenses"].list.contains("unknown").sum()),
    }
    return Page(_render(context, points.data), _quoted(material, points.row_ids))


def _quoted(material: Material, shown: list[str]) -> pl.DataFrame:
    """Rows with text on the page; a row in two places is named once, by the first of them."""
    places = (
        ("taken", material.subset["row_id"]),
        ("validation", material.validation["row_id"]),
        ("answered", material.answers["row_id"]),
        ("before", pl.Series(_shown_of_before(material), dtype=pl.String)),
        ("pool", pl.Series(shown)),
    )
    parts = [pl.DataFrame({"row_id": rows.cast(pl.String), "place": [name] * len(rows)}) for name, rows in places]
    table = pl.concat(parts).unique("row_id", keep="first", maintain_order=True)
    return table.with_columns(pl.lit(material.domain).alias("domain")).select(*QUOTED.columns).sort("row_id")


def _shown_of_before(material: Material) -> list[str]:
    """Rows of the subset before of which the page shows words."""
    gone = [row.row_id for row in material.before.change.changes if not row.came] if material.before else []
    known = set(material.pool["row_id"])
    return [row_id for row_id in gone[: sections.CHANGES] if row_id in known]


def _render(context: Mapping[str, Any], points: Mapping[str, Any]) -> str:
    """The template filled, with data of the map for the script."""
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    page = environment.get_template("report.html.j2").render(
        **context, style=Markup(style), script=Markup(script), points=as_json(points), policy=_policy(style, script)
    )
    return page.rstrip("\n") + "\n"


def as_json(value: Mapping[str, Any]) -> Markup:
    """JSON for a script element that is data: no text in it can be taken for markup."""
    return Markup(json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_UNSAFE))


def _policy(style: str, script: str) -> str:
    """A content security policy under which this style and this script work, and no more."""
    own = {"style-src": style, "script-src": script}
    digests = {name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for name, text in own.items()}
    allowed = "; ".join(f"{name} 'sha256-{digest}'" for name, digest in digests.items())
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
