"""Windows of a scene: rasterio's pixels inside, mirrored ones beyond the edge, never nodata."""

import threading

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rasters import noise, write_raster

from co2s_cli.geo.read.reader import fill_invalid, reflected
from co2s_cli.geo.read.scene import Scene
from co2s_cli.tiling import Window


@pytest.fixture(scope="module")
def collar(tmp_path_factory):
    """37 × 53 pixels with a collar of nodata 255."""
    array = noise((3, 37, 53))
    array[:, :5] = array[:, :, 45:] = 255
    array[:, np.arange(37), np.arange(37)] = 255
    return write_raster(tmp_path_factory.mktemp("collar") / "scene.tif", array, nodata=255), array


@settings(max_examples=60)
@given(row=st.integers(-50, 60), col=st.integers(-70, 80), height=st.integers(1, 90), width=st.integers(1, 120))
def test_any_window_is_the_scene_in_the_middle_and_no_nodata_anywhere(collar, row, col, height, width):
    path, array = collar
    scene = Scene.open(str(path))
    with scene.reader() as reader:
        patch = reader.read(Window(row, col, height, width))
    valid = np.pad((array != 255).any(axis=0), 200)[row + 200 :, col + 200 :][:height, :width]
    pixels = np.pad(array, ((0, 0), (200, 200), (200, 200)))[:, row + 200 :, col + 200 :][:, :height, :width]
    assert patch.pixels.shape == (3, height, width)
    assert patch.pixels.dtype == np.uint8
    assert patch.pixels.flags.c_contiguous
    np.testing.assert_array_equal(patch.valid, valid)
    np.testing.assert_array_equal(patch.pixels[:, valid], pixels[:, valid])
    assert not (patch.pixels == 255).any()


def test_beyond_the_edge_the_scene_is_mirrored(tmp_path):
    array = noise((2, 6, 7), "uint16", high=60_000)
    path = write_raster(tmp_path / "scene.tif", array)
    with Scene.open(str(path)).reader() as reader:
        patch = reader.read(Window(-9, -4, 20, 30))
    np.testing.assert_array_equal(patch.pixels, np.pad(array, ((0, 0), (9, 5), (4, 19)), mode="reflect"))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_a_scene_one_pixel_wide_fills_a_window(tmp_path, shape):
    path = write_raster(tmp_path / "scene.tif", noise((1, *shape)))
    with Scene.open(str(path)).reader() as reader:
        patch = reader.read(Window(0, 0, 64, 64))
        assert patch.valid.sum() == shape[0] * shape[1]
        assert (patch.pixels > 0).all()


def test_bands_come_in_the_order_asked_for(tmp_path):
    array = noise((4, 20, 20))
    path = write_raster(tmp_path / "scene.tif", array, names=("Blue", "Green", "Red", "NIR"))
    for bands in ((3, 2, 1), ("red", "green", "blue")):
        scene = Scene.open(str(path), bands=bands)
        assert scene.names == ("Red", "Green", "Blue")
        with scene.reader() as reader:
            np.testing.assert_array_equal(reader.read(Window(0, 0, 20, 20)).pixels, array[2::-1])


def test_readers_of_several_threads_do_not_disturb_each_other(tmp_path):
    array = noise((3, 256, 256))
    path = write_raster(tmp_path / "scene.tif", array, nodata=0, tiled=True, blockxsize=64, blockysize=64)
    scene = Scene.open(str(path))
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        with scene.reader() as reader:
            for row, col in rng.integers(0, 200, (40, 2)):
                patch = reader.read(Window(int(row), int(col), 56, 56))
                if not np.array_equal(patch.pixels, array[:, row : row + 56, col : col + 56]):
                    wrong.append((row, col))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("overviews", [(), (2, 4, 8)])
def test_the_overview_is_the_scene_in_few_pixels(tmp_path, overviews):
    array = np.arange(640)[:, None] // 64 * 10 + np.arange(960)[None] // 96 + 1
    array = np.stack([array, array + 100]).astype(np.uint8)
    array[:, :64, :96] = 0
    path = write_raster(tmp_path / "scene.tif", array, nodata=0, tiled=True, blockxsize=128, blockysize=128)
    if overviews:
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews(overviews)
    patch = Scene.open(str(path)).overview(60)
    assert patch.pixels.shape == (2, 40, 60)
    expected = array[:, 8::16, 8::16]
    np.testing.assert_array_equal(patch.valid, expected[0] > 0)
    np.testing.assert_array_equal(patch.pixels[:, patch.valid], expected[:, patch.valid])
    assert (patch.pixels > 0).all()


@given(length=st.integers(1, 9), before=st.integers(0, 40), after=st.integers(0, 40))
def test_reflection_is_numpys(length, before, after):
    expected = np.pad(np.arange(length), (before, after), mode="reflect")
    assert reflected(-before, length + after, length).tolist() == expected.tolist()


def nearest_by_hand(valid, row, col):
    """The column to take for one pixel: of the row itself, else of the nearest row that has a valid one."""
    rows = [r for r in range(len(valid)) if valid[r].any()]
    row = min(rows, key=lambda r: (abs(r - row), r))
    return row, min(np.flatnonzero(valid[row]), key=lambda c: (abs(c - col), c))


@given(height=st.integers(1, 7), width=st.integers(1, 7), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_an_invalid_pixel_gets_the_nearest_valid_one_of_its_row_or_of_the_nearest_row(height, width, share, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 255, (2, height, width)).astype(np.uint8)
    valid = rng.random((height, width)) < share
    filled = fill_invalid(pixels, valid)
    assert filled.dtype == pixels.dtype
    if not valid.any():
        assert not filled.any()
        return
    np.testing.assert_array_equal(filled[:, valid], pixels[:, valid])
    for row, col in np.argwhere(~valid):
        np.testing.assert_array_equal(filled[:, row, col], pixels[(slice(None), *nearest_by_hand(valid, row, col))])
