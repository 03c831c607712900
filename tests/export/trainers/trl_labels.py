"""What TRL trains on: `python trl_labels.py MODEL OUT SETTINGS FILE ...` writes ids and labels by file and row id.

Run by an interpreter that has TRL, which this project does not need. SETTINGS are those of the trainer, as JSON.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

model, out, settings, *files = sys.argv[1:]
trained = {}
with TemporaryDirectory() as scratch:
    own = {"output_dir": scratch, "report_to": [], "use_cpu": True, "bf16": False, "max_length": None}
    for file in files:
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(model),
            processing_class=AutoTokenizer.from_pretrained(model),
            train_dataset=load_dataset("json", data_files=file, split="train", cache_dir=scratch),
            args=SFTConfig(**own, **json.loads(settings)),
        )
        names, rows = ("input_ids", "labels"), trainer.train_dataset
        batches = {row["row_id"]: trainer.data_collator([{name: row[name] for name in names}]) for row in rows}
        trained[Path(file).stem] = {
            row: {name: batch[name][0].tolist() for name in names} for row, batch in batches.items()
        }
Path(out).write_text(json.dumps(trained))
