"""Imagery is written as it was given, with its bands named, whole or not at all."""

import numpy as np
import pytest
import rasterio

from co2s_cli.errors import OutputError
from co2s_cli.geo.write.raster import image, north_up

RGB = ("red", "green", "blue")


def grid(height, width):
    return north_up(height, width, epsg=32632, west=500_000, north=5_400_000, resolution=0.5)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("bands", [RGB, (*RGB, "nir"), ("nir",)], ids=len)
def test_what_is_written_in_parts_is_read_back_whole(tmp_path, bands, dtype):
    pixels = np.random.default_rng(0).integers(1, 250, (len(bands), 530, 70)).astype(dtype)
    with image(tmp_path / "a.tif", grid=grid(530, 70), bands=bands, dtype=dtype, nodata=0, tags={"k": "v"}) as out:
        out.write(512, 0, pixels[:, 512:])
        out.write(0, 0, pixels[:, :512])
        assert not (tmp_path / "a.tif").exists()
    with rasterio.open(tmp_path / "a.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), pixels)
        assert dataset.descriptions == bands
        assert dataset.nodata == 0
        assert dataset.crs.to_epsg() == 32632
        assert dataset.transform @ (2, 4) == (500_001, 5_399_998)
        assert dataset.block_shapes[0] == (512, 80)
        assert dataset.tags()["k"] == "v"
        assert "alpha" not in [meaning.name for meaning in dataset.colorinterp]
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_colour_bands_are_known_as_such(tmp_path):
    with image(tmp_path / "a.tif", grid=grid(8, 8), bands=(*RGB, "nir"), dtype="uint8", nodata=0, tags={}):
        pass
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert [meaning.name for meaning in dataset.colorinterp][:3] == list(RGB)


def test_an_exception_leaves_nothing_behind(tmp_path):
    def write_half():
        with image(tmp_path / "a.tif", grid=grid(20, 20), bands=RGB, dtype="uint8", nodata=0, tags={}) as out:
            out.write(0, 0, np.ones((3, 10, 20), np.uint8))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_made_is_an_output_error(tmp_path):
    with (
        pytest.raises(OutputError, match="could not be written"),
        image(tmp_path / "none" / "a.tif", grid=grid(9, 9), bands=RGB, dtype="uint8", nodata=0, tags={}),
    ):
        pass
