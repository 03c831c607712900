"""What each asset of the stage `study` is made from; like `recipes.py`, but by study and variant as well as by domain.

A version of a variant in a domain lies in the lake under `<domain>.<study>.<variant>`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from g2is_assets.contracts.instructions import TARGET
from g2is_assets.contracts.rows import Instruction
from g2is_assets.core.sampling import hash_sample
from g2is_assets.core.selectors import OPTIONS, USE_EMBEDDINGS, WALK
from g2is_assets.errors import MissingInputError, SettingsError
from g2is_assets.hashing import json_sha256
from g2is_assets.settings.config import KnowledgeSettings, SelectionSettings, Source
from g2is_assets.stages.recipes import current, recipe_from, target_files
from g2is_assets.stages.studies import BASE, Study, Variant, find_study, load_studies
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.cells import CELLS_VERSION, SCORES_VERSION
from g2is_assets.store.gradient_store import store_name
from g2is_assets.store.lake import Recipe, Version
from g2is_assets.store.sources import read_rows

CODE_VERSIONS: Final = {
    "study/embedding": "1",
    "study/subset": "3",
    "study/adapter": "1",
    "study/score": "3",
    "study/leaderboard": "3",
}
"""Raise an asset's when a change makes the same inputs give another payload."""

EMBEDDINGS_VERSION: Final = "1"
"""Part of the embedding store's address: raise it when the same row gives another embedding."""

EMBEDDING: Final = "embedding"
"""The one feature kind of `study/embedding`."""


@dataclass(frozen=True)
class Place:
    """A variant of a study in a domain: one partition of the stage."""

    study: Study
    variant: str
    domain: str

    @property
    def partition(self) -> str:
        """Name of its folder in the lake."""
        return f"{self.domain}.{self.key}"

    @property
    def key(self) -> str:
        """Key of the study and the variant in Dagster's partitions."""
        return f"{self.study.name}.{self.variant}"

    @property
    def said(self) -> Variant:
        """What the study says of the variant."""
        return self.study.said.variants[self.variant]


def variant_keys(studies: Iterable[Study]) -> list[str]:
    """Dagster's partition keys of all variants."""
    return [f"{study.name}.{variant}" for study in studies for variant in study.said.variants]


def place_of(workspace: Workspace, domain: str, key: str) -> Place:
    """The place that Dagster's two partition keys name.

    Raises:
        SettingsError: There is no such variant, its study cannot be run, or leaves the domain out.
    """
    name, _, variant = key.partition(".")
    study = find_study(workspace.project, name)
    if variant not in study.said.variants:
        raise SettingsError(f"{study.file} has no variant '{variant}'; load the definitions again")
    if domain not in study.domains:
        raise SettingsError(
            f"{study.file} leaves the domain '{domain}' out (it has {', '.join(study.domains)}); add it to `domains`"
        )
    return Place(study, variant, domain)


def places_of(studies: Iterable[Study]) -> list[Place]:
    """Every variant of every study in each of its domains."""
    return [Place(study, name, domain) for study in studies for domain in study.domains for name in study.said.variants]


def embedding(workspace: Workspace) -> Recipe:
    """Of `study/embedding`: settings are the store's, with its name."""
    vectors: dict[str, Any] = {
        "kinds": [EMBEDDING],
        "sketch_dim": workspace.model.hidden_size,
        "model": workspace.model.digest,
        "template": workspace.template.digest,
        "pooling": "last hidden states, position-weighted mean",
        "code_version": EMBEDDINGS_VERSION,
    }
    settings = vectors | {"store": store_name(vectors)}
    return _recipe("study/embedding", None, settings, current(workspace, "instructions/pool"))


def subset(workspace: Workspace, place: Place) -> Recipe:
    """Of `study/subset`: all budgets and seeds of the variant."""
    domain, said, settings = place.domain, place.said, _choice(place)
    inputs = current(workspace, "instructions/pool")
    if said.selector != BASE:
        settings["allow_leaks"] = workspace.project.domain(domain).selection.allow_leaks
        inputs |= current(workspace, "gradients/pool", "graph/neighbors")
        inputs |= current(workspace, "gradients/target", "instructions/target", domain=domain)
    if said.validation_rows:
        settings["validation"] = _steering(workspace, place, inputs["instructions/target"])
    if said.selector in USE_EMBEDDINGS:
        settings["model"] = workspace.model.digest
        inputs |= current(workspace, "study/embedding")
    return _recipe("study/subset", place.partition, settings, inputs)


