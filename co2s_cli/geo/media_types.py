"""Media types of output files, as object storage and STAC items name them."""

from __future__ import annotations

from pathlib import Path

COG = "image/tiff; application=geotiff; profile=cloud-optimized"

_BY_SUFFIX = {
    ".tif": COG,
    ".tiff": COG,
    ".png": "image/png",
    ".json": "application/geo+json",
    ".geojson": "application/geo+json",
    ".fgb": "application/vnd.flatgeobuf",
    ".gpkg": "application/geopackage+sqlite3",
    ".parquet": "application/vnd.apache.parquet",
}


def media_type(path: Path) -> str:
    """Media type of a file by its suffix."""
    return _BY_SUFFIX.get(path.suffix.lower(), "application/octet-stream")
