"""Pure maths on arrays and texts: projection, core knowledge, graph, walk and leakage. No files, models or Dagster."""
