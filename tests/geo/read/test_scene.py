"""What a scene is, and what is refused before any compute."""

import math
import os

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.shutil import copy as copy_raster
from support.rasters import UTM, noise, write_raster

from co2s_cli.errors import InputError
from co2s_cli.geo.read.scene import Scene
from co2s_cli.tiling import Window

RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)


def refusal(path, **options):
    with pytest.raises(InputError) as caught:
        Scene.open(str(path), **options)
    assert str(path) in caught.value.message
    return caught.value


def test_a_scene_tells_its_facts(tmp_path):
    path = write_raster(tmp_path / "scene.tif", noise((4, 30, 40)), colors=RGBA)
    scene = Scene.open(str(path))
    assert (scene.height, scene.width, scene.dtype) == (30, 40, "uint8")
    assert scene.transform == UTM["transform"]
    assert scene.crs.to_epsg() == 32633
    assert (scene.bands, scene.names, scene.alpha) == ((1, 2, 3), ("red", "green", "blue"), 4)
    assert scene.ground_resolution == pytest.approx(10, rel=2e-3)
    assert scene.remarks() == []


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in refusal(tmp_path / "absent.tif").message


def test_a_text_file_is_no_raster(tmp_path):
    path = tmp_path / "scene.tif"
    path.write_text("not an image")
    assert "not recognized" in refusal(path).message


@pytest.mark.parametrize("options", [{}, {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}])
@pytest.mark.parametrize("kept", [0.5, 0.97])
def test_a_truncated_file_is_refused(tmp_path, options, kept):
    path = write_raster(tmp_path / "scene.tif", noise((3, 300, 300), seed=3), **options)
    os.truncate(path, int(path.stat().st_size * kept))
    assert "truncated" in refusal(path).message or "cannot be read" in refusal(path).message


@pytest.mark.parametrize("dtype", ["complex64", "int32", "float64"])
def test_other_sample_types_are_refused(tmp_path, dtype):
    path = write_raster(tmp_path / "scene.tif", noise((1, 8, 8)).astype(dtype))
    error = refusal(path)
    assert dtype in error.message
    assert "uint16" in error.message


@pytest.mark.parametrize("where", ["everywhere", "but one pixel"])
def test_a_scene_without_a_valid_pixel_is_refused_and_one_is_enough(tmp_path, where):
    array = np.zeros((2, 3000, 1500), np.uint8)
    array[1, 2321, 77] = where != "everywhere"
    path = write_raster(tmp_path / "scene.tif", array, nodata=0, compress="deflate", tiled=True)
    if where == "everywhere":
        assert "no valid pixel" in refusal(path).message
    else:
        assert Scene.open(str(path)).first_valid().tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("bands", "words"), [((1, 4), "has 3 bands"), (("nir",), "none or several of them called 'nir'"), ((0,), "band 0")]
)
def test_bands_that_are_not_there_are_refused(tmp_path, bands, words):
    assert words in refusal(write_raster(tmp_path / "scene.tif", noise((3, 8, 8))), bands=bands).message


def test_alpha_is_no_band_to_pick(tmp_path):
    path = write_raster(tmp_path / "scene.tif", noise((4, 8, 8)), colors=RGBA)
    assert "alpha" in refusal(path, bands=(1, 2, 4)).message


@pytest.mark.parametrize(
    ("name", "transform", "size"),
    [
        ("rotated", Affine.translation(5e5, 5.5e6) @ Affine.rotation(30) @ Affine.scale(2, -3), math.sqrt(6)),
        ("south-up", Affine(10, 0, 5e5, 0, 10, 5.4e6), 10),
    ],
)
def test_any_transform_is_read_as_it_stands(tmp_path, name, transform, size):
    array = noise((1, 20, 30))
    path = write_raster(tmp_path / f"{name}.tif", array, transform=transform)
    scene = Scene.open(str(path))
    assert scene.transform.almost_equals(transform)
    assert scene.ground_resolution == pytest.approx(size, rel=2e-3)
    with scene.reader() as reader:
        np.testing.assert_array_equal(reader.read(Window(0, 0, 20, 30)).pixels, array)


