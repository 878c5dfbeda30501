"""One HTML file without network: a map to look at, and a training run to judge."""
