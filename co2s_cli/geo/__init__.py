"""Rasters, vectors and their georeference. Only modules of this package import rasterio, pyogrio and shapely."""
