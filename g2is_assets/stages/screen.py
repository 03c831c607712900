"""The prescreen of `gradients/pool`: a cheap score of every row for every domain, and which rows are kept for some.

Scores are stored. Those of the version before serve again for rows and domains that are as they were, so that a refresh
scores new rows, and rows for new domains. Domains' rows are read from their files, as `instructions/target` reads them:
what the pool's gradients are made from is known before any domain is refreshed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts.gradients import EARLIER, SCREEN
from g2is_assets.core.rows import cosines_to, sum_of
from g2is_assets.core.screen import Bm25
from g2is_assets.errors import REDRAW, SettingsError, SourceError, StoreError, command
from g2is_assets.hashing import json_sha256
from g2is_assets.progress import say
from g2is_assets.stages.features import (
    EMBEDDING,
    LAST,
    Embedder,
    Stored,
    all_rows,
    embedding_vectors,
    fill_store,
    settings_of_vectors,
)
from g2is_assets.stages.instructions import read_target, rows_from, target_files
from g2is_assets.stages.stage import MadeFrom, Task
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.vectors import Filled, Vectors, address_of
from g2is_assets.store.version import Draft

if TYPE_CHECKING:
    from g2is_assets.training.text import Example

SCORES_VERSION: Final = "1"
"""Raise it when the same rows get other scores."""
DEPTH: Final = 0.25
"""Share of the model's layers behind which gradients of an early exit are read."""
KIND: Final = "adam_without_momentum"
"""Of the pool's early gradients; a domain's are plain, as always."""

Rows = Mapping[str, pl.DataFrame]
"""Validation rows by domain."""
Score = Callable[[pl.DataFrame, Sequence[str]], NDArray[np.float64]]
"""From rows of the pool and domains to scores (n, k), NaN where a row has no vector."""
Gradients = Callable[..., Iterator[Vectors]]


def screened_by(workspace: Workspace, made_from: MadeFrom) -> MadeFrom:
    """The same if no prescreen is set; else with it, and with what determines the rows of every domain.

    Raises:
        SettingsError: There is no domain.
        SourceError: A domain's rows are not there.
    """
    said = workspace.project.settings.gradients.prescreen
    if said is None:
        return made_from
    if not workspace.project.domains:
        add = command("domain add NAME --validation rows.jsonl")
        raise SettingsError(f"`gradients.prescreen` scores rows for domains, and there is none: {add}, or unset it")
    own = {}
    for domain in sorted(workspace.project.domains):
        with _of_domain(domain):
            own[domain] = rows_from(workspace, target_files(workspace, domain)["validation"])
    prescreen: dict[str, Any] = {
        "by": said.by,
        "keep": said.keep,
        "code_version": SCORES_VERSION,
        "domains": {domain: json_sha256([rows.settings, rows.outside]) for domain, rows in own.items()},
        "store": [address_of(vectors) for vectors in _vectors(workspace, said.by, made_from.settings)],
    }
    files = {name: digest for rows in own.values() for name, digest in rows.outside.items() if name != "tokenizer"}
    return MadeFrom({**made_from.settings, "prescreen": prescreen}, files)


