"""The lake: sources, hashes, atomic versions with manifests, the gradient store, DuckDB views. No Dagster."""
