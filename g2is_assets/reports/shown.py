"""What people see of a version in the UI: its tables, its first rows and its pictures, all of it from stored tables.

One function per asset that has pictures; the rest is the same for all. Only the columns that are drawn are read, so a
million rows cost seconds; digests are left to the verification.
"""

from collections.abc import Callable
from typing import Final

import polars as pl

from g2is_assets.contracts.views import CONTRACTS, main_table, view_of
from g2is_assets.errors import StoreError
from g2is_assets.reports import markdown
from g2is_assets.reports.pictures import finetune, gradients, graph, instructions, knowledge, selection, study, warmup
from g2is_assets.reports.why import first_reasons
from g2is_assets.store.gradient_store import STORE
from g2is_assets.store.lake import Lake, Version, read_parquet

MAX_SHARDS: Final = 100
"""Shards of which norms are read for a picture: of more, as many, evenly spaced."""
ANSWER_SHOWN: Final = 240
"""Characters of an answer, and of what it is compared with, that are shown."""
REASON_SHOWN: Final = 900


def show(lake: Lake, version: Version, n_rows: int = 5) -> dict[str, str]:
    """Markdown by name: `tables`, `first_rows`, and a picture under its own name.

    Args:
        lake: The lake, for what the version was made from.
        version: Any version that has not been pruned.
        n_rows: Rows to show of text and numbers; 0 for none.

    Raises:
        StoreError: A file of the version is missing or damaged.
    """
    seen, asset = _Seen(lake, version), version.manifest.asset
    shown = {"tables": _tables(version)}
    try:
        if n_rows:
            shown["first_rows"] = PREVIEWS.get(asset, _first_rows)(seen, n_rows)
        pictures = draw(lake, version)
    except MissingError as error:
        return shown | {"pictures": markdown.escaped(f"not drawn: {error}", limit=300)}
    return shown | {name: markdown.picture(png, name) for name, png in pictures.items()}


def draw(lake: Lake, version: Version) -> dict[str, bytes]:
    """A version's pictures as PNG, by name.

    Raises:
        MissingError: What it was made from is no longer there.
        StoreError: A file of the version is missing or damaged.
    """
    asset = version.manifest.asset
    return PICTURES[asset](_Seen(lake, version)) if asset in PICTURES else {}


class MissingError(StoreError):
    """What a version was made from is no longer there, as happens to old ones."""


class _Seen:
    """A version, and tables of what it was made from."""

    def __init__(self, lake: Lake, version: Version) -> None:
        self.lake, self.version, self.metrics = lake, version, version.manifest.metrics

    def own(self, table: str, *columns: str, n_rows: int | None = None) -> pl.DataFrame:
        """A table of the version: these columns, or all."""
        return read_parquet(self.version.folder / f"{table}.parquet", list(columns) or None, n_rows)

    def some(self, table: str, row_ids: pl.Series, *columns: str) -> pl.DataFrame:
        """Some rows of a table: these columns."""
        file = pl.scan_parquet(self.version.folder / f"{table}.parquet", glob=False)
        return file.filter(pl.col("row_id").is_in(row_ids.implode())).select(columns).collect()

    def behind(self, asset: str, *, domain: bool = False) -> "_Seen":
        """An asset that the version was made from."""
        partition = self.version.manifest.partition if domain else None
        try:
            return _Seen(self.lake, self.lake.input_of(self.version, asset, partition))
        except StoreError as error:
            raise MissingError(str(error)) from error


def _tables(version: Version) -> str:
    """Every file of a version: how many rows, which view, and what it holds."""
    manifest, rows = version.manifest, []
    for file, record in sorted(manifest.files.items()):
        table = file.removesuffix(".parquet")
        view = view_of(manifest.asset, table) if table in manifest.n_rows else None
        meaning = CONTRACTS[view].meaning if view in CONTRACTS else None
        rows.append((file, manifest.n_rows.get(table), f"{record.n_bytes / 1000:,.1f}", view, meaning))
    header = markdown.table(("file", "rows", "kB", "view in g2is.duckdb"), [row[:4] for row in rows])
    lines = [
        f"* {markdown.escaped(str(view))}: {markdown.escaped(meaning, 200)}" for *_, view, meaning in rows if meaning
    ]
    return f"{header}\n\n" + "\n".join(lines)


def _first_rows(seen: _Seen, n_rows: int) -> str:
    return markdown.first_rows(seen.own(main_table(seen.version.manifest.asset), n_rows=n_rows))


def _first_instructions(seen: _Seen, n_rows: int) -> str:
    columns = ("row_id", "sources", "licenses", "prompt", "response", "n_response_tokens")
    return markdown.first_rows(seen.own(main_table(seen.version.manifest.asset), *columns, n_rows=n_rows))


def _first_sampled(seen: _Seen, n_rows: int) -> str:
    rows = seen.own("sample", n_rows=n_rows).with_columns(
        prompt=pl.col("messages").list.eval(pl.element().struct.field("content")).list.join(" ")
    )
    return markdown.first_rows(rows.select("row_id", "prompt", "response"))


def _first_taken(seen: _Seen, n_rows: int) -> str:
    """The first rows of a subset, each with its reason in words."""
    taken = seen.own("subset", "order", "row_id").sort("order").head(n_rows)
    pool = seen.behind("instructions/pool").some("pool", taken["row_id"], "row_id", "sources", "prompt")
    rows = taken.join(pool, on="row_id", how="left", maintain_order="left")
    reasons = first_reasons(seen.lake, seen.version, n_rows)
    cells = rows.select("row_id", "sources", "prompt").rows()
    parts = []
    for place, ((row_id, sources, prompt), reason) in enumerate(zip(cells, reasons, strict=True), start=1):
        row = f"{markdown.cell(row_id)} **{markdown.cell(sources)}**: {markdown.cell(prompt)}"
        parts.append(f"{place}. {row}\n\n   {markdown.escaped(reason, REASON_SHOWN)}")
    return "\n".join(parts)


