"""Thin assets, one module per stage: read, one call into core, training or storage, return.

No computation belongs here, and no `from __future__ import annotations`, which breaks `dg.Config` parameters.
"""