def test_degrees_and_web_mercator_are_metres_on_the_ground(tmp_path):
    degrees = write_raster(
        tmp_path / "d.tif", noise((1, 8, 8)), crs="EPSG:4326", transform=Affine(1e-4, 0, 10, 0, -1e-4, 60)
    )
    mercator = write_raster(
        tmp_path / "m.tif", noise((1, 8, 8)), crs="EPSG:3857", transform=Affine(10, 0, 1113194.9, 0, -10, 8399737.9)
    )
    width, height = Scene.open(str(degrees)).grid.ground_size()
    assert (width, height) == (pytest.approx(5.58, abs=0.01), pytest.approx(11.14, abs=0.01))
    assert Scene.open(str(mercator)).ground_resolution == pytest.approx(5, rel=5e-3)


def test_a_scene_without_crs_or_with_points_only_says_so(tmp_path):
    bare = Scene.open(str(write_raster(tmp_path / "bare.tif", noise((1, 8, 8)), bare=True)))
    assert bare.crs is None
    assert bare.ground_resolution is None
    assert "no georeference" in bare.remarks()[0]
    points = [GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100) for r in (0, 8) for c in (0, 8)]
    placed = Scene.open(str(write_raster(tmp_path / "gcps.tif", noise((1, 8, 8)), gcps=points, crs="EPSG:4326")))
    assert len(placed.grid.gcps) == 4
    assert "4 ground control points only" in placed.remarks()[0]
    assert "gdalwarp" in placed.remarks()[0]


def test_the_identity_follows_the_pixels(tmp_path):
    path = write_raster(tmp_path / "scene.tif", noise((1, 20, 20)))
    vrt = tmp_path / "scene.vrt"
    copy_raster(str(path), str(vrt), driver="VRT")
    before = [Scene.open(str(name)).identity for name in (path, vrt)]
    assert [Scene.open(str(name)).identity for name in (path, vrt)] == before
    assert before[0] != before[1]
    (tmp_path / "scene.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")  # as QGIS does
    assert Scene.open(str(path)).identity == before[0]
    with rasterio.open(path, "r+") as dataset:
        dataset.write(noise((1, 20, 20), seed=1))
    os.utime(path, ns=(1, 1))
    after = [Scene.open(str(name)).identity for name in (path, vrt)]
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_the_identity_is_the_same_under_another_path_to_the_folder(tmp_path):
    folder, names = tmp_path / "one", ("scene.tif", "scene.vrt")
    folder.mkdir()
    write_raster(folder / "scene.tif", noise((1, 20, 20)))
    copy_raster(str(folder / "scene.tif"), str(folder / "scene.vrt"), driver="VRT")
    before = [Scene.open(str(folder / name)).identity for name in names]
    mounted = folder.rename(tmp_path / "other")
    assert [Scene.open(str(mounted / name)).identity for name in names] == before


def test_the_identity_of_what_is_no_file_follows_its_pixels():
    source = "/vsimem/scene.tif"
    identities = []
    for seed in (0, 0, 1):
        write_raster(source, noise((1, 9, 9), seed=seed))
        identities.append(Scene.open(source).identity)
    assert identities[0] == identities[1] != identities[2]


@pytest.mark.parametrize("res", [10.0, 10.1])
def test_a_scene_of_the_resolution_wanted_stays_as_it_is(tmp_path, res):
    path = write_raster(tmp_path / "scene.tif", noise((1, 60, 60)))
    assert not Scene.open(str(path), res=res).is_resampled


def test_resampling_keeps_the_ground_and_sets_the_resolution(tmp_path):
    path = write_raster(tmp_path / "scene.tif", noise((1, 60, 90)))
    scene = Scene.open(str(path), res=30)
    assert scene.grid.shape == (20, 30)
    assert scene.original.shape == (60, 90)
    assert scene.grid.at(30, 20) == pytest.approx(scene.original.at(90, 60))
    assert scene.ground_resolution == pytest.approx(30, rel=2e-3)
    assert scene.on_original().grid == scene.original


def test_resampling_wants_a_crs(tmp_path):
    path = write_raster(tmp_path / "scene.tif", noise((1, 8, 8)), bare=True)
    assert "CRS" in refusal(path, res=2).message
