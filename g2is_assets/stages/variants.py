"""The variants of studies as places, and which of a domain's rows they steer by or show, in the order of its files."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from g2is_assets.contracts.instructions import TARGET, Instruction
from g2is_assets.core.sampling import hash_sample
from g2is_assets.errors import SettingsError
from g2is_assets.settings.config import Source
from g2is_assets.stages.instructions import target_files
from g2is_assets.stages.stage import Place
from g2is_assets.stages.studies import Study, find_study
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.sources import read_rows
from g2is_assets.store.version import Version


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
    return Place(domain, study, variant)


def place_named(workspace: Workspace, partition: str | None) -> Place:
    """The place whose folder in the lake has this name.

    Raises:
        SettingsError: It is of a variant that no study has any more.
    """
    domain, _, key = (partition or "").partition(".")
    return place_of(workspace, domain, key) if key else Place(domain)


def places_of(studies: Iterable[Study]) -> list[Place]:
    """Every variant of every study in each of its domains."""
    return [Place(domain, study, name) for study in studies for domain in study.domains for name in study.said.variants]


def steering_rows(workspace: Workspace, place: Place, target: Version) -> dict[str, list[str]]:
    """By seed, the validation rows that steer a variant's selection."""
    rows = in_file_order(workspace, place, "validation", target)
    n_rows = min(place.said.validation_rows or len(rows), len(rows))
    return {str(seed): hash_sample(rows, n_rows, f"validation/{seed}") for seed in place.study.seeds(place.variant)}


def development_rows(workspace: Workspace, place: Place, target: Version) -> list[str]:
    """The domain's test rows that are shown while choices are made: the first of its file."""
    return in_file_order(workspace, place, "test", target)[: place.study.said.development_rows]


def in_file_order(workspace: Workspace, place: Place, split: str, target: Version) -> list[str]:
    """Row ids of a split in the order of the domain's files: the table is sorted by row id, which is a hash."""
    folder = workspace.project.path.parent
    files: tuple[Path, ...] = target_files(workspace, place.domain).get(split, ())
    rows = (row for file in files for row in read_rows(str(file), Source(path=file.name), folder))
    known = set(target.read(TARGET).filter(pl.col("split") == split)["row_id"])
    return list(dict.fromkeys(row.row_id for row in rows if isinstance(row, Instruction) and row.row_id in known))
