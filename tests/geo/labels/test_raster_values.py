"""What a raster of labels holds, and what its file calls it."""

import numpy as np
import pytest
import rasterio
from support.rasters import write_raster

from co2s_cli.errors import InputError
from co2s_cli.geo.labels import raster_values
from co2s_cli.geo.labels.raster_values import read_values


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_pixels_are_counted_by_value_whatever_the_strips(tmp_path, monkeypatch, rows):
    values = np.random.default_rng(0).integers(0, 9, (20, 30)).astype("int16")
    values[values == 8] = 255
    write_raster(tmp_path / "labels.tif", values, nodata=7)
    monkeypatch.setattr(raster_values, "CHUNK_PIXELS", rows * 30)
    read = read_values(tmp_path / "labels.tif")
    assert read.counts == {value: int((values == value).sum()) for value in range(7)}
    assert list(read.counts) == sorted(read.counts)
    assert read.void == {7: int((values == 7).sum()), 255: int((values == 255).sum())}
    assert (read.pixels, read.names, read.colors) == (600, {}, {})


def test_nan_labels_nothing_and_whole_numbers_may_be_floats(tmp_path):
    values = np.array([[1, 2, np.nan], [2, -3, 70_000]], "float32")
    write_raster(tmp_path / "labels.tif", values, nodata=np.nan)
    read = read_values(tmp_path / "labels.tif")
    assert read.counts == {-3: 1, 1: 1, 2: 2, 70_000: 1}
    assert read.void == {255: 0}


def test_names_come_from_the_categories_of_gdal_and_blank_ones_are_none(tmp_path):
    write_raster(tmp_path / "labels.tif", np.arange(4, dtype="uint8").reshape(2, 2))
    names = "".join(f"<Category>{name}</Category>" for name in ("", "water", "class 2"))
    text = f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames></PAMRasterBand></PAMDataset>'
    (tmp_path / "labels.tif.aux.xml").write_text(text)
    assert read_values(tmp_path / "labels.tif").names == {1: "water", 2: "class 2"}


def test_a_palette_gives_colours_and_the_black_that_fills_it_none(tmp_path):
    write_raster(tmp_path / "labels.tif", np.arange(4, dtype="uint8").reshape(2, 2))
    with rasterio.open(tmp_path / "labels.tif", "r+") as dataset:
        dataset.write_colormap(1, {1: (10, 20, 30), 3: (40, 50, 60)})
    assert read_values(tmp_path / "labels.tif").colors == {1: (10, 20, 30), 3: (40, 50, 60)}
    write_raster(tmp_path / "grey.tif", np.arange(4, dtype="uint8").reshape(2, 2))
    assert read_values(tmp_path / "grey.tif").colors == {}


def test_infinity_is_no_value_of_a_class(tmp_path):
    write_raster(tmp_path / "labels.tif", np.array([[1, 2, np.inf]], "float32"))
    with pytest.raises(InputError, match="inf is no whole number"):
        read_values(tmp_path / "labels.tif")
    write_raster(tmp_path / "labels.tif", np.array([[1, 2, np.inf, 0.5]], "float32"), nodata=np.inf)
    with pytest.raises(InputError, match=r"0\.5 is no whole number"):
        read_values(tmp_path / "labels.tif")


def test_an_image_is_no_raster_of_labels(tmp_path):
    write_raster(tmp_path / "many.tif", np.arange(400, dtype="uint16").reshape(20, 20))
    with pytest.raises(InputError, match=r"many.tif: more than 255 different values found"):
        read_values(tmp_path / "many.tif")
    write_raster(tmp_path / "height.tif", np.full((4, 4), 1.25, "float32"))
    with pytest.raises(InputError, match=r"height.tif: 1.25 is no whole number"):
        read_values(tmp_path / "height.tif")
    write_raster(tmp_path / "rgb.tif", np.zeros((3, 4, 4), "uint8"))
    with pytest.raises(InputError, match=r"rgb.tif: 3 bands found, a raster of labels has one"):
        read_values(tmp_path / "rgb.tif")
