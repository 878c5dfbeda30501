"""The picture of a map."""

import numpy as np
import pytest
from PIL import Image
from rasterio.transform import Affine
from support.rasters import noise, write_raster

from co2s_cli.classes import ClassMap
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.write.preview import ClassArea, class_areas, round_length, show_area, write_preview

CLASSES = ClassMap.of([{"name": "water", "color": [0, 0, 255]}, {"name": "fields", "color": [255, 255, 0]}])


def test_the_picture_shows_the_map_over_the_image_and_a_legend(tmp_path):
    image = write_raster(tmp_path / "scene.tif", noise((3, 300, 400), low=100, high=102))
    labels = np.zeros((300, 400), np.uint8)
    labels[:, 200:] = 1
    labels[:100, :] = 255
    map_path = write_raster(tmp_path / "map.tif", labels, nodata=255)
    target = tmp_path / "map.png"
    write_preview(target, scene=Scene.open(str(image)), map_path=map_path, classes=CLASSES, max_size=200)
    with Image.open(target) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    left, right, bare = pixels[100, 50], pixels[100, 150], pixels[20, 100]
    assert left[2] > left[0] + 100
    assert right[0] > right[2] + 100
    assert not np.array_equal(bare, left)
    assert (np.abs(pixels[:, 200:] - (0, 0, 255)).sum(axis=2) < 10).any()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.png", "map.tif", "scene.tif"]


@pytest.mark.parametrize("options", [{"bare": True}, {"transform": Affine(10, 0, 5e5, 0, 10, 5.4e6)}])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300)])
def test_any_scene_has_a_picture(tmp_path, options, shape):
    image = write_raster(tmp_path / "scene.tif", noise((1, *shape)), **options)
    map_path = write_raster(tmp_path / "map.tif", np.zeros(shape, np.uint8), nodata=255, **options)
    write_preview(tmp_path / "map.png", scene=Scene.open(str(image)), map_path=map_path, classes=CLASSES)
    assert (tmp_path / "map.png").stat().st_size > 1000


def test_areas_are_those_of_the_whole_map():
    grid = Grid(400, 800, Affine(10, 0, 500_000, 0, -10, 5_500_000), "EPSG:32633")
    labels = np.full((100, 200), 255, np.uint8)
    labels[:, :50] = 0
    labels[:, 50:60] = 1
    areas = class_areas(labels, grid, CLASSES)
    assert [area.share for area in areas] == pytest.approx([5 / 6, 1 / 6])
    assert areas[0].square_metres == pytest.approx(400 * 200 * 100, rel=2e-3)
    assert class_areas(labels, Grid(400, 800, grid.transform), CLASSES)[0].square_metres is None
    assert class_areas(np.full((1, 1), 255, np.uint8), grid, CLASSES)[0].share == 0


@pytest.mark.parametrize(("limit", "length"), [(1, 1), (1999, 1000), (2000, 2000), (0.7, 0.5), (49.9, 20), (99, 50)])
def test_scale_bars_have_round_lengths(limit, length):
    assert round_length(limit) == pytest.approx(length)


@pytest.mark.parametrize(
    ("metres", "words"),
    [(None, "25.0%"), (5e3, "0.50 ha  25.0%"), (4.2e6, "420 ha  25.0%"), (3.4e9, "3,400 km²  25.0%")],
)
def test_areas_are_said_in_fitting_units(metres, words):
    assert show_area(ClassArea(0.25, metres)) == words
