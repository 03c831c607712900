"""What tests share: rows, models, projects, vectors, processes and pages. No test is here, and no fixture."""
