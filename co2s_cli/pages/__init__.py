"""Self-contained HTML pages: a map to explore, or a training run with its curves and scores."""
