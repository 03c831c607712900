"""Models: loading, warmup, per-example gradients, finetuning and evaluation. No Dagster, no lake layout."""
