"""What leaves the lake for other programs: training files and adapters with a model card."""
