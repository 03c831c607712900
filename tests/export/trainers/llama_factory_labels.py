"""What LLaMA-Factory trains on: `python llama_factory_labels.py MODEL OUT SETTINGS FILE ...`, by file and row id.

Run by an interpreter that has LLaMA-Factory, which this project does not need. Each file is looked up in the
`dataset_info.json` beside it; SETTINGS are those of a training, as JSON.
"""

import json
import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from tempfile import TemporaryDirectory

sys.modules["torchaudio"] = module_from_spec(ModuleSpec("torchaudio", None))  # for sounds alone, but imported

from llamafactory.data import get_dataset, get_template_and_fix_tokenizer  # noqa: E402
from llamafactory.hparams import get_train_args  # noqa: E402
from llamafactory.model import load_tokenizer  # noqa: E402

model, out, settings, *files = sys.argv[1:]
trained = {}
with TemporaryDirectory() as scratch:
    own = {"stage": "sft", "do_train": True, "finetuning_type": "lora", "template": "chatml", "cutoff_len": 100000}
    own |= {"model_name_or_path": model, "cache_dir": scratch, "output_dir": f"{scratch}/out", "report_to": "none"}
    for place in map(Path, files):
        where = {"dataset": place.stem, "dataset_dir": str(place.parent), "overwrite_cache": True}
        model_args, data_args, training_args, _, _ = get_train_args(own | where | json.loads(settings))
        tokenizer = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(tokenizer["tokenizer"], data_args)
        read = get_dataset(template, model_args, data_args, training_args, stage="sft", **tokenizer)["train_dataset"]
        rows = [json.loads(line)["row_id"] for line in place.read_text(encoding="utf-8").splitlines()]
        trained[place.stem] = {
            row: {name: made[name] for name in ("input_ids", "labels")} for row, made in zip(rows, read, strict=True)
        }
Path(out).write_text(json.dumps(trained))
