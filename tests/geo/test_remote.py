"""Scenes that are no files of this machine: web servers and archives."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest
from support import web
from support.rasters import noise, write_raster

from co2s_cli.errors import InputError
from co2s_cli.geo.read.scene import Scene
from co2s_cli.tiling import Window


@pytest.fixture
def address(tmp_path):
    """Where the files of `tmp_path` are served; by another process, because GDAL waits with Python's lock held."""
    command = [sys.executable, web.__file__, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.terminate()


def test_a_scene_on_a_web_server_is_read_in_parts(tmp_path, address):
    array = noise((2, 300, 400))
    write_raster(tmp_path / "scene.tif", array, tiled=True, blockxsize=128, blockysize=128)
    scene = Scene.open(f"{address}/scene.tif")
    assert scene.identity == Scene.open(f"{address}/scene.tif").identity
    with scene.reader() as reader:
        np.testing.assert_array_equal(reader.read(Window(200, 300, 100, 100)).pixels, array[:, 200:, 300:])
    with pytest.raises(InputError, match="404"):
        Scene.open(f"{address}/absent.tif")


def test_a_scene_in_an_archive_is_read(tmp_path):
    write_raster(tmp_path / "scene.tif", noise((2, 30, 40)))
    with zipfile.ZipFile(tmp_path / "scenes.zip", "w") as archive:
        archive.write(tmp_path / "scene.tif", "scene.tif")
    assert Scene.open(f"/vsizip/{tmp_path}/scenes.zip/scene.tif").grid.shape == (30, 40)
