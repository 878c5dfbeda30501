"""Which pixels an area holds."""

from concurrent.futures import ThreadPoolExecutor

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine

from co2s_cli.errors import ConfigError, InputError
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.read.aoi import Aoi
from co2s_cli.tiling import Window

UTM = CRS.from_epsg(32633)
GRID = Grid(1500, 2300, Affine(10, 0, 500_000, 0, -10, 5_500_000), UTM)
TURNED = Grid(300, 400, Affine(8, 3, 500_000, 3, -8, 5_500_000), UTM)


def star(x, y, radius, points=9):
    """A shape with slanted edges all around."""
    angles = np.linspace(0, 2 * np.pi, 2 * points, endpoint=False)
    reach = radius * np.where(np.arange(2 * points) % 2, 0.4, 1)
    return shapely.Polygon(np.c_[x + reach * np.cos(angles), y + reach * np.sin(angles)])


def saved(tmp_path, shapes, crs="EPSG:32633", name="area.gpkg"):
    path = tmp_path / name
    geopandas.GeoDataFrame(geometry=list(shapes), crs=crs).to_file(path)
    return path


def whole(aoi):
    return aoi.mask(Window(0, 0, *aoi.grid.shape))


@pytest.mark.parametrize("grid", [GRID, TURNED])
def test_a_pixel_is_in_where_its_centre_is_in(tmp_path, grid):
    x, y = grid.at(grid.width / 2, grid.height / 2)
    shapes = [star(x, y, 1000), star(x + 500, y - 900, 300), star(x + 520, y - 900, 300)]
    aoi = Aoi.of(grid, file=saved(tmp_path, shapes))
    rows, cols = np.mgrid[: grid.height, : grid.width] + 0.5
    xs, ys = grid.at(cols, rows)
    np.testing.assert_array_equal(whole(aoi), shapely.contains_xy(shapely.union_all(shapes), xs, ys))


@pytest.fixture(scope="module")
def ragged(tmp_path_factory):
    """An area whose edges pass through many pixel centres, and its mask on the whole grid."""
    x, y = GRID.at(1100, 900)
    square = shapely.box(*GRID.at(200.5, 1400.5), *GRID.at(1300.5, 100.5))
    shapes = [star(x, y, 6000, 40), square]
    aoi = Aoi.of(GRID, file=saved(tmp_path_factory.mktemp("ragged"), shapes))
    return aoi, whole(aoi)


@settings(max_examples=60)
@given(row=st.integers(-80, 1600), col=st.integers(-80, 2400), height=st.integers(1, 400), width=st.integers(1, 400))
def test_the_answer_does_not_depend_on_the_window(ragged, row, col, height, width):
    aoi, mask = ragged
    window = Window(row, col, height, width)
    expected = np.pad(mask, 500)[row + 500 : row + 500 + height, col + 500 : col + 500 + width]
    np.testing.assert_array_equal(aoi.mask(window), expected)
    if aoi.misses(window):
        assert not expected.any()


def test_windows_off_the_area_are_known_without_rasterising(ragged):
    aoi, _ = ragged
    assert aoi.misses(Window(0, 2250, 50, 50))
    assert aoi.misses(Window(-60, -60, 50, 50))
    assert not aoi.misses(Window(700, 900, 5, 5))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3035", "EPSG:3857"])
@pytest.mark.parametrize("name", ["area.gpkg", "area.geojson", "area.shp", "area.fgb"])
def test_areas_come_in_any_crs_and_format(tmp_path, crs, name):
    if name == "area.geojson" and crs != "EPSG:4326":
        pytest.skip("GeoJSON is in degrees")
    x, y = GRID.at(1150, 750)
    shapes = geopandas.GeoSeries([star(x, y, 5000)], crs=UTM.to_wkt())
    aoi = Aoi.of(GRID, file=saved(tmp_path, shapes.segmentize(100).to_crs(crs), crs, name))
    expected = rasterize([shapes[0]], out_shape=GRID.shape, transform=GRID.transform).astype(bool)
    assert (whole(aoi) != expected).sum() <= 20


def test_long_edges_bend_with_the_projection(tmp_path):
    """A box of 20° in degrees: its upper edge runs along a parallel, not along a chord far from it."""
    aoi = Aoi.of(GRID, file=saved(tmp_path, [shapely.box(5, 40, 25, 49.6)], "EPSG:4326"))
    rows, cols = np.mgrid[: GRID.height : 50, : GRID.width : 50] + 0.5
    points = geopandas.GeoSeries.from_xy(*(v.ravel() for v in GRID.at(cols, rows)), crs=UTM.to_wkt()).to_crs(4326)
    inside = (points.y.to_numpy() < 49.6).reshape(rows.shape)
    assert 0.05 < inside.mean() < 0.95
    assert (whole(aoi)[::50, ::50] != inside).mean() < 0.01


