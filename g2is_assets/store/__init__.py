"""The lake: sources, hashes, atomic versions with manifests, shards of vectors, DuckDB views. No Dagster."""
