"""Rasters, vectors and their geography: the only rooms that know rasterio, pyogrio and shapely."""
