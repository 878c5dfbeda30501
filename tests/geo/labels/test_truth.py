"""Truth on any grid, brought to the map's pixels."""

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.warp import Resampling, reproject
from support.rasters import UTM, write_raster

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.errors import InputError
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.labels.truth import open_truth, truth_legend
from co2s_cli.tiling import Window

CLASSES = ClassMap.of(["a", "b", "c"])
SHAPE = (60, 80)


@pytest.fixture
def grid(tmp_path):
    path = write_raster(tmp_path / "map.tif", np.zeros(SHAPE, np.uint8))
    with rasterio.open(path) as dataset:
        return Grid.of(dataset)


def opened(path, grid, **options):
    return open_truth(path, grid, CLASSES, **{"attribute": "class", "values": {}, **options})


def read(truth, window=None):
    with truth.labels.reader() as reader:
        return reader.read(window or Window(0, 0, *SHAPE))


def labels(height, width, seed=0):
    found = np.random.default_rng(seed).integers(0, 4, (height, width)).astype(np.uint8)
    found[found == 3] = IGNORE
    return found


def test_the_maps_own_grid_is_read_as_it_is(tmp_path, grid):
    image = labels(*SHAPE)
    truth = opened(write_raster(tmp_path / "t.tif", image, nodata=IGNORE), grid)
    np.testing.assert_array_equal(read(truth), image)
    assert truth.remarks == ()
    assert truth.window == Window(0, 0, *SHAPE)


PLACES = {
    "a part": (30, 40, UTM["transform"] @ Affine.translation(20, 10), "EPSG:32633"),
    "coarser": (24, 20, UTM["transform"] @ Affine.scale(3.7), "EPSG:32633"),
    "finer and turned": (200, 150, UTM["transform"] @ Affine.translation(15, 5) @ Affine.rotation(20) @ Affine.scale(0.3), "EPSG:32633"),  # noqa: E501
    "half a pixel off": (60, 80, UTM["transform"] @ Affine.translation(0.5, 0.4), "EPSG:32633"),
    "beyond": (90, 100, UTM["transform"] @ Affine.translation(-30, -20), "EPSG:32633"),
    "degrees": (120, 120, Affine(8e-5, 0, 15.0005, 0, -6e-5, 49.651), "EPSG:4326"),
}  # fmt: skip


@pytest.mark.parametrize("nodata", [None, IGNORE, 2])
@pytest.mark.parametrize("place", PLACES)
def test_another_grid_is_resampled_to_the_maps_pixels(tmp_path, grid, place, nodata):
    height, width, transform, crs = PLACES[place]
    image = labels(height, width)
    path = write_raster(tmp_path / "image.tif", image, crs=crs, transform=transform, nodata=nodata)
    truth = opened(path, grid)
    wanted = np.full(SHAPE, IGNORE, np.uint8)
    plain = np.where(image == nodata, IGNORE, image) if nodata is not None else image
    reproject(
        plain, wanted, src_transform=transform, src_crs=crs, dst_transform=grid.transform, dst_crs=grid.crs,
        resampling=Resampling.nearest, src_nodata=IGNORE, dst_nodata=IGNORE,
    )  # fmt: skip
    assert (wanted != IGNORE).sum() > 100
    found = read(truth)
    np.testing.assert_array_equal(found, wanted)
    outside = np.ones(SHAPE, bool)
    outside[truth.window.slices] = False
    assert (found[outside] == IGNORE).all()
    pieces = np.vstack([read(truth, Window(row, 0, 7 if row < 56 else 4, 80)) for row in range(0, 60, 7)])
    np.testing.assert_array_equal(pieces, found)
    assert truth.remarks[0].startswith(f"{path}: ")
    assert "its map" in truth.remarks[0]
    assert "resampled" in truth.remarks[0]
    assert any("beyond" in remark for remark in truth.remarks) == (place != "a part")


def test_values_are_told_apart_before_they_are_moved(tmp_path, grid):
    image = np.full((10, 10), 300, np.uint16)
    image[:, 5:] = 700
    place = UTM["transform"] @ Affine.translation(4, 4) @ Affine.scale(2)
    truth = opened(write_raster(tmp_path / "t.tif", image, transform=place), grid, values={300: "b", 700: None})
    found = read(truth)
    assert (found[4:24, 4:14] == 1).all()
    assert (found != IGNORE).sum() == 200


