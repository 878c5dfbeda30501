"""Write rasters, vectors and pictures, each whole or not at all."""
