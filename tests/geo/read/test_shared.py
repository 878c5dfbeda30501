"""Decoded blocks that reading threads share: the same pixels as without, each block read once, errors for all."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.rasters import noise, write_raster

from co2s_cli.errors import InputError
from co2s_cli.geo.read.reader import RasterReader
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.read.shared import SharedBlocks, assembled, piece_shape
from co2s_cli.tiling import Window


def windows(seed=0, count=30, size=(300, 280)):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        row, col = rng.integers(0, size[0] - 1), rng.integers(0, size[1] - 1)
        yield Window(int(row), int(col), int(rng.integers(1, size[0] - row)), int(rng.integers(1, size[1] - col)))


@pytest.mark.parametrize(
    "options",
    [
        {"tiled": True, "blockxsize": 64, "blockysize": 64, "nodata": 7},
        {"blockysize": 3},
        {"tiled": True, "blockxsize": 512, "blockysize": 512, "interleave": "band"},
    ],
)
def test_windows_are_those_without_sharing(tmp_path, options):
    scene = Scene.open(str(write_raster(tmp_path / "scene.tif", noise((3, 300, 280)), **options)))
    shared = SharedBlocks(200_000)  # about one piece: most are read again
    with scene.reader() as plain, scene.reader(shared) as first, scene.reader(shared) as second:
        for index, window in enumerate(windows()):
            expected, patch = plain.read(window), (first, second)[index % 2].read(window)
            np.testing.assert_array_equal(patch.pixels, expected.pixels)
            np.testing.assert_array_equal(patch.valid, expected.valid)


def test_each_piece_is_read_once_however_many_threads_want_it(tmp_path, monkeypatch):
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    scene = Scene.open(str(write_raster(tmp_path / "scene.tif", noise((3, 300, 280)), **tiles)))
    reads, real = [], RasterReader._decoded_piece
    monkeypatch.setattr(RasterReader, "_decoded_piece", lambda self, piece: reads.append(piece) or real(self, piece))
    shared, started = SharedBlocks(10**8), threading.Barrier(4)

    def work(_):
        with scene.reader(shared) as reader:
            started.wait()
            for window in windows():
                reader.read(window)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert sorted(reads) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_what_is_handed_out_belongs_to_the_caller():
    pixels = np.ones((1, 8, 8), np.uint8), np.ones((8, 8), np.bool_)
    shared = SharedBlocks(10**6)
    for _ in range(2):
        samples, valid = assembled(Window(0, 0, 8, 8), (8, 8), lambda wanted: shared.pieces(wanted, lambda _: pixels))
        assert samples.all()
        assert valid.all()
        samples[:], valid[:] = 0, False


def test_no_more_is_held_than_allowed_and_the_last_used_stays():
    def piece(_):
        return np.zeros((1, 10, 10), np.uint8), np.zeros((10, 10), np.bool_)

    shared, again = SharedBlocks(600), []
    for column in range(9):
        shared.pieces([(0, column), (0, 0)], piece)
    shared.pieces([(0, 0), (0, 8)], again.append)
    assert again == []
    shared.pieces([(0, 1)], lambda name: again.append(name) or piece(name))
    assert again == [(0, 1)]


def test_a_piece_that_cannot_be_read_fails_and_is_tried_again():
    shared = SharedBlocks(10**6)

    def broken(_):
        raise InputError("rows 0 to 4 cannot be read")

    with pytest.raises(InputError, match="rows 0 to 4"):
        shared.pieces([(0, 0)], broken)
    whole = np.zeros((1, 2, 2)), np.ones((2, 2), np.bool_)
    assert shared.pieces([(0, 0)], lambda _: whole) == [whole]


def test_pieces_are_whole_blocks():
    assert piece_shape((512, 512), (4000, 4000)) == (512, 512)
    assert piece_shape((16, 16), (4000, 100)) == (256, 100)
    assert piece_shape((3, 20_000), (4000, 20_000)) == (66, 20_000)
