"""A GeoTIFF tells by itself whether one of its bytes has changed."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from support.rasters import noise, write_raster

from co2s_cli.classes import ClassMap
from co2s_cli.geo import checksum
from co2s_cli.geo.checksum import CHECKSUM_TAG, checksum_holds, store_checksum
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.labels.labels import open_labels
from co2s_cli.geo.write.mosaic import write_tile
from co2s_cli.geo.write.raster import class_layer, fraction_layer, raster


@pytest.fixture
def cog(tmp_path):
    path = tmp_path / "map.tif"
    grid = Grid(40, 30, Affine(10, 0, 5e5, 0, -10, 5.5e6))
    with raster(path, grid=grid, layer=fraction_layer("confidence"), tags={"CO2S_KEY": "x"}) as writer:
        writer.write(0, noise((40, 30)))
    return path


def test_every_single_changed_byte_is_noticed_and_every_cut(cog):
    assert checksum_holds(cog)
    whole = cog.read_bytes()
    for place in range(0, len(whole), 17):
        cog.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert not checksum_holds(cog), place
    for size in (0, 100, len(whole) - 1):
        cog.write_bytes(whole[:size])
        assert not checksum_holds(cog)
    cog.write_bytes(whole)
    assert checksum_holds(cog)


def test_the_checksum_is_metadata_that_gdal_shows(cog):
    with rasterio.open(cog) as dataset:
        assert len(dataset.tags()[CHECKSUM_TAG]) == 64
        assert dataset.tags()[CHECKSUM_TAG] != checksum.UNSET


@pytest.mark.parametrize("chunk", [7, 64, 1000])
def test_the_size_of_the_pieces_does_not_matter(tmp_path, monkeypatch, chunk):
    path = tmp_path / "tile.tif"
    write_tile(path, np.zeros((2, 20, 30), np.uint8), nodata=255, tags={})
    stored = path.read_bytes()
    monkeypatch.setattr(checksum, "_CHUNK", chunk)
    assert checksum_holds(path)
    store_checksum(path)
    assert path.read_bytes() == stored


def test_without_a_checksum_or_a_file_nothing_holds(tmp_path):
    assert not checksum_holds(write_raster(tmp_path / "plain.tif", noise((1, 5, 5))))
    assert not checksum_holds(tmp_path / "none.tif")
    with pytest.raises(ValueError, match="was written without the tag"):
        store_checksum(tmp_path / "plain.tif")


def test_labels_that_changed_after_they_were_written_are_told_once(tmp_path, caplog):
    classes, grid = ClassMap.of(["a", "b"]), Grid(64, 64, Affine(10, 0, 5e5, 0, -10, 5.5e6))
    for name in ("whole.tif", "changed.tif"):
        with raster(tmp_path / name, grid=grid, layer=class_layer(classes), tags={}) as writer:
            writer.write(0, np.zeros((64, 64), np.uint8))
    content = bytearray((tmp_path / "changed.tif").read_bytes())
    content[-1] ^= 1
    (tmp_path / "changed.tif").write_bytes(content)
    for name in ("whole.tif", "changed.tif", "changed.tif"):
        with open_labels(tmp_path / name, grid, classes, attribute="class", values={}).reader():
            pass
    assert [record.args[0] for record in caplog.records] == [str(tmp_path / "changed.tif")]