def _first_answers(seen: _Seen, n_rows: int) -> str:
    answers = seen.own("answers").pivot("model", index="row_id", values="response", sort_columns=True).head(n_rows)
    target = seen.behind("instructions/target", domain=True)
    asked = target.some("target", answers["row_id"], "row_id", "prompt", "response")
    rows = answers.join(asked, on="row_id", how="left", maintain_order="left")
    columns = ("row_id", "prompt", "response", "base", "g2is")
    header = ("row", "prompt", "reference", "base model", "adapter")
    return markdown.table(header, rows.select(columns).rows(), limit=ANSWER_SHOWN)


def _draw_rows(seen: _Seen) -> dict[str, bytes]:
    rows = seen.own(main_table(seen.version.manifest.asset), "sources", "n_response_tokens")
    rejected, withheld = seen.own("rejected", "reason"), seen.own("withheld", "reason")
    return {"rows": instructions.rows_picture(rows, rejected, withheld)}


def _draw_losses(name: str) -> Callable[[_Seen], dict[str, bytes]]:
    return lambda seen: {"losses": warmup.loss_picture({name: seen.own("log")})}


def _draw_vectors(seen: _Seen) -> dict[str, bytes]:
    domain = seen.version.manifest.partition is not None
    origin = "instructions/target" if domain else "instructions/pool"
    index = seen.own("index", "row_id", "shard", "loss")
    names = index["shard"].unique().sort()
    shown = names.gather_every(-(-len(names) // MAX_SHARDS))
    store = seen.lake.place(seen.version.manifest.asset) / STORE / str(seen.version.manifest.settings["store"])
    norm = f"norm_{seen.version.manifest.settings['kinds'][0]}"
    norms = pl.concat(read_parquet(store / f"{name}.parquet", ["row_id", norm]) for name in shown)
    sources = seen.behind(origin, domain=domain).own(main_table(origin), "row_id", "sources").unique("row_id")
    rows = index.join(norms, on="row_id").join(sources, on="row_id", how="left")
    rows = rows.select(
        pl.col("sources").list.first().fill_null("?").alias("source"), "loss", pl.col(norm).alias("norm")
    )
    said = f"; rows of {len(shown)} of {len(names)} shards" if len(shown) < len(names) else ""
    return {"vectors": gradients.vectors_picture(rows, said), "time": gradients.time_picture(seen.metrics)}


def _draw_graph(seen: _Seen) -> dict[str, bytes]:
    sources = seen.behind("instructions/pool").own("pool", "row_id", "sources")
    places = seen.own("map").join(sources, on="row_id", how="left", maintain_order="left")
    places = places.select("x", "y", pl.col("sources").list.first().fill_null("?").alias("source"))
    return {"cosines": graph.cosine_picture(seen.own("cosines")), "map": graph.map_picture(places)}


def _draw_knowledge(seen: _Seen) -> dict[str, bytes]:
    return {
        "spectrum": knowledge.spectrum_picture(seen.own("spectrum")),
        "loadings": knowledge.loadings_picture(seen.own("loadings")),
    }


def _draw_selection(seen: _Seen) -> dict[str, bytes]:
    subset, pool = seen.own("subset"), seen.behind("instructions/pool").own("pool", "row_id", "sources")
    taken = subset.select("row_id").join(pool, on="row_id", how="inner")
    balanced = seen.version.manifest.settings.get("next_row") == "balance"
    return {
        "walk": selection.walk_picture(seen.behind("graph/neighbors").own("map"), subset),
        "steps": selection.steps_picture(subset, balanced=balanced),
        "sources": selection.mix_picture(taken["sources"], pool["sources"]),
    }


def _draw_evaluation(seen: _Seen) -> dict[str, bytes]:
    trainings = {"random": "finetune/baseline", "g2is": "finetune/adapter"}
    logs = {name: seen.behind(asset, domain=True).own("log") for name, asset in trainings.items()}
    return {"scores": finetune.scores_picture(seen.own("evaluation")), "losses": warmup.loss_picture(logs)}


def _draw_leaderboard(seen: _Seen) -> dict[str, bytes]:
    board = seen.own("leaderboard")
    intervals = study.interval_picture(board)
    return {"grid": study.grid_picture(board)} | ({"intervals": intervals} if intervals else {})


PREVIEWS: Final[dict[str, Callable[[_Seen, int], str]]] = {
    "instructions/pool": _first_instructions,
    "instructions/target": _first_instructions,
    "warmup/sample": _first_sampled,
    "selection/subset": _first_taken,
    "finetune/evaluation": _first_answers,
}
"""Assets whose first rows are not simply those of their main table."""

PICTURES: Final[dict[str, Callable[[_Seen], dict[str, bytes]]]] = {
    "instructions/pool": _draw_rows,
    "instructions/target": _draw_rows,
    "warmup/checkpoint": _draw_losses("warmup"),
    "gradients/pool": _draw_vectors,
    "gradients/target": _draw_vectors,
    "graph/neighbors": _draw_graph,
    "knowledge/components": _draw_knowledge,
    "selection/subset": _draw_selection,
    "finetune/adapter": _draw_losses("g2is"),
    "finetune/baseline": _draw_losses("random"),
    "finetune/evaluation": _draw_evaluation,
    "study/leaderboard": _draw_leaderboard,
}
