"""Rasters, vectors and pictures out, whole or not at all."""
