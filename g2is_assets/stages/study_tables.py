"""Tables of a variant: its chosen rows as `DomainCells` wants them, its trainings, and its scores."""

import polars as pl

from g2is_assets.contracts.contract import Contract
from g2is_assets.contracts.study import ADAPTER, GENERAL, SCORES
from g2is_assets.errors import StoreError
from g2is_assets.stages.stage import Place
from g2is_assets.stages.studies import BASE
from g2is_assets.stages.study_cells import Chosen, Made
from g2is_assets.store.measured import Cell, digest_of_questions, digest_of_test, to_be_answered


def chosen_rows(place: Place, subset: pl.DataFrame) -> Chosen:
    """Rows by budget and seed, both ascending; none for the base model."""
    study, variant = place.study, place.variant
    if place.said.selector == BASE:
        return {budget: dict.fromkeys(study.seeds(variant), ()) for budget in study.budgets(variant)}
    parts = subset.partition_by("budget", "seed", as_dict=True, maintain_order=True)
    return {
        budget: {seed: parts[budget, seed]["row_id"].to_list() for seed in study.seeds(variant)}
        for budget in study.budgets(variant)
    }


def adapter_table(place: Place, made: list[Made]) -> pl.DataFrame:
    """Contract `study/adapter`, sorted."""
    rows = [
        {
            **_names(place),
            "budget": one.trial.budget,
            "seed": one.trial.seed,
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
    place: Place, trainings: pl.DataFrame, cells: dict[str, Cell], development: list[str], test: pl.DataFrame
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
    said, digest = place.study.said, digest_of_test(test)
    questions = digest_of_questions(test, said.answer_tokens)
    to_answer = said.answer_tokens > 0 and len(to_be_answered(test)) > 0
    parts = [pl.DataFrame(schema=SCORES.schema)]
    general = [pl.DataFrame(schema=GENERAL.schema)]
    for row in trainings.filter("chosen").iter_rows(named=True):
        cell = cells.get(row["cell"])
        scores, answers = (cell.scores_on(digest), cell.answers_to(questions)) if cell else (None, None)
        others = cell.general_now() if cell and said.general_rows else None  # another study may have asked
        if not scores or (to_answer and not answers) or (said.general_rows and not others):
            raise StoreError(
                f"the cell {row['cell'][:16]} of study '{place.study.name}' is gone or lacks scores that the study "
                f"asks for; materialise study/adapter for {place.partition} again"
            )
        right = answers.by_row if answers else {}
        pairs = zip(scores.row_id, scores.correct, strict=True)
        correct = [right.get(row_id) if chosen is None else chosen for row_id, chosen in pairs]
        table = pl.DataFrame(
            {
                "row_id": scores.row_id,
                "nll": scores.nll,
                "n_response_tokens": scores.n_response_tokens,
                "correct": pl.Series(correct, dtype=pl.Boolean),
            }
        )
        shown = pl.when(pl.col("row_id").is_in(development)).then(pl.lit("development")).otherwise(pl.lit("final"))
        parts.append(named(table.with_columns(shown.alias("part")), SCORES, place, row["budget"], row["seed"]))
        if others:
            table = pl.DataFrame({"row_id": others.row_id, "nll": others.nll})
            general.append(named(table, GENERAL, place, row["budget"], row["seed"]))
    return (
        pl.concat(parts).sort(SCORES.sorted_by),
        pl.concat(general).sort(GENERAL.sorted_by),
    )


def named(table: pl.DataFrame, contract: Contract, place: Place, budget: float, seed: int) -> pl.DataFrame:
    """A table with the columns that say of which variant, budget and seed it is, as its contract has them."""
    names = {**_names(place), "budget": budget, "seed": seed}
    literals = [pl.lit(value, contract.schema[name]).alias(name) for name, value in names.items()]
    return table.with_columns(*literals).select(contract.schema.names()).cast(contract.schema)


def _names(place: Place) -> dict[str, str]:
    return {"study": place.study.name, "domain": place.domain, "variant": place.variant}
