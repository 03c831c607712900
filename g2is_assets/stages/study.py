"""Stage `study`: every selector on the same pool and gradients, by one rule, and who is ahead.

One partition per domain and variant, where a variant is an entry of a study file. What a training was worth is
measured once and kept (`store.measured`), outside of the lake where the study says so.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.contracts.study import ADAPTER, GENERAL, LEADERBOARD, OVERLAP, SCORES, SOURCES, SUBSET
from g2is_assets.core.selectors import SELECTORS
from g2is_assets.errors import MissingInputError
from g2is_assets.hashing import json_sha256
from g2is_assets.settings.config import KnowledgeSettings
from g2is_assets.settings.project import Project
from g2is_assets.settings.selection import selection_settings
from g2is_assets.stages.choosing import EDGES_READ, Chooser
from g2is_assets.stages.features import Embedder, embedding_vectors, fill
from g2is_assets.stages.stage import MadeFrom, Place, RecipeNow, Task, Versions, stage
from g2is_assets.stages.studies import BASE, load_studies
from g2is_assets.stages.trials import DomainTrials, Work
from g2is_assets.stages.variants import (
    adapter_table,
    chosen_rows,
    development_rows,
    named,
    places_of,
    score_tables,
    steering_rows,
    up_to_date,
)
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.measured import CELLS_VERSION, SCORES_VERSION
from g2is_assets.store.vectors import address_of
from g2is_assets.store.version import Draft, Version


def _embedding_from(workspace: Workspace, _: Place, __: Versions) -> MadeFrom:
    """Settings are the store's, with its name."""
    vectors = embedding_vectors(workspace)
    return MadeFrom(vectors | {"store": address_of(vectors)})


@stage(
    "study/embedding",
    "project",
    "1",
    {"pytorch", "parquet"},
    inputs=["instructions/pool"],
    made_from=_embedding_from,
    uses_model=True,
)
def embedding(draft: Draft, task: Task) -> None:
    """Embeddings of the pool's rows by the base model, for the selectors that go by similarity.

    RDS+: the mean of the last hidden states, later tokens weighing more. Kept like gradients, so that only rows that
    the store lacks are computed; a row's loss is not computed and stands as 0.
    """
    from g2is_assets.training.text import examples

    rows = task.read(POOL)
    by_id = {example.row_id: example for example in examples(rows, task.workspace.template)}
    embedder, lengths = Embedder(task.workspace, by_id), {row_id: row.n_tokens for row_id, row in by_id.items()}
    fill(draft, task, lengths, lambda _, batches: embedder(batches), rows["row_id"])
    draft.metric(**embedder.speed())


def _subset_inputs(_: Project, place: Place) -> list[str]:
    """The base model reads nothing; only selectors by similarity read embeddings, those by gradient the gradients."""
    if place.said.selector == BASE:
        return ["instructions/pool"]
    read = ["gradients/pool", "gradients/target", "graph/neighbors/groups", "instructions/pool", "instructions/target"]
    if place.said.options.get("neighbours_only"):
        read.append(EDGES_READ)
    return [*read, "study/embedding"] if SELECTORS[place.said.selector].features == "embeddings" else read


def _subset_from(workspace: Workspace, place: Place, versions: Versions) -> MadeFrom:
    """What decides a variant's choice of rows: what the study says, and the defaults of what it leaves open."""
    said, study, variant = place.said, place.study, place.variant
    settings: dict[str, Any] = said.model_dump(mode="json", exclude={"validation_rows"})
    if said.selector != BASE:
        selector = SELECTORS[said.selector]
        if selector.options:
            resolved = selection_settings(said.options).model_dump(mode="json")
            settings["options"] = {name: value for name, value in resolved.items() if name in selector.options}
        if selector.walks:
            settings["knowledge"] = KnowledgeSettings.model_validate(said.knowledge).model_dump(mode="json")
        if selector.features == "embeddings":
            settings["model"] = workspace.model.digest
        settings["allow_leaks"] = workspace.project.domain(place.domain).selection.allow_leaks
    if said.validation_rows:
        settings["validation"] = steering_rows(workspace, place, versions["instructions/target"])
    return MadeFrom(settings | {"seeds": study.seeds(variant), "budgets": study.budgets(variant)})


