"""Tables of the stage `study`: what every selector chose, what training on it was worth, and who is ahead."""

from typing import Final

import polars as pl

from g2is_assets.contracts.contract import DOMAIN, Column, Contract, row_id

_CELL: Final = {
    "study": Column(pl.String, "The study"),
    "domain": DOMAIN,
    "variant": Column(pl.String, "Entry of the study: a selector with its options"),
    "budget": Column(pl.Float64, "As the study says: below 1 a share of the pool, from 1 up rows", minimum=0),
    "seed": Column(pl.Int64, "Of selectors that draw, and of the training", minimum=0),
}

SUBSET: Final = Contract(
    ("study/subset",),
    "subset",
    "The rows that a variant chose, for every budget and seed, in order",
    {
        **_CELL,
        "order": Column(pl.Int64, "0 is the first row taken", minimum=0),
        "row_id": row_id("The row in instructions/pool", of="instructions/pool"),
        "score": Column(pl.Float64, "What it was chosen by; null where the selector has no score", nullable=True),
    },
    sorted_by=("budget", "seed", "order"),
    main=True,
    pruned="whole",
    exposure="trained on",
)

ADAPTER: Final = Contract(
    ("study/adapter",),
    "adapter",
    "Every training of a variant: one for each budget, seed and rate tried",
    {
        **_CELL,
        "learning_rate": Column(pl.Float64, "Peak rate of the training", minimum=0),
        "chosen": Column(pl.Boolean, "Whether this rate had the lowest validation NLL at the first seed"),
        "cell": Column(pl.String, "Digest of everything that determined the training"),
        "n_rows": Column(pl.Int64, "Rows trained on", minimum=0),
        "n_tokens": Column(pl.Int64, "Tokens that passed through the training", minimum=0),
        "best_epoch": Column(pl.Int64, "Epoch kept; 0 is the untouched base", minimum=0),
        "validation_nll": Column(
            pl.Float64, "Mean NLL of the validation rows at that epoch, nats per token", minimum=0
        ),
        "seconds": Column(pl.Float64, "Wall-clock of training and scoring, on the machine that did it", minimum=0),
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
        "row_id": row_id("The row in instructions/target", of="instructions/target"),
        "part": Column(pl.String, "`development`: shown while choices are made; `final`: opened once"),
        "nll": Column(pl.Float64, "Mean NLL over the response tokens, nats per token", minimum=0),
        "n_response_tokens": Column(pl.Int64, "Response tokens scored", minimum=1),
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
    {
        **_CELL,
        "row_id": row_id("The row in instructions/pool", of="instructions/pool"),
        "nll": Column(pl.Float64, "Mean NLL over the response tokens, nats per token", minimum=0),
    },
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
        f"n_better_than_{other}": Column(pl.Int64, "Domains whose interval lies below 0", nullable=True, minimum=0),
        f"n_like_{other}": Column(pl.Int64, "Domains whose interval holds 0", nullable=True, minimum=0),
        f"n_worse_than_{other}": Column(pl.Int64, "Domains whose interval lies above 0", nullable=True, minimum=0),
    }


LEADERBOARD: Final = Contract(
    ("study/leaderboard",),
    "leaderboard",
    "One row per study, part, budget, domain and variant: what it is worth, and beside what",
    {
        "study": _CELL["study"],
        "part": SCORES.columns["part"],
        "budget": _CELL["budget"],
        "domain": Column(
            pl.String, "The target domain; or `all`, the mean over domains, of variants scored in every one"
        ),
        "variant": _CELL["variant"],
        "rank": Column(pl.Int64, "1 is the lowest NLL of the domain; of equals the first by name", minimum=1),
        "nll": Column(pl.Float64, "Mean over rows of the row's NLL, mean over seeds, nats per token", minimum=0),
        "nll_by_token": Column(pl.Float64, "The same with every token weighing alike", minimum=0),
        **_against("random"),
        **_against("less"),
        "accuracy": Column(
            pl.Float64,
            "Share of rows with choices, or with an answer to generate, that were answered rightly",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        "general_nll": Column(
            pl.Float64,
            "Mean NLL on rows of the pool that no variant took in the domain; above the base model's is forgetting",
            nullable=True,
            minimum=0,
        ),
        "n_domains": Column(pl.Int64, "Domains behind the row", minimum=1),
        "n_rows_scored": Column(pl.Int64, "Test rows", minimum=1),
        "n_seeds": Column(pl.Int64, "Seeds; over domains the fewest", minimum=1),
        "n_rows": Column(
            pl.Float64, "Rows trained on, mean over seeds; not every selector takes as many as asked", minimum=0
        ),
        "n_tokens": Column(pl.Float64, "Tokens trained on, epochs counted, mean over seeds", minimum=0),
        "mean_response_tokens": Column(
            pl.Float64, "Mean response length of the rows chosen; null of the base model", nullable=True, minimum=0
        ),
        "selection_s": Column(
            pl.Float64, "Seconds that one selection took; gradients and embeddings of the pool not counted", minimum=0
        ),
    },
    sorted_by=("study", "part", "budget", "domain", "rank"),
    main=True,
)

OVERLAP: Final = Contract(
    ("study/leaderboard",),
    "overlap",
    "How many rows two variants chose in common, at the smallest seed of each",
    {
        "study": _CELL["study"],
        "budget": _CELL["budget"],
        "domain": _CELL["domain"],
        "variant": _CELL["variant"],
        "other": Column(pl.String, "A variant that comes later by name"),
        "n_common": Column(pl.Int64, "Rows that both chose", minimum=0),
        "jaccard": Column(pl.Float64, "Their share of the rows that either chose", minimum=0, maximum=1),
    },
    sorted_by=("study", "budget", "domain", "variant", "other"),
)

SOURCES: Final = Contract(
    ("study/leaderboard",),
    "sources",
    "Where the rows chosen come from; a row of several sources counts for each",
    {
        "study": _CELL["study"],
        "budget": _CELL["budget"],
        "domain": _CELL["domain"],
        "variant": _CELL["variant"],
        "source": Column(pl.String, "Source in instructions/pool"),
        "n_rows": Column(pl.Float64, "Rows from it, mean over seeds", minimum=0),
        "share": Column(pl.Float64, "Share of the rows chosen", minimum=0, maximum=1),
        "pool_share": Column(pl.Float64, "Share of the pool's rows", minimum=0, maximum=1),
    },
    sorted_by=("study", "budget", "domain", "variant", "source"),
)


CELLS: Final = Contract(
    (),
    "cells",
    "What trainings of a study were worth: one row per training, whichever variants chose its rows",
    {
        "digest": Column(pl.String, "SHA-256 of everything that determined the training", unique=True),
        "domain": Column(pl.String, "The target domain"),
        "n_rows": Column(pl.Int64, "Pool rows trained on; 0 is the base model", minimum=0),
        "finetune": Column(pl.String, "Settings of the training, JSON"),
        "n_tokens": Column(pl.Int64, "Tokens of these rows times epochs", minimum=0),
        "n_tokens_passed": Column(pl.Int64, "Tokens that passed through the model, those of validation too", minimum=0),
        "best_epoch": Column(pl.Int64, "Epoch kept; 0 is the untouched base", minimum=0),
        "validation_nll": Column(pl.List(pl.Float64), "Mean NLL of the validation rows at each epoch, the start first"),
        "seconds": Column(pl.Float64, "Wall-clock of the training", minimum=0),
        "made": Column(pl.String, "When, by which revision, with which libraries, on what, JSON"),
        "scores": Column(
            pl.Struct(
                {
                    "test": pl.String,
                    "row_id": pl.List(pl.String),
                    "nll": pl.List(pl.Float64),
                    "n_response_tokens": pl.List(pl.Int64),
                    "correct": pl.List(pl.Boolean),
                    "n_tokens": pl.Int64,
                    "seconds": pl.Float64,
                }
            ),
            "Losses and choices on test rows, `test` being the digest of these; null where it was not scored",
            nullable=True,
        ),
        "answers": Column(
            pl.Struct(
                {
                    "asked": pl.String,
                    "row_id": pl.List(pl.String),
                    "right": pl.List(pl.Boolean),
                    "n_tokens": pl.Int64,
                    "seconds": pl.Float64,
                }
            ),
            "Whether generated answers to test rows without choices were right, `asked` being their digest",
            nullable=True,
        ),
        "general": Column(
            pl.Struct(
                {
                    "version": pl.String,
                    "row_id": pl.List(pl.String),
                    "nll": pl.List(pl.Float64),
                    "n_tokens": pl.Int64,
                    "seconds": pl.Float64,
                }
            ),
            "Losses on rows of the pool, and the version of the scores",
            nullable=True,
        ),
    },
    sorted_by=("domain", "digest"),
)
"""Of a file beside the lake, under version control where the study says so; not a table of the lake."""
