"""Tables of the stage `warmup`, and the training log that those of `finetune` are like."""

from typing import Final

import polars as pl

from g2is_assets.contracts.contract import Column, Contract, count, row_id
from g2is_assets.contracts.instructions import CONVERSATION

SAMPLE: Final = Contract(
    ("warmup/sample",),
    "sample",
    "The rows that warm the adapter up, whole, so that the checkpoint does not depend on later pools",
    {
        "row_id": row_id("The row in instructions/pool at the time of drawing", of="instructions/pool", unique=True),
        **CONVERSATION,
    },
    sorted_by=("row_id",),
    main=True,
    exposure="warmup",
)

CHECKPOINTS: Final = Contract(
    ("warmup/checkpoint",),
    "checkpoints",
    "The epochs whose weights and moments are kept, the last one last",
    {
        "epochs": Column(pl.Int64, "Passes over the rows by then", unique=True, minimum=1),
        "folder": Column(pl.String, "Where they lie within the version", unique=True),
        "learning_rate": Column(pl.Float64, "Mean rate of the epoch's steps, by which its cosines weigh", minimum=0),
    },
    sorted_by=("epochs",),
    pruned="whole",
)

TRAINING_LOG: Final = Contract(
    ("warmup/checkpoint",),
    "log",
    "One row per optimizer step or evaluation",
    {
        "step": count("Optimizer steps taken"),
        "epoch": Column(pl.Float64, "Passes over the rows", minimum=0),
        "train_loss": Column(pl.Float64, "Mean row loss of the step's batch, nats per token", nullable=True),
        "learning_rate": Column(pl.Float64, "Rate of the step", nullable=True),
        "validation_loss": Column(pl.Float64, "Mean row loss of the validation rows, nats per token", nullable=True),
    },
    main=True,
)
