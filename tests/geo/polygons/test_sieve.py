"""The sieve of class rasters, against regions labelled by scipy."""

import numpy as np
import pytest
import rasterio
from scipy import ndimage

from co2s_cli.errors import OutputError
from co2s_cli.geo.gdal import open_dataset
from co2s_cli.geo.polygons import sieve
from co2s_cli.geo.polygons.class_raster import ClassRaster
from co2s_cli.geo.polygons.sieve import sieve_to_file


def sieve_all(folder, labels, small):
    path = folder / "map.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=labels.shape[0], width=labels.shape[1], count=1, dtype="uint8", nodata=255,
        crs="EPSG:32633", transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
    ) as dataset:  # fmt: skip
        dataset.write(labels, 1)
    sieved = sieve_to_file(ClassRaster.open(str(path)), small, folder, advance=lambda rows: None)
    assert sorted(path.name for path in folder.iterdir()) == ["map.tif", "sieved", "sieved.hdr"]
    with open_dataset(str(sieved.path)) as dataset:
        result = dataset.read(1)
    assert sieved.merged_pixels == np.sum(result != labels)
    return result


def rows(*texts):
    return np.array([[255 if letter == "." else int(letter) for letter in text] for text in texts], np.uint8)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("small", [2, 5, 20])
def test_no_small_region_with_a_neighbour_is_left_and_nodata_stays(tmp_path, seed, small):
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 3, (6, 6)), np.ones((10, 10), int)).astype(np.uint8)
    noise = rng.random(labels.shape)
    labels[noise < 0.2] = 1
    labels[noise > 0.93] = 255
    result = sieve_all(tmp_path, labels, small)
    np.testing.assert_array_equal(result == 255, labels == 255)
    for value in np.unique(result[result != 255]):
        parts, count = ndimage.label(result == value)
        for part in range(1, count + 1):
            around = result[ndimage.binary_dilation(parts == part) & (parts != part)]
            assert np.sum(parts == part) >= small or (around == 255).all()


def test_a_small_region_joins_its_largest_neighbour(tmp_path):
    assert sieve_all(tmp_path, rows("0021111"), 2).tolist() == rows("0011111").tolist()


def test_a_region_in_nodata_stays(tmp_path):
    assert sieve_all(tmp_path, rows("..1..", "....."), 9).tolist() == rows("..1..", ".....").tolist()


def test_regions_as_large_as_the_limit_stay(tmp_path):
    labels = rows("0000", "0110", "0000")
    assert sieve_all(tmp_path, labels, 2).tolist() == labels.tolist()


def test_a_chain_of_small_regions_over_any_number_of_rows_is_merged(tmp_path):
    labels = np.zeros((800, 6), np.uint8)
    labels[:, 2:] = np.arange(800)[:, None] % 2 + 1
    assert (sieve_all(tmp_path, labels, 5) == 0).all()


@pytest.mark.parametrize("chunk_pixels", [1, 40, 200, 4_000_000])
@pytest.mark.parametrize("row", [0, 6, 19])
def test_a_small_region_is_seen_wherever_chunks_end(monkeypatch, chunk_pixels, row):
    monkeypatch.setattr(sieve, "_CHUNK_PIXELS", chunk_pixels)
    labels = np.zeros((20, 10), np.uint8)
    labels[:, 7:] = 255
    labels[row, 2:5] = 1
    assert not sieve._may_hold_small(labels, 3)
    assert sieve._may_hold_small(labels, 4)


def test_a_full_disk_is_told_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(sieve, "_ARRAYS", 10**18)
    with pytest.raises(OutputError, match="are needed to merge small regions"):
        sieve_all(tmp_path, rows("0021111"), 2)
