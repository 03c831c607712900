"""Gradient-based graph instruction selection (G2IS) as Dagster assets."""

__version__ = "0.1.0"