def test_an_area_over_the_antimeridian_hits(tmp_path):
    grid = Grid(200, 200, Affine(1000, 0, 600_000, 0, -1000, 7_000_000), CRS.from_epsg(32660))
    file = saved(tmp_path, [shapely.box(-180, 50, -179, 70), shapely.box(179, 50, 180, 70)], "EPSG:4326")
    found = whole(Aoi.of(grid, file=file))
    rows, cols = np.mgrid[:200, :200] + 0.5
    xs, ys = (values.ravel() for values in grid.at(cols, rows))
    lon = geopandas.GeoSeries.from_xy(xs, ys, crs="EPSG:32660").to_crs(4326).x.to_numpy().reshape(200, 200)
    assert (found != (np.abs(lon) > 179)).sum() == 0


def test_bounds_are_in_the_scenes_crs_and_meet_the_area(tmp_path):
    bounds = (*GRID.at(100, 300), *GRID.at(150, 200))
    expected = np.zeros(GRID.shape, bool)
    expected[200:300, 100:150] = True
    np.testing.assert_array_equal(whole(Aoi.of(GRID, bounds=bounds)), expected)
    file = saved(tmp_path, [shapely.box(*GRID.at(120, 1000), *GRID.at(500, 0))])
    expected[:, :120] = False
    np.testing.assert_array_equal(whole(Aoi.of(GRID, file=file, bounds=bounds)), expected)


def test_no_area_is_no_area():
    assert Aoi.of(GRID) is None


def test_the_same_area_on_a_coarser_grid():
    aoi = Aoi.of(GRID, bounds=(*GRID.at(0, 1500), *GRID.at(1150, 0)))
    coarse = aoi.on(GRID.scaled(150, 230))
    assert whole(coarse).mean() == pytest.approx(0.5)


def test_broken_polygons_are_mended(tmp_path):
    x, y = GRID.at(100, 100)
    bow = shapely.Polygon([(x, y), (x + 500, y - 500), (x + 500, y), (x, y - 500)])
    aoi = Aoi.of(GRID, file=saved(tmp_path, [bow]))
    assert whole(aoi).sum() == pytest.approx(1250, abs=60)


def refused(**options):
    with pytest.raises(InputError) as caught:
        Aoi.of(GRID, **options)
    return caught.value.message


def test_an_area_that_misses_the_scene_is_refused_with_both_extents(tmp_path):
    assert "misses the scene" in refused(bounds=(0, 0, 1, 1))
    assert "32633" in refused(bounds=(0, 0, 1, 1))
    for crs, shape in (("EPSG:4326", shapely.box(40, 10, 41, 11)), (UTM.to_wkt(), shapely.box(0, 0, 9, 9))):
        message = refused(file=saved(tmp_path, [shape], crs))
        assert "area.gpkg: misses the scene" in message
    assert "misses" in refused(
        file=saved(tmp_path, [star(*GRID.at(50, 50), 100)]), bounds=(*GRID.at(900, 900), 6e5, 6e6)
    )


def test_an_area_between_the_pixel_centres_is_refused():
    assert "no pixel's centre" in refused(bounds=(*GRID.at(10.6, 20.4), *GRID.at(10.9, 20.1)))


def test_what_holds_no_polygon_is_refused(tmp_path):
    assert "found: Point" in refused(file=saved(tmp_path, [shapely.Point(*GRID.at(5, 5))]))
    assert "no such file" in refused(file=tmp_path / "absent.gpkg")
    text = tmp_path / "area.geojson"
    text.write_text("nothing")
    assert "cannot be read" in refused(file=text)


def test_an_area_without_a_crs_is_refused_unless_the_scene_has_none_either(tmp_path):
    file = saved(tmp_path, [shapely.box(*GRID.at(0, 10), *GRID.at(10, 0))], name="area.shp")
    file.with_suffix(".prj").unlink()
    assert "CRS" in refused(file=file)
    bare = Grid(100, 100, GRID.transform)
    assert whole(Aoi.of(bare, file=file)).sum() == 100


def test_bounds_in_the_wrong_order_are_a_matter_of_usage():
    with pytest.raises(ConfigError, match="W < E"):
        Aoi.of(GRID, bounds=(10, 0, 5, 5))


def test_threads_get_the_same_answer(ragged):
    aoi, mask = ragged
    fresh = aoi.on(GRID)
    windows = [Window(row, col, 300, 300) for row in range(0, 1500, 250) for col in range(0, 2300, 250)]
    with ThreadPoolExecutor(8) as pool:
        for window, found in zip(windows, pool.map(fresh.mask, windows), strict=True):
            expected = mask[window.slices]
            np.testing.assert_array_equal(found[: expected.shape[0], : expected.shape[1]], expected)
