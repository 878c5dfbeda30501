"""Pseudo-labels: candidates of a model, cut by confidence, agreement and area."""
