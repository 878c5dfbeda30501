"""Pseudo-labels: a model's candidates, filtered by confidence, agreement of the students and area."""