def test_polygons_lie_on_the_map_where_their_coordinates_say(tmp_path, grid):
    left, top = UTM["transform"] @ (10, 10)
    inside = shapely.box(left, top - 100, left + 200, top)
    shapes = geopandas.GeoDataFrame({"kind": ["b"]}, geometry=[inside], crs="EPSG:32633").to_crs("EPSG:4326")
    shapes.to_file(tmp_path / "t.gpkg")
    truth = opened(tmp_path / "t.gpkg", grid, attribute="kind")
    found = read(truth)
    assert (found[10:20, 10:30] == 1).all()
    assert (found != IGNORE).sum() == 200
    assert truth.window.height <= 12
    assert truth.remarks == ()


def test_points_are_for_a_sample(tmp_path, grid):
    points = geopandas.GeoDataFrame({"class": ["a"]}, geometry=[shapely.Point(*grid.at(3, 3))], crs="EPSG:32633")
    points.to_file(tmp_path / "points.gpkg")
    with pytest.raises(InputError, match="holds points, and truth is a raster or polygons") as raised:
        opened(tmp_path / "points.gpkg", grid, attribute="not in it")
    assert raised.value.hint.startswith("for the points of a sample use `co2s evaluate MAP POINTS --areas`")


def test_points_among_polygons_want_a_file_of_their_own(tmp_path, grid):
    x, y = grid.at(3, 3)
    shapes = [shapely.Point(x, y), shapely.Point(x, y).buffer(50)]
    geopandas.GeoDataFrame({"class": ["a", "a"]}, geometry=shapes, crs="EPSG:32633").to_file(tmp_path / "both.gpkg")
    with pytest.raises(InputError, match="holds polygons and points") as raised:
        opened(tmp_path / "both.gpkg", grid)
    assert raised.value.hint.startswith("put the points into a file of their own")


def test_polygons_beyond_the_map_are_told_and_off_it_refused(tmp_path, grid):
    def write(left, width):
        x, y = UTM["transform"] @ (left, 10)
        shape = shapely.box(x, y - 100, x + 10 * width, y)
        geopandas.GeoDataFrame({"class": [1]}, geometry=[shape], crs="EPSG:32633").to_file(tmp_path / "t.gpkg")

    write(-5, 20)
    assert "beyond" in opened(tmp_path / "t.gpkg", grid).remarks[0]
    write(-50, 20)
    with pytest.raises(InputError, match="does not touch"):
        opened(tmp_path / "t.gpkg", grid)


def test_a_raster_off_the_map_is_refused(tmp_path, grid):
    place = UTM["transform"] @ Affine.translation(500, 0)
    path = write_raster(tmp_path / "t.tif", labels(9, 9), transform=place)
    with pytest.raises(InputError, match="does not touch the map"):
        opened(path, grid)


def test_another_size_without_a_georeference_is_refused(tmp_path, grid):
    path = write_raster(tmp_path / "t.tif", labels(9, 9), bare=True)
    with pytest.raises(InputError, match=r"9 × 9 pixels, its map 80 × 60.*cannot be placed"):
        opened(path, grid)


def test_the_maps_size_without_a_georeference_is_taken_as_the_map(tmp_path, grid):
    image = labels(*SHAPE)
    truth = opened(write_raster(tmp_path / "t.tif", image, bare=True), grid)
    np.testing.assert_array_equal(read(truth), image)


def test_names_are_those_of_the_file(tmp_path):
    path = write_raster(tmp_path / "t.tif", labels(5, 5))
    assert truth_legend(path).named_count == 0
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(CLASS_NAMES='["x", "y"]')
    assert truth_legend(path).named_count == 2
    assert truth_legend(path).names[:3] == ("x", "y", "class 2")


def test_colours_are_no_labels(tmp_path):
    path = write_raster(tmp_path / "t.tif", np.zeros((3, 5, 5), np.uint8))
    with pytest.raises(InputError, match="labels have one band, found 3"):
        truth_legend(path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InputError, match="no such label file"):
        truth_legend(tmp_path / "none.tif")
