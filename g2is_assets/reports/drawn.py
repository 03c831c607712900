"""Pictures of versions from their stored tables, drawn when a version is written and kept beside it."""

from collections.abc import Callable
from typing import Final

import polars as pl

from g2is_assets.contracts import finetune, gradients, instructions, knowledge, selection, study, warmup
from g2is_assets.contracts.graph import COSINES, MAP
from g2is_assets.contracts.tables import main_table
from g2is_assets.reports.pictures import data, graph, training
from g2is_assets.reports.shown import Seen, keep_pictures, kept_pictures
from g2is_assets.store.files import read_parquet
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version

MAX_SHARDS: Final = 100
"""Shards of which norms are read for a picture: of more, as many, evenly spaced."""


def draw(lake: Lake, version: Version) -> dict[str, bytes]:
    """A version's pictures as PNG, by name: those that are kept, else drawn now and kept.

    Raises:
        MissingError: What it was made from is no longer there.
        StoreError: A file of the version is missing or damaged.
    """
    pictures = kept_pictures(version)
    if pictures is None:
        asset = version.manifest.asset
        pictures = PICTURES[asset](Seen(lake, version)) if asset in PICTURES else {}
        keep_pictures(version, pictures)
    return pictures


def _draw_rows(seen: Seen) -> dict[str, bytes]:
    rows = seen.own(main_table(seen.version.manifest.asset), "sources", "n_response_tokens")
    rejected, withheld = seen.own(instructions.REJECTED, "reason"), seen.own(instructions.WITHHELD, "reason")
    return {"rows": data.rows_picture(rows, rejected, withheld)}


def _draw_losses(name: str) -> Callable[[Seen], dict[str, bytes]]:
    return lambda seen: {"losses": training.loss_picture({name: seen.own(warmup.TRAINING_LOG)})}


def _draw_vectors(seen: Seen) -> dict[str, bytes]:
    domain = seen.version.manifest.partition is not None
    origin = "instructions/target" if domain else "instructions/pool"
    index = seen.own(gradients.INDEX, "row_id", "loss")
    settings, made_of = seen.version.manifest.settings, seen.lake.parts_of(seen.version).values()
    parts = [part for part in made_of if part.manifest.partition == settings["store"]]  # the last checkpoint's
    shown = parts[:: -(-len(parts) // MAX_SHARDS)]
    norm = f"norm_{settings['kinds'][0]}"
    norms = pl.concat(read_parquet(part.folder / gradients.VECTORS.file, ["row_id", norm]) for part in shown)
    sources = seen.behind(origin, domain=domain).own(main_table(origin), "row_id", "sources").unique("row_id")
    rows = index.join(norms, on="row_id").join(sources, on="row_id", how="left")
    rows = rows.select(
        pl.col("sources").list.first().fill_null("?").alias("source"), "loss", pl.col(norm).alias("norm")
    )
    said = f"; rows of {len(shown)} of {len(parts)} shards" if len(shown) < len(parts) else ""
    return {"vectors": data.vectors_picture(rows, said), "time": data.time_picture(seen.metrics)}


def _draw_graph(seen: Seen) -> dict[str, bytes]:
    sources = seen.behind("instructions/pool").own(instructions.POOL, "row_id", "sources")
    places = seen.own(MAP).join(sources, on="row_id", how="left", maintain_order="left")
    places = places.select("x", "y", pl.col("sources").list.first().fill_null("?").alias("source"))
    return {"cosines": graph.cosine_picture(seen.own(COSINES)), "map": graph.map_picture(places)}


def _draw_knowledge(seen: Seen) -> dict[str, bytes]:
    spectrum, loadings = seen.own(knowledge.SPECTRUM), seen.own(knowledge.LOADINGS)
    return {"spectrum": data.spectrum_picture(spectrum), "loadings": data.loadings_picture(loadings)}


def _draw_selection(seen: Seen) -> dict[str, bytes]:
    subset, pool = (
        seen.own(selection.SUBSET),
        seen.behind("instructions/pool").own(instructions.POOL, "row_id", "sources"),
    )
    taken = subset.select("row_id").join(pool, on="row_id", how="inner")
    balanced = seen.version.manifest.settings["walk"] == "balanced"
    return {
        "walk": graph.walk_picture(seen.behind("graph/neighbors").own(MAP), subset),
        "steps": graph.steps_picture(subset, balanced=balanced),
        "sources": graph.mix_picture(taken["sources"], pool["sources"]),
    }


def _draw_evaluation(seen: Seen) -> dict[str, bytes]:
    trainings = {"random": "finetune/baseline", "g2is": "finetune/adapter"}
    logs = {name: seen.behind(asset, domain=True).own(warmup.TRAINING_LOG) for name, asset in trainings.items()}
    return {"scores": training.scores_picture(seen.own(finetune.SCORES)), "losses": training.loss_picture(logs)}


def _draw_leaderboard(seen: Seen) -> dict[str, bytes]:
    board = seen.own(study.LEADERBOARD)
    intervals = training.interval_picture(board)
    return {"grid": training.grid_picture(board)} | ({"intervals": intervals} if intervals else {})


PICTURES: Final[dict[str, Callable[[Seen], dict[str, bytes]]]] = {
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
