"""To the model's resolution."""

import numpy as np
import pytest
from PIL import Image
from support.rasters import noise, write_raster

from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.write.map_back import MapResampler
from co2s_cli.tiling import Window


@pytest.mark.parametrize("res", [5, 17, 30, 83])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_resampled_windows_are_pieces_of_the_resampled_scene(tmp_path, res, dtype):
    array = noise((2, 97, 131), dtype)
    scene = Scene.open(str(write_raster(tmp_path / "scene.tif", array)), res=res)
    height, width = scene.grid.shape
    whole = np.stack(
        [np.asarray(Image.fromarray(band.astype(np.float32)).resize((width, height), 2)) for band in array]
    )
    tolerance = 1 if dtype != "float32" else 0.05
    with scene.reader() as reader:
        for row in range(0, height, 7):
            for col in range(0, width, 11):
                window = Window(row, col, min(7, height - row), min(11, width - col))
                patch = reader.read(window)
                assert patch.pixels.dtype == dtype
                assert patch.valid.all()
                assert np.abs(patch.pixels - whole[(slice(None), *window.slices)]).max() <= tolerance


@pytest.mark.parametrize("res", [4, 30, 70])
def test_invalid_pixels_have_no_weight_and_every_valid_one_lies_in_a_valid_one(tmp_path, res):
    array = np.full((1, 60, 60), 100, np.uint8)
    array[0, np.random.default_rng(0).random((60, 60)) < 0.7] = 0
    scene = Scene.open(str(write_raster(tmp_path / "scene.tif", array, nodata=0)), res=res)
    with scene.reader() as reader:
        patch = reader.read(Window(0, 0, *scene.grid.shape))
    assert (patch.pixels == 100).all()
    back = MapResampler.of(scene)
    known = back.strip(patch.valid.astype(np.uint8), 0, 0, 60) if res > 10 else None
    assert known is None or (known[array[0] > 0] == 1).all()
