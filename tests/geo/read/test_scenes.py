"""Maps and labels that co2s has written are no scenes where a glob takes them in."""

import logging

import numpy as np
import pytest
import rasterio
from support.rasters import noise, write_raster

from co2s_cli.geo.read.scenes import scene_sources, tell_left_out


@pytest.fixture
def folder(tmp_path):
    write_raster(tmp_path / "scene.tif", noise((3, 8, 8)))
    write_raster(tmp_path / "gray.tif", noise((1, 8, 8)))
    for name, tag in (("map.tif", "CO2S_VERSION"), ("labels.tif", "co2s_version")):
        write_raster(tmp_path / name, np.zeros((8, 8), np.uint8))
        with rasterio.open(tmp_path / name, "r+") as dataset:
            dataset.update_tags(**{tag: "1"})
    with rasterio.open(tmp_path / "scene.tif", "r+") as dataset:
        dataset.update_tags(co2s_version="1")
    (tmp_path / "broken.tif").write_text("no raster")
    return tmp_path


@pytest.mark.parametrize("words", ["{}/*.tif", "{}"])
def test_a_glob_and_a_folder_leave_out_what_was_made(folder, words, caplog):
    wanted = [str(folder / name) for name in ("broken.tif", "gray.tif", "scene.tif")]
    assert scene_sources([words.format(folder)]) == wanted
    with caplog.at_level(logging.WARNING):
        tell_left_out([words.format(folder)])
    assert caplog.messages == [
        f"not read as scenes, because co2s wrote them as maps or labels: {folder}/labels.tif, {folder}/map.tif"
    ]


def test_what_is_named_alone_is_what_the_user_says(folder, caplog):
    for names in (["map.tif"], ["map.tif", "labels.tif"]):
        sources = [str(folder / name) for name in names]
        assert scene_sources(sources) == sources
        tell_left_out(sources)
    assert not caplog.messages
