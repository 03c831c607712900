"""The variants of studies: as places, which of a domain's rows they steer by or show, and their tables."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from g2is_assets.contracts.contract import Contract
from g2is_assets.contracts.instructions import TARGET, Instruction
from g2is_assets.contracts.study import ADAPTER, GENERAL, SCORES
from g2is_assets.core.sampling import hash_sample
from g2is_assets.errors import MissingInputError, SettingsError, StoreError
from g2is_assets.stages.instructions import target_files
from g2is_assets.stages.stage import Place, RecipeNow
from g2is_assets.stages.studies import BASE, Study, find_study
from g2is_assets.stages.trials import Chosen, Made
from g2is_assets.stages.workspace import Workspace
from g2is_assets.store.measured import Cell, Exam
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
    rows = (row for file in files for row in read_rows(str(file), workspace.project.rows_of(file), folder))
    known = set(target.read(TARGET).filter(pl.col("split") == split)["row_id"])
    return list(dict.fromkeys(row.row_id for row in rows if isinstance(row, Instruction) and row.row_id in known))


def up_to_date(workspace: Workspace, key: str, place: Place, recipe_now: RecipeNow) -> Version | None:
    """The version of a place, if it is what its stage would make now."""
    version = workspace.lake.find(key, place.partition)
    try:
        return version if version and version.manifest.input_digest == recipe_now(key, place).input_digest else None
    except MissingInputError:
        return None


def chosen_rows(place: Place, subset: pl.DataFrame) -> Chosen:
    """Rows by budget and seed, both ascending; none for the base model."""
    budgets, seeds = place.study.budgets(place.variant), place.study.seeds(place.variant)
    if place.said.selector == BASE:
        return {budget: dict.fromkeys(seeds, ()) for budget in budgets}
    parts = subset.partition_by("budget", "seed", as_dict=True, maintain_order=True)
    return {budget: {seed: parts[budget, seed]["row_id"].to_list() for seed in seeds} for budget in budgets}


def adapter_table(place: Place, made: list[Made]) -> pl.DataFrame:
    """Contract `study/adapter`, sorted."""
    rows = [
        {
            **_names(place, one.trial.budget, one.trial.seed),
            "learning_rate": one.trial.rate,
            "chosen": one.chosen,
            "cell": one.cell.digest,
            "n_rows": one.cell.n_rows,
            "n_tokens": one.cell.n_tokens,
            "best_epoch": one.cell.best_epoch,
            "validation_nll": one.cell.best_validation_nll,
            "seconds": one.cell.seconds + one.cell.scoring[1],
        }
        for one in made
    ]
    return pl.DataFrame(rows, schema=ADAPTER.schema).sort(ADAPTER.sorted_by)


def score_tables(
    place: Place, trainings: pl.DataFrame, cells: Mapping[str, Cell], development: Collection[str], test: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Contracts `study/score` and `study/score general`: the scores of the chosen trainings.

    Args:
        place: Study, variant and domain.
        trainings: Contract `study/adapter`.
        cells: The cells that it names, by digest.
        development: Rows that are shown while choices are made.
        test: The test rows.

    Raises:
        StoreError: A cell is gone, or lacks scores that the study asks for.
    """
    said = place.study.said
    exam = Exam(test, said.answer_tokens, general=test.clear())  # which rows of the pool: another study may have asked
    parts, general = [pl.DataFrame(schema=SCORES.schema)], [pl.DataFrame(schema=GENERAL.schema)]
    for row in trainings.filter("chosen").iter_rows(named=True):
        cell = cells.get(row["cell"])
        others = cell.general_now() if cell and said.general_rows else None
        if not cell or not cell.scores or exam.lacking(cell) or (said.general_rows and not others):
            raise StoreError(
                f"the cell {row['cell'][:16]} of study '{place.study.name}' is gone or lacks scores that the study "
                f"asks for; materialise study/adapter for {place.partition} again"
            )
        scores, answers = cell.scores, cell.answers_to(exam.asked_digest)
        right = dict(zip(answers.row_id, answers.right, strict=True)) if answers else {}
        pairs = zip(scores.row_id, scores.correct, strict=True)
        correct = [right.get(row_id) if chosen is None else chosen for row_id, chosen in pairs]
        columns = {"row_id": scores.row_id, "nll": scores.nll, "n_response_tokens": scores.n_response_tokens}
        shown = ["development" if row_id in development else "final" for row_id in scores.row_id]
        table = pl.DataFrame({**columns, "part": shown, "correct": pl.Series(correct, dtype=pl.Boolean)})
        parts.append(named(table, SCORES, place, row["budget"], row["seed"]))
        if others:
            table = pl.DataFrame({"row_id": others.row_id, "nll": others.nll})
            general.append(named(table, GENERAL, place, row["budget"], row["seed"]))
    return pl.concat(parts).sort(SCORES.sorted_by), pl.concat(general).sort(GENERAL.sorted_by)


def named(table: pl.DataFrame, contract: Contract, place: Place, budget: float, seed: int) -> pl.DataFrame:
    """A table with the columns that say of which variant, budget and seed it is, as its contract has them."""
    names = {name: pl.lit(value) for name, value in _names(place, budget, seed).items()}
    return table.with_columns(**names).select(contract.schema.names()).cast(contract.schema)


def _names(place: Place, budget: float, seed: int) -> dict[str, Any]:
    names = {"study": place.study.name, "domain": place.domain, "variant": place.variant}
    return {**names, "budget": budget, "seed": seed}
