"""One module per stage: what its assets are made from and how; neither Dagster nor how versions are published."""
