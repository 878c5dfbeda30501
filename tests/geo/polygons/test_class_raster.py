"""Windows of class rasters as ids."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from support.rasters import noise, write_raster

from co2s_cli.classes import IGNORE
from co2s_cli.errors import InputError
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.polygons.class_raster import ByteRasterReader, ClassRaster, confidence_scale
from co2s_cli.tiling import Window


@pytest.mark.parametrize("nodata", [None, 0, 7, IGNORE])
def test_a_window_is_what_lies_there_and_nodata_is_no_class(tmp_path, nodata):
    image = noise((30, 40), low=0, high=9)
    raster = ClassRaster.open(str(write_raster(tmp_path / "map.tif", image, nodata=nodata)))
    with raster.reader() as reader:
        found = reader.read(Window(3, 11, 20, 9))
    part = image[3:23, 11:20]
    np.testing.assert_array_equal(found, np.where(part == nodata, IGNORE, part))
    assert found.dtype == np.uint8


def test_a_mask_hides_classes(tmp_path):
    image, mask = noise((12, 12), low=0, high=9), np.full((12, 12), 255, np.uint8)
    mask[4:] = 0
    raster = ClassRaster.open(str(write_raster(tmp_path / "map.tif", image, mask=mask)))
    with raster.reader() as reader:
        found = reader.read(Window(0, 0, 12, 12))
    np.testing.assert_array_equal(found[:4], image[:4])
    assert (found[4:] == IGNORE).all()


def test_a_damaged_raster_is_told(tmp_path):
    path = write_raster(tmp_path / "map.tif", noise((300, 300)), compress="deflate")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"map\.tif: cannot be read"), ClassRaster.open(str(path)).reader() as reader:
        reader.read(Window(0, 0, 300, 300))


def test_a_confidence_in_floats_reads_as_predicts_bytes_do(tmp_path):
    steps = noise((1, 40, 50), low=0, high=256)
    fractions = np.where(steps == 255, np.nan, steps / 254).astype(np.float32)
    write_raster(tmp_path / "bytes.tif", steps, nodata=255)
    with rasterio.open(tmp_path / "bytes.tif", "r+") as dataset:
        dataset.scales = (1 / 254,)
    write_raster(tmp_path / "floats.tif", fractions, nodata=float("nan"))
    found = []
    for name in ("bytes.tif", "floats.tif"):
        with rasterio.open(tmp_path / name) as dataset:
            grid, rows = Grid.of(dataset), ByteRasterReader(dataset, name)
            scale = confidence_scale(str(tmp_path / name), grid)
            found.append((scale, rows.read(Window(3, 5, 20, 30)), *rows.valid_values(Window(10, 0, 10, 40))))
    assert found[0][0] == pytest.approx(found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    known = found[0][3]
    np.testing.assert_array_equal(known, found[1][3])
    np.testing.assert_array_equal(found[0][2][known], found[1][2][known])


def test_a_confidence_raster_has_the_same_grid_rule_as_labels(tmp_path):
    byte = np.zeros((1, 20, 30), np.uint8)
    grid = Grid(20, 30, Affine(10, 0, 500_000, 0, -10, 5_600_000), CRS.from_epsg(32632))
    write_raster(tmp_path / "near.tif", byte, transform=Affine.translation(1e-8, 0) @ grid.transform, crs=grid.crs)
    assert confidence_scale(str(tmp_path / "near.tif"), grid) == 1.0
    write_raster(tmp_path / "crs.tif", byte, transform=grid.transform, crs=CRS.from_epsg(32633))
    with pytest.raises(InputError, match="EPSG:32633, its class raster in EPSG:32632"):
        confidence_scale(str(tmp_path / "crs.tif"), grid)
    write_raster(tmp_path / "far.tif", byte, transform=Affine.translation(1, 0) @ grid.transform, crs=grid.crs)
    with pytest.raises(InputError, match=r"0\.1 pixels off its class raster"):
        confidence_scale(str(tmp_path / "far.tif"), grid)
