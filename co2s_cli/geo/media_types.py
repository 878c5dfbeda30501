"""What files are called where they are named by type: in object storage, in STAC items."""

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
    """The type of a file by its suffix."""
    return _BY_SUFFIX.get(path.suffix.lower(), "application/octet-stream")
