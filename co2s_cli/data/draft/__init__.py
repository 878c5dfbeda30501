"""Draft a data.yaml from a file of labels: polygons and points, or a raster on the pixels of a scene."""
