"""Stored results in words and pictures for people; no Dagster, nothing computed anew."""