@stage(
    "study/subset",
    "variant",
    "5",
    {"numpy", "parquet"},
    inputs=_subset_inputs,
    made_from=_subset_from,
    uses_model=True,
)
def subset(draft: Draft, task: Task) -> None:
    """The rows that a variant chooses for a domain, for each of its budgets and seeds, in order.

    All variants choose from the same rows: near-duplicates and repeats of the domain's own rows are left out, as for
    `selection/subset`. Only selectors by similarity read `study/embedding`.
    """
    parts = [pl.DataFrame(schema=SUBSET.schema)]
    for budget, seconds, chosen in [] if task.place.said.selector == BASE else _choose(task):
        draft.metric(**{f"selection_s_{budget!r}": seconds})
        parts += [named(table, SUBSET, task.place, budget, seed) for seed, table in chosen.items()]
    draft.write(SUBSET, pl.concat(parts))


def _choose(task: Task) -> Iterator[tuple[float, float, dict[int, pl.DataFrame]]]:
    """Every budget, the seconds that one selection took, reading of features included, and the rows by seed."""
    said, study = task.place.said, task.place.study
    allow_leaks = bool(task.recipe.settings["allow_leaks"])
    chooser = Chooser(task, said.selector, said.options, said.knowledge, None, allow_leaks, said.sketch_dim)
    seeds, steering = study.seeds(task.place.variant), task.recipe.settings.get("validation", {})
    tried = seeds if SELECTORS[said.selector].draws or said.validation_rows else seeds[:1]
    for budget in study.budgets(task.place.variant):
        begun, tables = time.monotonic(), {}
        for seed in tried:
            chosen = chooser.choose(chooser.problem(budget, seed, steering.get(str(seed))))
            rows = [chooser.row_ids[row] for row in chosen.rows]
            scores = [None if np.isnan(score) else float(score) for score in chosen.scores]
            tables[seed] = pl.DataFrame({"order": range(len(rows)), "row_id": rows, "score": scores})
        seconds = (time.monotonic() - begun) / len(tried)
        yield budget, seconds, {seed: tables.get(seed, tables[seeds[0]]) for seed in seeds}


def _adapter_from(workspace: Workspace, place: Place, _: Versions) -> MadeFrom:
    settings = place.study.finetune.model_dump(mode="json", exclude={"learning_rate", "seed"})
    settings |= {"rates": sorted(place.study.said.rates), "template": workspace.template_digest, "cells": CELLS_VERSION}
    return MadeFrom(settings, {"model": workspace.model.digest})


def _trials(task: Task) -> DomainTrials:
    pool, target = task.read(POOL), task.read(TARGET)
    return DomainTrials(task.workspace, task.place.study, task.domain, pool, target, task.stop_at)


def _settled(task: Task, _: Version) -> bool:
    return _trials(task).missing(chosen_rows(task.place, task.read(SUBSET, "study/subset"))) == Work()


@stage(
    "study/adapter",
    "variant",
    "1",
    {"pytorch", "peft"},
    inputs=["instructions/pool", "instructions/target", "study/subset"],
    made_from=_adapter_from,
    uses_model=True,
    whole=_settled,
)
def adapter(draft: Draft, task: Task) -> None:
    """Every training of a variant in a domain, by the study's one rule, each scored on the domain's test rows.

    What a training was worth is read if it was made before, by whichever variant chose the same rows. Adapters of
    chosen trainings are versions of `study/training`, of which this one is made.
    """
    chosen, trials = chosen_rows(task.place, task.read(SUBSET, "study/subset")), _trials(task)
    with tempfile.TemporaryDirectory() as scratch:
        made = trials.make(chosen, Path(scratch))
        kept = trials.keep(made, Path(scratch), draft.run_id)
    table = adapter_table(task.place, made)
    draft.made_of(kept)
    draft.write(ADAPTER, table)
    draft.metric(n_cells=table["cell"].n_unique(), n_adapters_kept=len(kept))


