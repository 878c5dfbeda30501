"""A made scene with polygons of its classes, as a user draws them: `scene.tif` and `polygons.gpkg`."""

from pathlib import Path

import geopandas
import numpy as np
import shapely
from support.rasters import UTM, write_raster

SIDE = 128
BOXES = {
    "water": [(4, 4), (4, 40), (4, 80), (40, 4), (80, 4), (100, 100)],
    "Forest": [(24, 24), (24, 60), (24, 100), (60, 24), (100, 24), (64, 100)],
    "built-up": [(44, 44), (44, 84), (84, 44), (84, 84), (110, 60)],
}
"""Row and column of the polygons of each class, 10 × 10 pixels each."""


def polygon(row: float, col: float, side: float = 10) -> shapely.Polygon:
    """A square of `side` pixels whose upper left corner is at (row, col), in the scene's CRS."""
    (left, top), (right, bottom) = (UTM["transform"] @ xy for xy in ((col, row), (col + side, row + side)))
    return shapely.box(left, bottom, right, top)


def scene(path: Path, *, bands: int = 3, side: int = SIDE) -> Path:
    """A scene in which each class has a colour of its own."""
    pixels = np.random.default_rng(1).integers(90, 110, (bands, side, side)).astype(np.uint8)
    for index, boxes in enumerate(BOXES.values()):
        for row, col in boxes:
            pixels[index % bands, row : row + 12, col : col + 12] += 100
    write_raster(path, pixels)
    return path


def frame(**columns: list[object]) -> geopandas.GeoDataFrame:
    """The polygons with their class, and more columns."""
    rows = [(name, polygon(*corner)) for name, corners in BOXES.items() for corner in corners]
    values = {"class": [name for name, _ in rows], **columns}
    return geopandas.GeoDataFrame(values, geometry=[shape for _, shape in rows], crs=UTM["crs"])


def landcover(folder: Path) -> tuple[Path, Path]:
    """The scene and its polygons."""
    frame().to_file(folder / "polygons.gpkg")
    return scene(folder / "scene.tif"), folder / "polygons.gpkg"