def prescreened(
    draft: Draft, task: Task, pool: pl.DataFrame, sample: pl.DataFrame, gradients: Gradients
) -> pl.DataFrame:
    """The rows of the pool that are kept for a domain; scores and ranks of all rows are written beside.

    Args:
        draft: Of `gradients/pool`.
        task: Likewise.
        pool: Contract `instructions/pool`.
        sample: The warmup sample's rows, on which statistics are fixed.
        gradients: `stages.gradients._gradients` of the task.
    """
    said, score = task.recipe.settings["prescreen"], _scorer(draft, task, pool, sample, gradients)
    parts = [known := _known(task, pool)]
    again = known["domain"].unique().sort().to_list()
    others = pool.join(known, on="row_id", how="anti")
    for domains, rows in (([name for name in said["domains"] if name not in again], pool), (again, others)):
        if domains and len(rows):
            found = pl.DataFrame(score(rows, domains), schema=domains).fill_nan(None)
            found = found.insert_column(0, rows["row_id"]).unpivot(
                index="row_id", variable_name="domain", value_name="score"
            )
            parts.append(found.select("domain", "row_id", "score"))
    n_kept = max(1, round(said["keep"] * len(pool)))
    rank = pl.col("score").rank("ordinal", descending=True).over("domain").cast(pl.Int64)
    table = pl.concat(parts).sort("domain", "row_id").with_columns(rank=rank)
    table = table.with_columns(kept=(pl.col("rank") <= n_kept).fill_null(True))
    draft.write(SCREEN, table)
    kept = pool.join(table.filter("kept"), on="row_id", how="semi", maintain_order="left")
    n_scored = sum(len(part) for part in parts[1:])
    draft.metric(n_screened=len(pool) - len(kept), share_computed=len(kept) / len(pool), n_scored=n_scored)
    say(f"gradients/pool: {said['by']} keeps {len(kept)} of {len(pool)} rows for {len(said['domains'])} domains")
    return kept


def _known(task: Task, pool: pl.DataFrame) -> pl.DataFrame:
    """Scores of the version before that still hold: of rows of the pool, for domains whose rows are as they were."""
    columns, said = ("domain", "row_id", "score"), task.recipe.settings["prescreen"]

    def held(settings: Mapping[str, Any], sample: str) -> Any:
        return sample, {name: value for name, value in settings.items() if name not in ("keep", "domains")}

    with suppress(StoreError):  # damaged: scored anew
        before = task.workspace.lake.find("gradients/pool")
        then = before.manifest.settings.get("prescreen") if before else None
        if before and then:
            samples = [made.inputs["warmup/sample"].data_version for made in (before.manifest, task.recipe)]
            if held(then, samples[0]) == held(said, samples[1]):
                same = [name for name, digest in said["domains"].items() if then["domains"].get(name) == digest]
                table = before.read(SCREEN).select(columns).filter(pl.col("domain").is_in(same))
                return table.join(pool, on="row_id", how="semi", maintain_order="left")
    return SCREEN.table_of([]).select(columns)


def _scorer(draft: Draft, task: Task, pool: pl.DataFrame, sample: pl.DataFrame, gradients: Gradients) -> Score:
    """How rows are scored; vectors that this needs are computed where no shard has them."""
    by, own = task.recipe.settings["prescreen"]["by"], {}
    for domain in task.recipe.settings["prescreen"]["domains"]:
        with _of_domain(domain):
            own[domain] = read_target(task.workspace, domain).used.filter(pl.col("split") == "validation")
    if by == "bm25":
        bm25 = Bm25(_texts(sample))
        draft.metric(n_tokens_prescreen=0, n_flop_prescreen=0.0)
        return lambda rows, domains: bm25.scores(_texts(rows), [_texts(own[name]) for name in domains])
    places = _vectors(task.workspace, by, task.recipe.settings)
    if by == "embedding":
        return _by_embedding(draft, task, places[0], pool, sample, own)
    return _by_early_exit(draft, task, places, pool, own, gradients)


def _texts(rows: pl.DataFrame) -> list[str]:
    """What is said in every turn."""
    said = pl.col("messages").list.eval(pl.element().struct.field("content"))
    return rows.select(said.list.join("\n", ignore_nulls=True)).to_series().to_list()


