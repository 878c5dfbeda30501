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


@pytest.mark.parametrize("place", [(100, 100), (200, 200), (299, 399)])
def test_other_pixels_behind_an_address_are_another_scene(tmp_path, place):
    """Whichever block of a compressed file changes: its size or its place in the file tells, or the last block."""
    array, identities = noise((1, 300, 400)), set()
    for name in ("first", "second"):
        write_raster(tmp_path / "scene.tif", array, tiled=True, blockxsize=128, blockysize=128, compress="deflate")
        with zipfile.ZipFile(tmp_path / "scenes.zip", "w") as archive:
            archive.write(tmp_path / "scene.tif", "scene.tif")
        (tmp_path / "scenes.zip").rename(tmp_path / f"{name}.zip")
        (tmp_path / "same.zip").unlink(missing_ok=True)
        (tmp_path / "same.zip").symlink_to(tmp_path / f"{name}.zip")
        identities.add(Scene.open(f"/vsizip/{tmp_path}/same.zip/scene.tif").identity)
        array[0, place[0] - 60 : place[0] + 1, place[1] - 60 : place[1] + 1] = 7
    assert len(identities) == 2


@pytest.fixture
def counted(tmp_path):
    """An address like `address`, and the file that gets a line for each request."""
    requests, folder = tmp_path / "requests.txt", tmp_path / "served"
    folder.mkdir()
    command = [sys.executable, web.__file__, str(folder)]
    with (
        requests.open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        yield folder, f"http://127.0.0.1:{server.stdout.readline().strip()}", requests
        server.terminate()


def test_opening_a_scene_on_a_web_server_asks_for_no_sidecar_files(counted):
    folder, address, requests = counted
    array = noise((1, 1600, 1600))
    write_raster(folder / "scene.tif", array, tiled=True, blockxsize=256, blockysize=256)
    with Scene.open(f"{address}/scene.tif").reader() as reader:
        opening = requests.read_text().splitlines()
        np.testing.assert_array_equal(reader.read(Window(0, 256, 256, 256)).pixels, array[:, :256, 256:512])
    lines = requests.read_text().splitlines()
    assert {line.split()[1] for line in lines} == {"/scene.tif"}
    # size and header, and the last block: it is checked, tells the scene from others, and holds a valid pixel
    assert len(opening) <= 3, opening
    assert len(lines) - len(opening) <= 1, lines


def test_the_users_environment_wins_over_options_for_addresses(monkeypatch, counted):
    folder, address, requests = counted
    write_raster(folder / "scene.tif", noise((2, 30, 40)))
    monkeypatch.setenv("GDAL_DISABLE_READDIR_ON_OPEN", "FALSE")
    Scene.open(f"{address}/scene.tif")
    assert {line.split()[1] for line in requests.read_text().splitlines()} > {"/scene.tif"}
