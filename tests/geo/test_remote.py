"""Scenes in buckets and on web servers: how many requests, what is retried, what is told."""

import os
import sys
import time

import numpy as np
import pytest
from support import bucket
from support.rasters import noise, write_raster

from co2s_cli import cloud
from co2s_cli.errors import InputError, ResourceError
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.sources import expand_sources
from co2s_cli.tiling import Window


@pytest.fixture(scope="module")
def server():
    with bucket.running() as server:
        yield server


@pytest.fixture
def s3(server, monkeypatch):
    server.use(monkeypatch)
    return server


@pytest.fixture(scope="module")
def array(server, tmp_path_factory):
    """A scene in the bucket, in three places."""
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    array = noise((3, 1100, 1100))
    write_raster(path, array, tiled=True, blockxsize=256, blockysize=256)
    for key in ("scene.tif", "2026/b.tif", "2026/a.tif", "2026/deep/c.tif"):
        server.put("maps", key, path.read_bytes())
    server.put("maps", "2026/notes.txt", b"")
    return array


def test_a_scene_in_a_bucket_is_opened_by_three_requests_at_most(s3, array):
    s3.tell("clear")
    with Scene.open("s3://maps/scene.tif").reader() as reader:
        opening = s3.requests()
        np.testing.assert_array_equal(reader.read(Window(300, 300, 100, 100)).pixels, array[:, 300:400, 300:400])
    assert 0 < len(opening) <= 3, opening
    assert len(s3.requests()) == len(opening) + 1


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("s3://maps/2026/", ["2026/a.tif", "2026/b.tif"]),
        ("s3://maps", ["scene.tif"]),
        ("s3://maps/2026/*.tif", ["2026/a.tif", "2026/b.tif"]),
        ("s3://maps/**/[bc].tif", ["2026/b.tif", "2026/deep/c.tif"]),
        ("s3://maps/absent.tif", ["absent.tif"]),
    ],
)
def test_folders_and_globs_of_a_bucket_are_listed(s3, array, named, found):
    assert expand_sources([named]) == [f"s3://maps/{key}" for key in found]


@pytest.mark.parametrize("endpoint", ["AWS_ENDPOINT_URL", "AWS_S3_ENDPOINT"])
def test_the_endpoint_by_either_librarys_name_does_for_both(s3, array, monkeypatch, endpoint):
    address = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    if endpoint == "AWS_S3_ENDPOINT":
        monkeypatch.setenv(endpoint, address.removeprefix("http://"))
        monkeypatch.setenv("AWS_HTTPS", "NO")
        monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
    else:
        monkeypatch.setenv(endpoint, address)
    (name,) = expand_sources(["s3://maps/scene*"])
    assert Scene.open(name).grid.shape == (1100, 1100)


def test_keys_of_a_profile_do_for_both(s3, array, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "keys").write_text("[work]\naws_access_key_id = one\naws_secret_access_key = two\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("AWS_PROFILE", "work")
    (name,) = expand_sources(["s3://maps/scene*"])
    assert Scene.open(name).grid.shape == (1100, 1100)


@pytest.mark.slow
def test_a_third_of_the_requests_may_fail(s3, array, monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "8")
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.05")
    with s3.failing(share=0.3):
        s3.tell("clear")
        for key in expand_sources(["s3://maps/2026/**/*.tif"]):
            with Scene.open(key).reader() as reader:
                np.testing.assert_array_equal(reader.read(Window(0, 0, 1100, 1100)).pixels, array)
        assert "503" in " ".join(s3.requests())


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("s3://maps/none.tif", "s3://maps/none.tif: cannot be read .*key does not exist"),
        ("s3://nowhere/none.tif", "s3://nowhere/none.tif: cannot be read .*bucket does not exist"),
        ("s3://nowhere/2026/", r"s3://nowhere/2026/: there is no bucket nowhere"),
        ("s3://maps/2025/", "s3://maps/2025/: holds no raster"),
        ("s3://maps/*.jp2", r"s3://maps/\*.jp2: this pattern matches no object"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(s3, array, source, told):
    with pytest.raises(InputError, match=told):
        Scene.open(*expand_sources([source]))


def test_no_permission_is_told_by_both(s3, array):
    with s3.failing(refused=1):
        with pytest.raises(InputError, match="2026/: no permission"):
            expand_sources(["s3://maps/2026/"])
        with pytest.raises(InputError, match=r"cannot be read.*(403|Denied)"):
            Scene.open("s3://maps/2026/z.tif")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["silent", "gone"])
def test_a_server_that_is_gone_is_told_within_a_minute(s3, array, monkeypatch, fault):
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.1")
    monkeypatch.setattr(cloud, "RETRY_SECONDS", 1)
    if fault == "gone":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    began = time.monotonic()
    with s3.failing(silent=fault == "silent"):
        with pytest.raises(InputError, match="cannot be read"):
            Scene.open(f"s3://maps/{fault}.tif")
        with pytest.raises(InputError, match="cannot be reached"):
            expand_sources(["s3://maps/2026/"])
    assert time.monotonic() - began < 20


def test_the_patience_of_both_libraries_ends_within_a_minute():
    from co2s_cli.addresses import HTTP

    options = {name: float(value) for name, value in HTTP.items()}
    tries = options["GDAL_HTTP_MAX_RETRY"] + 1
    waits = options["GDAL_HTTP_RETRY_DELAY"] * sum(2.5**n for n in range(int(tries) - 1))
    connecting = (tries + 1) * options["GDAL_HTTP_CONNECTTIMEOUT"]  # the last one looks for a folder of that name
    assert waits + connecting < 60
    assert 2 * options["GDAL_HTTP_LOW_SPEED_TIME"] < 60
    assert cloud.RETRY_SECONDS + options["GDAL_HTTP_LOW_SPEED_TIME"] < 60


def test_a_missing_extra_is_named_with_the_command_that_brings_it(s3, monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ResourceError, match="obstore") as told:
        expand_sources(["s3://maps/2026/"])
    assert told.value.hint == "pip install 'co2s_cli[cloud]'"


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/x.tif?X-Sig=secret&a=b", "http://me:secret@127.0.0.1:1/x.tif"])
def test_messages_show_no_secrets_of_addresses(co2s, address):
    result = co2s("info", address)
    assert (result.exit_code, len(result.stderr.strip().splitlines())) == (3, 1)
    assert "127.0.0.1:1/x.tif" in result.stderr
    assert "secret" not in result.stdout + result.stderr