def _by_embedding(
    draft: Draft, task: Task, place: Mapping[str, Any], pool: pl.DataFrame, sample: pl.DataFrame, own: Rows
) -> Score:
    """Mean cosine of embeddings, of which the mean over the sample's rows is taken: all have much in common."""
    by_id = _by_id(task, [pool, sample, *own.values()])
    embedder = Embedder(task.workspace, by_id)
    stored = _filled(draft, task, place, by_id, embedder)
    draft.metric(n_tokens_prescreen=embedder.n_tokens, n_flop_prescreen=embedder.n_flop)
    drawn = stored.of(sample["row_id"])
    if drawn.index.is_empty():
        raise SourceError(f"no row of the warmup sample has an embedding; draw another with {command(REDRAW)}")
    mean = sum_of(drawn.features(EMBEDDING)) / len(drawn.index)
    return partial(_cosines, stored, EMBEDDING, mean, {name: (stored, rows) for name, rows in own.items()}, EMBEDDING)


def _by_early_exit(
    draft: Draft, task: Task, places: Sequence[Mapping[str, Any]], pool: pl.DataFrame, own: Rows, gradients: Gradients
) -> Score:
    """Mean cosine of the gradients of the first layers, with the loss read behind them."""
    found, costs = [], list[Any]()
    for place, tables in zip(places, ([pool], own.values()), strict=True):
        by_id = _by_id(task, tables)
        compute = partial(gradients, by_id, place["kinds"], costs, LAST, depth=DEPTH)
        found.append(_filled(draft, task, place, by_id, compute))
    n_tokens, n_flop = (sum(getattr(cost, name) for cost in costs) for name in ("n_tokens", "n_flop"))
    draft.metric(n_tokens_prescreen=n_tokens, n_flop_prescreen=float(n_flop))
    of_pool, of_domains = found
    return partial(_cosines, of_pool, KIND, None, {name: (of_domains, rows) for name, rows in own.items()}, "sgd")


def _cosines(
    stored: Stored,
    kind: str,
    mean: NDArray[np.floating] | None,
    own: Mapping[str, tuple[Stored, pl.DataFrame]],
    own_kind: str,
    rows: pl.DataFrame,
    domains: Sequence[str],
) -> NDArray[np.float64]:
    """Scores: cosines to a domain's rows have the mean that those to the mean of its unit rows are."""
    middles = []
    for name in domains:
        where, table = own[name]
        here = where.of(table["row_id"])
        if here.index.is_empty():
            raise SourceError(f"domain '{name}': no validation row has a usable vector to be compared with")
        middles.append(all_rows(here.features(own_kind, mean)).mean(axis=0))
    some, scores = stored.of(rows["row_id"]), np.full((len(rows), len(domains)), np.nan)
    if len(some.index):
        place = pl.DataFrame({"row_id": rows["row_id"]}).with_row_index("row")
        order = some.index.select("row_id").join(place, on="row_id", maintain_order="left")["row"].to_numpy()
        scores[order] = cosines_to(some.features(kind, mean), np.stack(middles))
    return scores


def _by_id(task: Task, tables: Sequence[pl.DataFrame] | Any) -> "dict[str, Example]":
    """Every row once, as the model takes it."""
    from g2is_assets.training.text import examples

    return {row.row_id: row for table in tables for row in examples(table, task.workspace.template)}


def _filled(draft: Draft, task: Task, place: Mapping[str, Any], by_id: "Mapping[str, Example]", compute: Any) -> Stored:
    found: Filled = fill_store(draft, task, place, {row_id: row.n_tokens for row_id, row in by_id.items()}, compute)
    return Stored(found.index, EARLIER.table_of([]), {shard.name: shard for shard in found.shards}, [1.0])


def _vectors(workspace: Workspace, by: str, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What determines the vectors that scores are taken from: of the pool's rows, and of the domains' if others."""
    if by == "embedding":
        return [embedding_vectors(workspace)]
    early = settings_of_vectors(settings)[LAST] | {"depth": DEPTH}
    return [early | {"kinds": [kind]} for kind in (KIND, "sgd")] if by == "early_exit" else []


@contextmanager
def _of_domain(name: str) -> Iterator[None]:
    """Say of a fault in a domain's rows why it concerns the pool."""
    try:
        yield
    except SourceError as error:
        raise SourceError(f"`gradients.prescreen` reads the rows of every domain, also of '{name}': {error}") from error
