"""What is written is a Cloud-Optimized GeoTIFF that says what it holds, or nothing."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine
from support.rasters import noise, write_raster

from co2s_cli.classes import ClassMap
from co2s_cli.errors import OutputError
from co2s_cli.geo.gdal import open_dataset
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.legend import STEPS
from co2s_cli.geo.write.raster import class_layer, fraction_layer, probability_layer, raster, unfinished

CLASSES = ClassMap.of(["water", {"name": "trees", "color": [1, 2, 3]}, "roofs & roads"])
UTM = CRS.from_epsg(32633)
GRIDS = {
    "north-up": Grid(700, 1100, Affine(10, 0, 5e5, 0, -10, 5.5e6), UTM),
    "south-up": Grid(40, 30, Affine(10, 0, 5e5, 0, 10, 5.4e6), UTM),
    "rotated": Grid(40, 30, Affine(8, 3, 5e5, 3, -8, 5.5e6), UTM),
    "no CRS": Grid(40, 30, Affine(2, 0, 7, 0, -2, 9)),
    "nothing": Grid(40, 30, Affine.identity()),
    "one pixel": Grid(1, 1, Affine(10, 0, 5e5, 0, -10, 5.5e6), UTM),
    "one column": Grid(900, 1, Affine(10, 0, 5e5, 0, -10, 5.5e6), UTM),
}


def labels(grid, seed=0):
    array = np.random.default_rng(seed).choice(np.array([0, 1, 2, 255], np.uint8), (grid.height // 8 + 1, grid.width))
    return array.repeat(8, axis=0)[: grid.height]


def write(path, grid, array, layer=None, strip=100, **options):
    with raster(path, grid=grid, layer=layer or class_layer(CLASSES), tags={"CO2S_MODEL": "abc"}, **options) as writer:
        for row in range(0, grid.height, strip):
            writer.write(row, array[..., row : row + strip, :])


@pytest.mark.parametrize("name", GRIDS)
def test_the_grid_of_the_map_is_the_grid_given(tmp_path, name):
    grid, array = GRIDS[name], labels(GRIDS[name])
    write(tmp_path / "map.tif", grid, array)
    with open_dataset(str(tmp_path / "map.tif")) as found:
        assert found.shape == grid.shape
        assert found.transform.almost_equals(grid.transform)
        assert found.crs == grid.crs
        assert (found.dtypes, found.nodata) == (("uint8",), 255)
        np.testing.assert_array_equal(found.read(1), array)


def test_control_points_are_handed_on(tmp_path):
    points = tuple(GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100) for r in (0, 40) for c in (0, 30))
    grid = Grid(40, 30, Affine.identity(), None, points, CRS.from_epsg(4326))
    write(tmp_path / "map.tif", grid, labels(grid))
    with open_dataset(str(tmp_path / "map.tif")) as found:
        got, crs = found.gcps
    assert [(p.row, p.col, p.x, p.y) for p in got] == [(p.row, p.col, p.x, p.y) for p in points]
    assert crs.to_epsg() == 4326


def test_a_class_raster_is_a_cog_with_palette_tags_and_overviews_by_mode(tmp_path):
    grid = GRIDS["north-up"]
    array = np.zeros(grid.shape, np.uint8)
    array[::2, ::2] = 2
    array[:, 600:] = 255
    array[::2, 601::2] = 1
    write(tmp_path / "map.tif", grid, array)
    with rasterio.open(tmp_path / "map.tif") as found:
        assert found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert found.block_shapes == [(512, 512)]
        assert found.compression.name == "deflate"
        assert found.tags()["CO2S_MODEL"] == "abc"
        assert found.colormap(1)[1] == (1, 2, 3, 255)
        assert found.overviews(1)
        coarse = found.read(1, out_shape=(350, 550))
    assert (coarse[:, :299] == 0).all()  # three of four pixels
    assert (coarse[:, 301:] == 1).all()  # nodata is no class that could win


def test_after_success_nothing_lies_beside_the_map_but_names_and_style(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("co2s_cli.files.shutil.rmtree", lambda *_, **__: None)  # as if it was killed
        with pytest.raises(ZeroDivisionError), unfinished(tmp_path / "map.tif", class_layer(CLASSES)) as part:
            part.write_text(str(1 / 0))
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / "map.tif.ovr").write_text("overviews of an older map")
    write(tmp_path / "map.tif", GRIDS["north-up"], labels(GRIDS["north-up"]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.qml", "map.tif", "map.tif.aux.xml"]


def test_fractions_show_as_zero_to_one(tmp_path):
    grid = GRIDS["north-up"]
    stored = noise(grid.shape, low=0, high=256)
    write(tmp_path / "conf.tif", grid, stored, fraction_layer("confidence"))
    assert [p.name for p in tmp_path.iterdir()] == ["conf.tif"]
    with rasterio.open(tmp_path / "conf.tif") as found:
        assert (found.nodata, found.descriptions, found.offsets) == (255, ("confidence",), (0,))
        assert found.scales[0] * STEPS == pytest.approx(1)
        np.testing.assert_array_equal(found.read(1), stored)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_probabilities_have_a_band_per_class(tmp_path, dtype):
    grid = GRIDS["north-up"]
    array = noise((3, *grid.shape), low=0, high=255).astype(dtype)
    write(tmp_path / "p.tif", grid, array, probability_layer(CLASSES, dtype), creation={"COMPRESS": "ZSTD"})
    with rasterio.open(tmp_path / "p.tif") as found:
        assert found.descriptions == CLASSES.names
        assert found.compression.name == "zstd"
        assert found.nodata == 255 if dtype == "uint8" else np.isnan(found.nodata)
        np.testing.assert_array_equal(found.read(), array)


@pytest.mark.parametrize("compress", ["NONE", "LZW", "DEFLATE", "ZSTD", "LZMA"])
def test_every_lossless_compression_is_to_be_had(tmp_path, compress):
    grid = GRIDS["one column"]
    write(tmp_path / "map.tif", grid, labels(grid), creation={"COMPRESS": compress, "PREDICTOR": "YES"})
    with rasterio.open(tmp_path / "map.tif") as found:
        np.testing.assert_array_equal(found.read(1), labels(grid))


def test_an_exception_leaves_the_old_map_and_nothing_else(tmp_path):
    old = write_raster(tmp_path / "map.tif", noise((1, 5, 5)))
    before = old.read_bytes()
    grid = GRIDS["south-up"]

    def interrupted():
        with raster(old, grid=grid, layer=class_layer(CLASSES), tags={}) as writer:
            writer.write(0, labels(grid)[:10])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert old.read_bytes() == before
    assert list(tmp_path.iterdir()) == [old]


MISFITS = [
    (1, (10, 30), "uint8"),
    (0, (10, 31), "uint8"),
    (0, (41, 30), "uint8"),
    (0, (2, 10, 30), "uint8"),
    (0, (10, 30), "int32"),
]


@pytest.mark.parametrize(("row", "shape", "dtype"), MISFITS)
def test_rows_that_do_not_fit_are_a_bug_of_the_caller(tmp_path, row, shape, dtype):
    with (
        pytest.raises(ValueError, match=r"given|follow"),
        raster(tmp_path / "m.tif", grid=GRIDS["south-up"], layer=class_layer(CLASSES), tags={}) as writer,
    ):
        writer.write(row, np.zeros(shape, dtype))
    assert not list(tmp_path.iterdir())


def test_missing_rows_are_a_bug_of_the_caller(tmp_path):
    with (
        pytest.raises(ValueError, match="10 of 40 rows"),
        raster(tmp_path / "m.tif", grid=GRIDS["south-up"], layer=class_layer(CLASSES), tags={}) as writer,
    ):
        writer.write(0, np.zeros((10, 30), np.uint8))
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="could not be written"):
        write(tmp_path / "absent" / "map.tif", GRIDS["south-up"], labels(GRIDS["south-up"]))


FULL = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from co2s_cli.classes import ClassMap
from co2s_cli.errors import OutputError
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.write.raster import class_layer, raster
from rasterio.transform import Affine

path, limit = Path(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
grid = Grid(2000, 2000, Affine(10, 0, 0, 0, -10, 0))
try:
    with raster(path, grid=grid, layer=class_layer(ClassMap.of(list("abcdefgh"))), tags={}) as writer:
        writer.write(0, np.random.default_rng(0).integers(0, 8, grid.shape).astype(np.uint8))
except OutputError as error:
    sys.exit(error.exit_code)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
@pytest.mark.parametrize("limit", [100_000, 1_500_000, 1_700_000])
def test_a_full_disk_leaves_nothing(tmp_path, limit):
    path = tmp_path / "map.tif"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), str(limit)], cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 4
    assert not list(tmp_path.iterdir())
