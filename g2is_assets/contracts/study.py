"""Tables of the stage `study`: what every selector chose, what training on it was worth, and who is ahead."""

from functools import partial
from typing import Final

import polars as pl

from g2is_assets.contracts.contract import DOMAIN, Column, Contract, row_id
from g2is_assets.contracts.finetune import NLL, RESPONSE_TOKENS, TARGET_ROW

_count: Final = partial(Column, pl.Int64, minimum=0)
_number: Final = partial(Column, pl.Float64, minimum=0)
_STUDY: Final = Column(pl.String, "The study")
_VARIANT: Final = Column(pl.String, "Entry of the study: a selector with its options")
_BUDGET: Final = _number("As the study says: below 1 a share of the pool, from 1 up rows")
_PART: Final = Column(pl.String, "`development`: shown while choices are made; `final`: opened once")
_POOL_ROW: Final = row_id("The row in instructions/pool", of="instructions/pool")
_CELL: Final = {
    "study": _STUDY,
    "domain": DOMAIN,
    "variant": _VARIANT,
    "budget": _BUDGET,
    "seed": _count("Of selectors that draw, and of the training"),
}
_CHOICE: Final = {"study": _STUDY, "budget": _BUDGET, "domain": DOMAIN, "variant": _VARIANT}

SUBSET: Final = Contract(
    ("study/subset",),
    "subset",
    "The rows that a variant chose, for every budget and seed, in order",
    {
        **_CELL,
        "order": _count("0 is the first row taken"),
        "row_id": _POOL_ROW,
        "score": Column(pl.Float64, "What it was chosen by; null where the selector has no score", nullable=True),
    },
    sorted_by=("budget", "seed", "order"),
    main=True,
    pruned="whole",
    exposure="trained on",
)

TRAINING: Final = Contract(
    ("study/training",),
    "rows",
    "The rows that a training took, beside its adapter, which any variant that chose them can score",
    {"order": _count("Place in the training"), "row_id": _POOL_ROW},
    sorted_by=("order",),
    main=True,
    pruned="whole",
)

ADAPTER: Final = Contract(
    ("study/adapter",),
    "adapter",
    "Every training of a variant: one for each budget, seed and rate tried",
    {
        **_CELL,
        "learning_rate": _number("Peak rate of the training"),
        "chosen": Column(pl.Boolean, "Whether this rate had the lowest validation NLL at the first seed"),
        "cell": Column(pl.String, "Digest of everything that determined the training", part="study/training"),
        "n_rows": _count("Rows trained on"),
        "n_tokens": _count("Tokens that passed through the training"),
        "best_epoch": _count("Epoch kept; 0 is the untouched base"),
        "validation_nll": _number("Mean NLL of the validation rows at that epoch, nats per token"),
        "seconds": _number("Wall-clock of training and scoring, on the machine that did it"),
    },
    sorted_by=("budget", "seed", "learning_rate"),
    main=True,
)

SCORES: Final = Contract(
    ("study/score",),
    "score",
    "Response NLL, and where there are choices the answer, of every test row after the chosen training",
    {
        **_CELL,
        "row_id": TARGET_ROW,
        "part": _PART,
        "nll": NLL,
        "n_response_tokens": RESPONSE_TOKENS,
        "correct": Column(
            pl.Boolean,
            "Whether the likeliest of the row's choices is its answer; without choices, whether the generated one is",
            nullable=True,
        ),
    },
    sorted_by=("budget", "seed", "row_id"),
    main=True,
)

GENERAL: Final = Contract(
    ("study/score",),
    "general",
    "Response NLL of some rows of the pool after the chosen training: what else the model has learned or forgotten",
    {**_CELL, "row_id": _POOL_ROW, "nll": NLL},
    sorted_by=("budget", "seed", "row_id"),
)


def _against(other: str) -> dict[str, Column]:
    """Columns of the comparison with a variant of that name; null for itself and where there is none."""
    minus = f"minus_{other}"
    return {
        minus: Column(pl.Float64, f"NLL less that of `{other}`: below 0 is better", nullable=True),
        f"{minus}_low": Column(
            pl.Float64,
            "Lower end of its 95 % interval over rows and seeds; the seeds' part is too narrow where they are 2 or 3",
            nullable=True,
        ),
        f"{minus}_high": Column(pl.Float64, "Upper end", nullable=True),
        f"n_better_than_{other}": _count("Domains whose interval lies below 0", nullable=True),
        f"n_like_{other}": _count("Domains whose interval holds 0", nullable=True),
        f"n_worse_than_{other}": _count("Domains whose interval lies above 0", nullable=True),
    }