def _steering(workspace: Workspace, place: Place, target: Version) -> dict[str, list[str]]:
    """By seed, the validation rows that steer a variant's selection."""
    rows = in_file_order(workspace, place.domain, "validation", target)
    n_rows = min(place.said.validation_rows or len(rows), len(rows))
    return {str(seed): hash_sample(rows, n_rows, f"validation/{seed}") for seed in place.study.seeds(place.variant)}


def adapter(workspace: Workspace, place: Place) -> Recipe:
    """Of `study/adapter`: the trainings on the variant's subsets."""
    inputs = current(workspace, "study/subset", domain=place.partition) | current(workspace, "instructions/pool")
    inputs |= current(workspace, "instructions/target", domain=place.domain)
    model = {"model": workspace.model.digest}
    return _recipe("study/adapter", place.partition, _training(workspace, place), {**inputs, **model})


def score(workspace: Workspace, place: Place) -> Recipe:
    """Of `study/score`: which test rows are the development ones counts, as the order of the file says."""
    inputs = current(workspace, "study/adapter", domain=place.partition)
    inputs |= current(workspace, "instructions/target", domain=place.domain)
    development = json_sha256(development_rows(workspace, place, inputs["instructions/target"]))
    said = place.study.said
    settings = {
        "development": development,
        "scores": SCORES_VERSION,
        "answer_tokens": said.answer_tokens,
        "general_rows": said.general_rows,
    }
    return _recipe("study/score", place.partition, settings, inputs)


def leaderboard(workspace: Workspace) -> Recipe:
    """Of `study/leaderboard`: of every variant that has been scored its subset, trainings and scores.

    What was made from something else than is current now, an earlier text of the study file included, is left out
    until it is made again: rows of the board are compared with one another.
    """
    studies = load_studies(workspace.project)
    inputs: dict[str, Version | str] = {}
    for place in places_of(studies.values()):
        inputs |= _up_to_date(workspace, place)
    settings = {"final": {name: study.said.final for name, study in studies.items()}}
    return _recipe("study/leaderboard", None, settings, {**inputs, **current(workspace, "instructions/pool")})


def _choice(place: Place) -> dict[str, Any]:
    """What decides a variant's choice of rows: what the study says, and the defaults of what it leaves open."""
    study, variant, said = place.study, place.variant, place.said
    settings: dict[str, Any] = said.model_dump(mode="json", exclude={"validation_rows"})
    if read := set(OPTIONS.get(said.selector, ())):
        settings["options"] = SelectionSettings.model_validate(said.options).model_dump(mode="json", include=read)
    if said.selector in WALK:
        settings["knowledge"] = KnowledgeSettings.model_validate(said.knowledge).model_dump(mode="json")
    return settings | {"seeds": study.seeds(variant), "budgets": study.budgets(variant)}


def _training(workspace: Workspace, place: Place) -> dict[str, Any]:
    """What it says of the training."""
    settings = place.study.finetune.model_dump(mode="json", exclude={"learning_rate", "seed"})
    rates = sorted(place.study.said.rates)
    return {**settings, "rates": rates, "template": workspace.template.digest, "cells": CELLS_VERSION}


def _up_to_date(workspace: Workspace, place: Place) -> dict[str, Version]:
    """The place's subset, trainings and scores by asset and partition; none if one is missing or would be made anew."""
    found = {}
    for name, recipe_now in (("study/subset", subset), ("study/adapter", adapter), ("study/score", score)):
        version = workspace.lake.find(name, place.partition)
        try:
            if version is None or version.manifest.input_digest != recipe_now(workspace, place).input_digest:
                return {}
        except MissingInputError:
            return {}
        found[f"{name}[{place.partition}]"] = version
    return found


def development_rows(workspace: Workspace, place: Place, target: Version) -> list[str]:
    """The domain's test rows that are shown while choices are made: the first of its file."""
    return in_file_order(workspace, place.domain, "test", target)[: place.study.said.development_rows]


def in_file_order(workspace: Workspace, domain: str, split: str, target: Version) -> list[str]:
    """Row ids of a split in the order of the domain's files: the table is sorted by row id, which is a hash."""
    folder = workspace.project.path.parent
    files: tuple[Path, ...] = target_files(workspace, domain).get(split, ())
    rows = (row for file in files for row in read_rows(str(file), Source(path=file.name), folder))
    known = _ids(target, split)
    return list(dict.fromkeys(row.row_id for row in rows if isinstance(row, Instruction) and row.row_id in known))


def _ids(target: Version, split: str) -> Collection[str]:
    table = target.table("target", TARGET)
    return set(table.filter(pl.col("split") == split)["row_id"])


def _recipe(asset: str, partition: str | None, settings: dict[str, Any], inputs: Mapping[str, Version | str]) -> Recipe:
    return recipe_from(asset, CODE_VERSIONS[asset], partition, settings, inputs)
