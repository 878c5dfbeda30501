"""Polygons of labelled patches say the same as their pixels."""

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.errors import OutputError
from co2s_cli.geo.write.raster import north_up
from co2s_cli.geo.write.vector import write_outlines

CLASSES = ClassMap.of(["road", "bare soil", "water"])
GRID = north_up(60, 60, epsg=32632, west=500_000, north=5_400_000, resolution=0.5)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_polygons_burnt_give_back_the_pixels(tmp_path, seed):
    draw = np.random.default_rng(seed)
    patches = [(3, 5, draw.choice([0, 1, 2, IGNORE], (11, 9))), (30, 20, draw.choice([1, 2], (25, 25)))]
    patches = [(row, col, labels.astype(np.uint8)) for row, col, labels in patches]
    count = write_outlines(tmp_path / "few.gpkg", patches, grid=GRID, classes=CLASSES)
    frame = gpd.read_file(tmp_path / "few.gpkg")
    assert len(frame) == count
    assert frame.crs.to_epsg() == 32632
    assert frame.geometry.is_valid.all()
    assert [CLASSES.id_of(name) for name in frame["class"]] == frame["class_id"].tolist()
    wanted = np.full((60, 60), IGNORE, np.uint8)
    for row, col, labels in patches:
        wanted[row : row + labels.shape[0], col : col + labels.shape[1]] = labels
    shapes = zip(frame.geometry, frame["class_id"], strict=True)
    burnt = rasterize(shapes, out_shape=(60, 60), fill=IGNORE, transform=GRID.transform, dtype="uint8")
    np.testing.assert_array_equal(burnt, wanted)


def test_nothing_labelled_is_an_empty_layer(tmp_path):
    patches = [(0, 0, np.full((4, 4), IGNORE, np.uint8))]
    assert write_outlines(tmp_path / "few.gpkg", patches, grid=GRID, classes=CLASSES) == 0
    frame = gpd.read_file(tmp_path / "few.gpkg")
    assert len(frame) == 0
    assert {"class", "class_id"} <= set(frame.columns)


def test_a_folder_that_is_missing_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="could not be written"):
        write_outlines(tmp_path / "none" / "few.gpkg", [], grid=GRID, classes=CLASSES)
