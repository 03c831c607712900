"""What LLaMA-Factory trains on: `python llama_factory_labels.py MODEL FILE OUT [SETTING=true ...]`, by row id.

Run by an interpreter that has LLaMA-Factory, which this project does not need. FILE is looked up in the
`dataset_info.json` beside it.
"""

import json
import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from tempfile import TemporaryDirectory

sys.modules["torchaudio"] = module_from_spec(ModuleSpec("torchaudio", None))  # reads sounds, and wants CUDA

from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer

model, file, out, *settings = sys.argv[1:]
place = Path(file)
with TemporaryDirectory() as scratch:
    given = {
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "model_name_or_path": model,
        "dataset": place.stem,
        "dataset_dir": str(place.parent),
        "template": "chatml",
        "cutoff_len": 100000,
        "cache_dir": scratch,
        "output_dir": scratch + "/out",
        "overwrite_cache": True,
        "report_to": "none",
    }
    given |= {name: json.loads(value) for name, _, value in (setting.partition("=") for setting in settings)}
    model_args, data_args, training_args, _, _ = get_train_args(given)
    tokenizer = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(tokenizer["tokenizer"], data_args)
    read = get_dataset(template, model_args, data_args, training_args, stage="sft", **tokenizer)["train_dataset"]
    rows = [json.loads(line)["row_id"] for line in place.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len(read), "rows were skipped"
    trained = {
        row: {name: made[name] for name in ("input_ids", "labels")} for row, made in zip(rows, read, strict=True)
    }
Path(out).write_text(json.dumps(trained))
