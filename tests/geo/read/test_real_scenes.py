"""Real rasters from open repositories, with their traps (they lie beside the project; skipped where they do not)."""

from types import SimpleNamespace

import numpy as np
import pytest
import rasterio

from co2s_cli.classes import ClassMap
from co2s_cli.errors import InputError
from co2s_cli.geo.read.scaling import scaling_for
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.write.map_back import MapResampler
from co2s_cli.geo.write.raster import class_layer, raster
from co2s_cli.tiling import Window

pytestmark = pytest.mark.slow

NAMES = [
    "f32x10_hls_utm14n_nodata-9999", "i16_albers_nodata-9999", "u16_dateline_utm60n_2325x2355", "u16_gcps_only_nocrs",
    "u16x3_utm18n_mosaic1", "u8rgb_jpeg_epsg4326_1500x1500", "u8rgb_rasterio_RGB.byte_utm18n",
    "u8rgb_sentinel2_tci_utm34n_nodata0", "u8rgba_drone_fotomap_utm33n_2cm", "u8x31_above_esri102001_nodata255",
    "u8x4_naip_2016_utm14n_nad83",
]  # fmt: skip


@pytest.fixture(params=NAMES)
def path(request, shared):
    return shared / "data" / "scenes" / f"{request.param}.tif"


def test_pixels_and_masks_are_rasterios(path):
    scene = Scene.open(str(path))
    with rasterio.open(path) as dataset, scene.reader() as reader:
        area = (slice(100, 220), slice(50, 210))
        patch = reader.read(Window(100, 50, 120, 160))
        window = rasterio.windows.Window.from_slices(*area)
        expected = dataset.read(scene.bands, window=window)
        np.testing.assert_array_equal(reader.valid(Window(0, 0, *scene.grid.shape)), dataset.dataset_mask() > 0)
        np.testing.assert_array_equal(patch.pixels[:, patch.valid], expected[:, patch.valid])
        assert scene.transform == dataset.transform
        assert scene.crs == dataset.crs


def test_a_map_of_it_lies_where_it_lies(path, tmp_path):
    scene = Scene.open(str(path))
    with scene.reader() as reader:
        valid = reader.valid(Window(0, 0, *scene.grid.shape))
    with raster(tmp_path / "m.tif", grid=scene.grid, layer=class_layer(ClassMap.of(["a"])), tags={}) as writer:
        writer.write(0, np.where(valid, 0, 255).astype(np.uint8))
    found = Scene.open(str(tmp_path / "m.tif"))
    assert found.grid.shape == scene.grid.shape
    assert found.transform.almost_equals(scene.transform)
    assert found.crs == scene.crs
    assert len(found.grid.gcps) == len(scene.grid.gcps)


@pytest.mark.parametrize("factor", [0.6, 3.7])
def test_every_valid_pixel_comes_back_from_the_models_resolution(path, factor):
    scene = Scene.open(str(path), bands=(1,))
    if scene.ground_resolution is None:
        with pytest.raises(InputError, match="CRS"):
            scene.resampled(1)
        return
    resampled = scene.resampled(scene.ground_resolution * factor)
    with scene.reader() as reader, resampled.reader() as coarse:
        own = Window(0, 0, *scene.grid.shape)
        valid, patch = reader.valid(own), coarse.read(Window(0, 0, *resampled.grid.shape))
    back = MapResampler.of(resampled).strip(np.where(patch.valid, 0, 255).astype(np.uint8), 0, 0, scene.height)
    assert (back[valid] == 0).all()


def test_the_scaling_of_it_spans_its_values(path):
    scene = Scene.open(str(path))
    scaling = scaling_for(scene, "auto", SimpleNamespace(headroom=0.0))
    patch = scene.overview(500)
    scaled = scaling.apply(patch.pixels)[:, patch.valid]
    assert (scaled.min(), scaled.max()) == (0, 1) if scene.dtype != "uint8" else (scaled <= 1).all()
