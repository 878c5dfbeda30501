"""Turn a class raster of any size into polygons that share their edges exactly."""
