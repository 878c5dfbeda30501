"""Windows of class rasters as ids."""

import numpy as np
import pytest
from support.rasters import noise, write_raster

from co2s_cli.classes import IGNORE
from co2s_cli.errors import InputError
from co2s_cli.geo.class_raster import ClassRaster
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