def _score_from(workspace: Workspace, place: Place, versions: Versions) -> MadeFrom:
    """Which test rows are the development ones counts, as the order of the file says."""
    said, shown = place.study.said, development_rows(workspace, place, versions["instructions/target"])
    asked = {"answer_tokens": said.answer_tokens, "general_rows": said.general_rows}
    return MadeFrom({"development": json_sha256(shown), "scores": SCORES_VERSION, **asked})


@stage(
    "study/score",
    "variant",
    "3",
    {"polars", "parquet"},
    inputs=["instructions/target", "study/adapter"],
    made_from=_score_from,
)
def score(draft: Draft, task: Task) -> None:
    """The scores of every test row after each of the variant's chosen trainings, read from what was measured.

    Beside them the losses of some rows of the pool, which tell what else training has changed.

    The first rows of the domain's test file are `development`, looked at while choices are made; the others are
    `final`, for one look at the end.
    """
    place, cells = task.place, task.place.study.measured(task.workspace.lake.root).all()
    shown = development_rows(task.workspace, place, task.version("instructions/target"))
    test = task.read(TARGET).filter(pl.col("split") == "test")
    scores, general = score_tables(place, task.read(ADAPTER), cells, shown, test)
    draft.write(SCORES, scores)
    draft.write(GENERAL, general)


def _scored(workspace: Workspace, recipe_now: RecipeNow) -> dict[str, Version]:
    """The pool, and of every variant that has been scored its subset, trainings and scores.

    What was made from something else than is current now, an earlier text of the study file included, is left out
    until it is made again: rows of the board are compared with one another.
    """
    found = {"instructions/pool": workspace.lake.current("instructions/pool")}
    keys = ("study/subset", "study/adapter", "study/score")
    for place in places_of(load_studies(workspace.project).values()):
        versions = [up_to_date(workspace, key, place, recipe_now) for key in keys]
        own = {f"{key}[{place.partition}]": version for key, version in zip(keys, versions, strict=True) if version}
        found |= own if len(own) == len(keys) else {}
    return found


def _leaderboard_from(workspace: Workspace, _: Place, __: Versions) -> MadeFrom:
    return MadeFrom({"final": {name: study.said.final for name, study in load_studies(workspace.project).items()}})


@stage(
    "study/leaderboard",
    "project",
    "3",
    {"polars", "matplotlib"},
    inputs=["instructions/pool", "study/adapter", "study/score", "study/subset"],
    made_from=_leaderboard_from,
    gather=_scored,
)
def leaderboard(draft: Draft, task: Task) -> None:
    """Who is ahead, by domain and over domains, with paired differences to `random` and `less` and their intervals.

    Everything that has been scored and is up to date counts, also while a study is still under way. Beside it: how
    many rows the subsets have in common, and which sources they come from. Final test rows are left out until the study
    says `final = true`.
    """
    from g2is_assets.reports.leaderboard import build_leaderboard

    tables = {}
    for name, contract in (("subset", SUBSET), ("adapter", ADAPTER), ("score", SCORES), ("general", GENERAL)):
        parts = [v.read(contract) for v in task.recipe.versions.values() if v.manifest.asset in contract.assets]
        if not parts:
            raise MissingInputError("no variant of any study has been scored yet; materialise study/score first")
        tables[name] = pl.concat(parts)
    final = {name for name, opened in task.recipe.settings["final"].items() if opened}
    board = build_leaderboard(**tables, pool=task.read(POOL), seconds=_seconds(task), final=final)
    draft.write(LEADERBOARD, board.leaderboard)
    draft.write(OVERLAP, board.overlap)
    draft.write(SOURCES, board.sources)


def _seconds(task: Task) -> pl.DataFrame:
    """Seconds of every selection: study, domain, variant, budget, seconds; none for the base model."""
    rows = []
    for version in task.recipe.versions.values():
        if version.manifest.asset == "study/subset":
            domain, study, variant = str(version.manifest.partition).split(".")
            for name, value in version.manifest.metrics.items():
                if name.startswith("selection_s_"):
                    rows.append((study, domain, variant, float(name.removeprefix("selection_s_")), float(value)))
    columns = {name: SUBSET.schema[name] for name in ("study", "domain", "variant", "budget")}
    return pl.DataFrame(rows, schema={**columns, "seconds": pl.Float64}, orient="row")
