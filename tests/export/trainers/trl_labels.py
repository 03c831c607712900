"""What TRL trains on: `python trl_labels.py MODEL FILE OUT [SETTING=true ...]` writes ids and labels by row id.

Run by an interpreter that has TRL, which this project does not need.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

model, file, out, *settings = sys.argv[1:]
with TemporaryDirectory() as scratch:
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        processing_class=AutoTokenizer.from_pretrained(model),
        train_dataset=load_dataset("json", data_files=file, split="train", cache_dir=scratch),
        args=SFTConfig(
            output_dir=scratch,
            report_to=[],
            use_cpu=True,
            bf16=False,
            max_length=None,
            **{name: json.loads(value) for name, _, value in (setting.partition("=") for setting in settings)},
        ),
    )
    trained = {}
    for row in trainer.train_dataset:
        batch = trainer.data_collator([{name: row[name] for name in ("input_ids", "labels")}])
        trained[row["row_id"]] = {name: batch[name][0].tolist() for name in ("input_ids", "labels")}
Path(out).write_text(json.dumps(trained))
