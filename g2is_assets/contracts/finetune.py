"""Tables of the stage `finetune`: what the baseline trained on, and every row's score under every model."""

from typing import Final

import polars as pl

from g2is_assets.contracts.contract import Column, Contract

BASELINE_ROWS: Final = Contract(
    "finetune/baseline rows",
    "The random subset, of the same size as the selected one",
    {
        "domain": Column(pl.String, "The target domain"),
        "row_id": Column(pl.String, "The row in instructions/pool", unique=True),
    },
    sorted_by=("row_id",),
)

SCORES: Final = Contract(
    "finetune/evaluation",
    "Response NLL of every evaluated row under every model: paired, so that differences can be tested",
    {
        "domain": Column(pl.String, "The target domain"),
        "split": Column(pl.String, "`test`; `validation` for a domain without test rows, and then only indicative"),
        "row_id": Column(pl.String, "The row in instructions/target"),
        "model": Column(pl.String, "`base`, `random` or `g2is`"),
        "nll": Column(pl.Float64, "Mean NLL over the response tokens, nats per token", minimum=0),
        "n_response_tokens": Column(pl.Int64, "Response tokens scored", minimum=1),
    },
    sorted_by=("model", "row_id"),
)

ANSWERS: Final = Contract(
    "finetune/evaluation answers",
    "What the models answer to the first rows evaluated: greedy, cut short, to be read and not to be counted",
    {
        "domain": Column(pl.String, "The target domain"),
        "row_id": Column(pl.String, "The row in instructions/target"),
        "model": Column(pl.String, "`base` or `g2is`"),
        "response": Column(pl.String, "What it generated, at most 64 tokens"),
    },
    sorted_by=("row_id", "model"),
)
