"""Pure maths on arrays: projection, core knowledge, graph and walk. No files, models or Dagster."""
