"""Bergson's half of bergson_comparison.py: run by bergson's own interpreter, so nothing of this project is imported.

    python benchmarks/bergson_side.py job.json

Uses bergson's public parts as its `bergson build` does: its loader, its bin packing, its hooks and its loop. Rows come
as token ids with a label mask, gradients stay in memory. A job with `projection_dim` 0 saves whole gradients.
"""

import importlib.metadata
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from bergson import CollectorComputer, GradientProcessor, IndexConfig, InMemoryCollector
from bergson.data import allocate_batches
from bergson.gradients import AdamNormalizer
from bergson.utils.worker_utils import setup_model_and_peft
from datasets import Dataset
from safetensors.torch import load_file, save_file

PACKAGES = ("bergson", "torch", "transformers", "peft")


def main() -> None:
    """Run one job and write its result."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    rows = json.loads(Path(job["rows"]).read_text())
    cfg = IndexConfig(
        run_path=str(Path(job["result"]).with_suffix("")),
        model=job["adapter"],
        precision={"float32": "fp32", "bfloat16": "bf16"}[job["compute"]],
        projection_dim=job["projection_dim"],
        loss_reduction="mean",
    )
    cfg.partial_run_path.mkdir(parents=True)
    model, targets = setup_model_and_peft(cfg)
    model.eval()
    frozen = job["frozen_embeddings"]
    if frozen:
        model.enable_input_require_grads()
    processor = GradientProcessor(
        normalizers(Path(job["moments"]), targets) if job["adam"] else {},
        projection_dim=cfg.projection_dim or None,
    )
    # One small pass first: projection matrices are made once per store and kept by the processor.
    collect(model, targets, processor, cfg, rows[:2], job["batch_tokens"][0], frozen)
    seconds = []
    for batch_tokens in job["batch_tokens"]:
        begun = time.perf_counter()
        collector = collect(model, targets, processor, cfg, rows, batch_tokens, frozen)
        seconds.append(time.perf_counter() - begun)
    if not job["projection_dim"]:
        whole = {f"base_model.{n.removesuffix('.default')}.weight": g for n, g in collector.gradients.items()}
        save_file({n: g.contiguous() for n, g in whole.items()}, Path(job["result"]).with_suffix(".safetensors"))
    result = {
        "seconds": seconds,
        "losses": collector.per_doc_losses.tolist(),
        "feature_size": sum(gradient.shape[1] for gradient in collector.gradients.values()),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    Path(job["result"]).write_text(json.dumps(result))


def collect(
    model: Any,
    targets: set[str],
    processor: GradientProcessor,
    cfg: IndexConfig,
    rows: list[dict],
    batch_tokens: int,
    frozen: bool,
) -> InMemoryCollector:
    """One pass over the rows; the collector holds gradients and losses."""
    model.get_input_embeddings().requires_grad_(True)
    data = Dataset.from_dict({key: [row[key] for row in rows] for key in ("input_ids", "labels")})
    collector = InMemoryCollector(
        model=model.base_model, data=data, cfg=cfg, processor=processor, target_modules=targets
    )
    # The collector reads its dtype from a trainable parameter, so the embeddings are frozen only after it is made.
    model.get_input_embeddings().requires_grad_(not frozen)
    batches = allocate_batches([len(row["input_ids"]) for row in rows], batch_tokens)
    CollectorComputer(model, data, collector=collector, batches=batches, cfg=cfg).run_with_collector_hooks()
    return collector


def normalizers(moments: Path, targets: set[str]) -> dict[str, AdamNormalizer]:
    """Adam's second moments of the warmup by bergson's module names."""
    prefix = "exp_avg_sq/base_model."
    named = {
        f"{key.removeprefix(prefix).removesuffix('.weight')}.default": AdamNormalizer(tensor)
        for key, tensor in load_file(moments).items()
        if key.startswith(prefix)
    }
    if named.keys() != targets:  # bergson leaves a layer without a normalizer as it is, and says nothing
        raise SystemExit(f"moments do not fit bergson's layers: {sorted(named.keys() ^ targets)[:4]}")
    return named


if __name__ == "__main__":
    main()
