"""One sliding window for every command that runs a model over a scene."""