LEADERBOARD: Final = Contract(
    ("study/leaderboard",),
    "leaderboard",
    "One row per study, part, budget, domain and variant: what it is worth, and beside what",
    {
        "study": _STUDY,
        "part": _PART,
        "budget": _BUDGET,
        "domain": Column(
            pl.String, "The target domain; or `all`, the mean over domains, of variants scored in every one"
        ),
        "variant": _VARIANT,
        "rank": _count("1 is the lowest NLL of the domain; of equals the first by name", minimum=1),
        "nll": _number("Mean over rows of the row's NLL, mean over seeds, nats per token"),
        "nll_by_token": _number("The same with every token weighing alike"),
        **_against("random"),
        **_against("less"),
        "accuracy": _number(
            "Share of rows with choices, or with an answer to generate, that were answered rightly",
            nullable=True,
            maximum=1,
        ),
        "general_nll": _number(
            "Mean NLL on rows of the pool that no variant took in the domain; above the base model's is forgetting",
            nullable=True,
        ),
        "n_domains": _count("Domains behind the row", minimum=1),
        "n_rows_scored": _count("Test rows", minimum=1),
        "n_seeds": _count("Seeds; over domains the fewest", minimum=1),
        "n_rows": _number("Rows trained on, mean over seeds; not every selector takes as many as asked"),
        "n_tokens": _number("Tokens trained on, epochs counted, mean over seeds"),
        "mean_response_tokens": _number(
            "Mean response length of the rows chosen; null of the base model", nullable=True
        ),
        "selection_s": _number("Seconds that one selection took; gradients and embeddings of the pool not counted"),
    },
    sorted_by=("study", "part", "budget", "domain", "rank"),
    main=True,
)

OVERLAP: Final = Contract(
    ("study/leaderboard",),
    "overlap",
    "How many rows two variants chose in common, at the smallest seed of each",
    {
        **_CHOICE,
        "other": Column(pl.String, "A variant that comes later by name"),
        "n_common": _count("Rows that both chose"),
        "jaccard": _number("Their share of the rows that either chose", maximum=1),
    },
    sorted_by=("study", "budget", "domain", "variant", "other"),
)

SOURCES: Final = Contract(
    ("study/leaderboard",),
    "sources",
    "Where the rows chosen come from; a row of several sources counts for each",
    {
        **_CHOICE,
        "source": Column(pl.String, "Source in instructions/pool"),
        "n_rows": _number("Rows from it, mean over seeds"),
        "share": _number("Share of the rows chosen", maximum=1),
        "pool_share": _number("Share of the pool's rows", maximum=1),
    },
    sorted_by=("study", "budget", "domain", "variant", "source"),
)


def _scored(by: str, **of_rows: type[pl.DataType]) -> pl.Struct:
    """Scores of some rows: what they were made by, the rows, values of each, and the tokens and time it took."""
    values = {name: pl.List(dtype) for name, dtype in of_rows.items()}
    return pl.Struct(
        {by: pl.String, "row_id": pl.List(pl.String), **values, "n_tokens": pl.Int64, "seconds": pl.Float64}
    )


CELLS: Final = Contract(
    (),
    "cells",
    "What trainings of a study were worth: one row per training, whichever variants chose its rows",
    {
        "digest": Column(pl.String, "SHA-256 of everything that determined the training", unique=True),
        "domain": Column(pl.String, "The target domain"),
        "n_rows": _count("Pool rows trained on; 0 is the base model"),
        "finetune": Column(pl.String, "Settings of the training, JSON"),
        "n_tokens": _count("Tokens of these rows times epochs"),
        "n_tokens_passed": _count("Tokens that passed through the model, those of validation too"),
        "best_epoch": _count("Epoch kept; 0 is the untouched base"),
        "validation_nll": Column(pl.List(pl.Float64), "Mean NLL of the validation rows at each epoch, the start first"),
        "seconds": _number("Wall-clock of the training"),
        "made": Column(pl.String, "When, by which revision, with which libraries, on what, JSON"),
        "scores": Column(
            _scored("test", nll=pl.Float64, n_response_tokens=pl.Int64, correct=pl.Boolean),
            "Losses and choices on test rows, `test` being the digest of these; null where it was not scored",
            nullable=True,
        ),
        "answers": Column(
            _scored("asked", right=pl.Boolean),
            "Whether generated answers to test rows without choices were right, `asked` being their digest",
            nullable=True,
        ),
        "general": Column(
            _scored("version", nll=pl.Float64),
            "Losses on rows of the pool, and the version of the scores",
            nullable=True,
        ),
    },
    sorted_by=("domain", "digest"),
)
"""Of a file beside the lake, under version control where the study says so; not a table of the lake."""
