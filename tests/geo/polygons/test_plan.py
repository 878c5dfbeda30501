"""What is decided about polygons before any is made."""

import os
from dataclasses import replace

import numpy as np
import pytest
import rasterio

from co2s_cli.config.vectorize import VectorizeConfig
from co2s_cli.errors import ResourceError
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.polygons.class_raster import ClassRaster
from co2s_cli.geo.polygons.plan import BYTES_PER_PIXEL, block_shape, plan_polygons
from co2s_cli.geo.polygons.stream import blocks_of, features


@pytest.fixture
def raster(tmp_path):
    path = tmp_path / "map.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=40, width=30, count=1, dtype="uint8", nodata=255, crs="EPSG:32633",
        transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
    ) as dataset:  # fmt: skip
        dataset.write(np.arange(1200).reshape(40, 30).astype(np.uint8) % 2, 1)
    return ClassRaster.open(str(path))


def plan(raster, tmp_path, **options):
    settings = VectorizeConfig(raster=raster.source, out=tmp_path / "out.gpkg", simplify=0, **options)
    return plan_polygons(settings, raster, lonlat=False)


def test_a_given_memory_limit_is_kept_and_the_default_grows_with_the_machine(raster, tmp_path, monkeypatch):
    monkeypatch.setattr("co2s_cli.geo.polygons.plan.available", lambda: 64 * 10**9)
    assert plan(raster, tmp_path, mem_limit="4GB").open_bytes == 10**9
    assert plan(raster, tmp_path).open_bytes == 16 * 10**9


def test_the_default_keeps_to_what_a_container_may_use(raster, tmp_path, monkeypatch):
    """The limit of a control group and the cores of an affinity mask count, not those of the machine around them."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 640 * 10**9}))
    monkeypatch.setattr("co2s_cli.resources._free_in_group", lambda *_, **__: 32 * 10**9)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert plan(raster, tmp_path).open_bytes == 8 * 10**9
    settings = VectorizeConfig(raster=raster.source, out=tmp_path / "out.gpkg", mem_limit="100GB")
    assert block_shape(settings, raster.grid, least_rows=1)[2] == 3


def test_regions_that_go_on_over_too_many_rows_say_how_much_memory_they_take(raster, tmp_path):
    tight = replace(plan(raster, tmp_path), open_bytes=100)
    with pytest.raises(ResourceError, match=r"reach over many rows take .* kB, 100 B are allowed") as caught:
        list(features(tight, blocks_of(40, 30, rows=10, columns=30), workers=1))
    assert "--mem-limit 1GB" in caught.value.hint


@pytest.mark.parametrize("width", [30, 32_768, 200_000, 2_000_000])
def test_a_block_takes_no_more_than_a_gigabyte_at_any_width(tmp_path, width):
    grid = Grid(200_000, width, rasterio.Affine(10, 0, 0, 0, -10, 0), rasterio.CRS.from_epsg(32633))
    settings = VectorizeConfig(raster="map.vrt", out=tmp_path / "out.gpkg", mem_limit="4GB", workers=8)
    rows, columns, workers = block_shape(settings, grid, least_rows=256)
    assert rows >= 256
    assert columns == min(width, 32_768)
    assert workers * rows * columns * 2 * BYTES_PER_PIXEL <= 4e9
