"""What Axolotl trains on: `python axolotl_labels.py MODEL OUT SETTINGS FILE ...`, by file and row id.

Run by an interpreter that has Axolotl, which this project does not need. Its block for a file lies beside it; SETTINGS,
as JSON, are what stands beside the block.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from axolotl.prompt_strategies.chat_template import StrategyLoader
from axolotl.utils.dict import DictDefault
from axolotl.utils.schemas.datasets import SFTDataset
from datasets import load_dataset
from transformers import AutoTokenizer

model, out, settings, *files = sys.argv[1:]
trained = {}
for file in files:
    block = yaml.safe_load(Path(file).with_suffix(".axolotl.yaml").read_text(encoding="utf-8"))
    (said,) = block.pop("datasets")
    assert said.keys() <= SFTDataset.model_fields.keys(), "keys that Axolotl does not know"
    assert (said["path"], said["type"]) == (Path(file).name, "chat_template")
    dataset = SFTDataset(**said).model_dump(exclude_none=True)
    cfg = DictDefault(block | {"train_on_inputs": False, "sequence_len": 100000} | json.loads(settings))
    strategy = StrategyLoader()(AutoTokenizer.from_pretrained(model), cfg, dataset)
    with TemporaryDirectory() as scratch:
        read = load_dataset(dataset["ds_type"], data_files=file, split="train", cache_dir=scratch)
        made = {row["row_id"]: strategy.tokenize_prompt(row) for row in read}
    trained[Path(file).stem] = {
        row: {name: list(ids[name]) for name in ("input_ids", "labels")} for row, ids in made.items()
    }
Path(out).write_text(json.dumps(trained))
