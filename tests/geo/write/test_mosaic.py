"""Finished tiles as one raster: the same file as from rows, whatever the cut."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from co2s_cli import tiling
from co2s_cli.classes import ClassMap
from co2s_cli.errors import OutputError
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.write.mosaic import make_mosaic, read_tile, tile_tags, write_tile
from co2s_cli.geo.write.raster import class_layer, fraction_layer, probability_layer, raster, unfinished

CLASSES = ClassMap.of(["water", "forest", "field"])
LAYERS = {
    "class": class_layer(CLASSES),
    "confidence": fraction_layer("confidence"),
    "probabilities": probability_layer(CLASSES, "float32"),
}


def bands_of(layer, height, width):
    values = np.random.default_rng(0).random((len(layer.names), height, width)) * 3
    return values.astype(layer.dtype)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("place", ["north-up", "points"])
@pytest.mark.parametrize("panel", [700, 512])
def test_tiles_and_rows_make_the_same_file(tmp_path, name, place, panel):
    height, width, layer = 600, 700, LAYERS[name]
    crs = CRS.from_epsg(32632)
    points = tuple(GroundControlPoint(row, col, 5e5 + col, 5e6 - row) for row in (0, 600) for col in (0, 700))
    grid = (
        Grid(height, width, Affine(2, 0, 5e5, 0, -2, 5e6), crs)
        if place == "north-up"
        else Grid(height, width, None, None, gcps=points, gcp_crs=crs)
    )
    bands, tags = bands_of(layer, height, width), {"CO2S_KEY": "x"}
    with raster(tmp_path / "rows.tif", grid=grid, layer=layer, tags=tags) as writer:
        writer.write(0, bands)
    tiles = {}
    for unit in tiling.blocks(height, width, band=512, panel=panel):
        tiles[unit] = tmp_path / f"{unit.row}-{unit.col}.tif"
        write_tile(tiles[unit], bands[:, unit.slices[0], unit.slices[1]], nodata=layer.nodata, tags={})
    path = tmp_path / "tiles.tif"
    with unfinished(path, layer) as part:
        make_mosaic(part, tiles, grid=grid, layer=layer, tags=tags, creation={})
        assert not path.exists()
    assert path.read_bytes() == (tmp_path / "rows.tif").read_bytes()
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), bands)


def test_a_tile_comes_back_with_its_tags_and_a_broken_one_is_none(tmp_path):
    path, bands = tmp_path / "tile.tif", bands_of(LAYERS["probabilities"], 20, 30)
    write_tile(path, bands, nodata=float("nan"), tags={"COUNTS": "[1, 2]"})
    assert tile_tags(path)["COUNTS"] == "[1, 2]"
    np.testing.assert_array_equal(read_tile(path, 5, 9), bands[:, 5:9])
    path.write_bytes(path.read_bytes()[:200])
    assert tile_tags(path) is None
    assert tile_tags(tmp_path / "none.tif") is None
    with pytest.raises(OutputError, match="could not be written"):
        write_tile(tmp_path / "none" / "tile.tif", bands, nodata=255, tags={})
