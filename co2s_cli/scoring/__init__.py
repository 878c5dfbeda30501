"""Scores maps and models against the truth: counts block by block, figures from the counts, reports."""
