"""Tables of the stage `finetune`: what the baseline trained on, and every row's score under every model."""

from dataclasses import replace
from typing import Final

import polars as pl

from g2is_assets.contracts.contract import DOMAIN, Column, Contract, row_id
from g2is_assets.contracts.warmup import TRAINING_LOG

ADAPTER_LOG: Final = replace(TRAINING_LOG, assets=("finetune/adapter",))
BASELINE_LOG: Final = replace(TRAINING_LOG, assets=("finetune/baseline",), main=False)

BASELINE_ROWS: Final = Contract(
    ("finetune/baseline",),
    "rows",
    "The random subset, of the same size as the selected one",
    {"domain": DOMAIN, "row_id": row_id("The row in instructions/pool", of="instructions/pool", unique=True)},
    sorted_by=("row_id",),
    main=True,
    pruned="whole",
    exposure="random baseline",
)

TARGET_ROW: Final = row_id("The row in instructions/target", of="instructions/target")
NLL: Final = Column(pl.Float64, "Mean NLL over the response tokens, nats per token", minimum=0)
RESPONSE_TOKENS: Final = Column(pl.Int64, "Response tokens scored", minimum=1)

MODEL: Final = Column(
    pl.String, "`base`, `random`, `g2is`, or `served`: another adapter, whose place this one takes or would take"
)

SCORES: Final = Contract(
    ("finetune/evaluation",),
    "evaluation",
    "Response NLL of every evaluated row under every model: paired, so that differences can be tested",
    {
        "domain": DOMAIN,
        "split": Column(
            pl.String, "`test`; `validation` for a domain without test rows, and then only indicative", kept=True
        ),
        "row_id": TARGET_ROW,
        "model": MODEL,
        "nll": NLL,
        "n_response_tokens": RESPONSE_TOKENS,
        "right": Column(
            pl.Boolean,
            "Whether the likeliest of the row's choices is its answer; without choices, whether the generated one is; "
            "null where it was not asked",
            nullable=True,
        ),
    },
    sorted_by=("model", "row_id"),
    main=True,
)

VALIDATION: Final = Contract(
    ("finetune/evaluation",),
    "validation",
    "The same of every validation row: what decides whether the adapter is served, where that is bound to its worth",
    {"domain": DOMAIN, "row_id": TARGET_ROW, "model": MODEL, "nll": NLL, "n_response_tokens": RESPONSE_TOKENS},
    sorted_by=("model", "row_id"),
)

ANSWERS: Final = Contract(
    ("finetune/evaluation",),
    "answers",
    "What the models answer to some of the rows evaluated: greedy, cut short, to be read and not to be counted",
    {
        "domain": DOMAIN,
        "row_id": TARGET_ROW,
        "model": Column(pl.String, "`base` or `g2is`"),
        "chosen": Column(
            pl.String,
            "Why it is shown, by the change of its loss from base model to adapter: `best`, `typical` or `worst`",
        ),
        "response": Column(pl.String, "What it generated", text=True),
        "right": Column(pl.Boolean, "Whether it gives the right answer, where the row has one", nullable=True),
    },
    sorted_by=("row_id", "model"),
)
