"""Everything that Dagster sees: definitions, assets, checks, jobs, schedules, the sensor and metadata.

No `from __future__ import annotations` here, which breaks `dg.Config` parameters.
"""
