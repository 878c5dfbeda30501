import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from co2s_cli.errors import ConfigError
from co2s_cli.geo.legend import Legend

NAMES = "<PAMDataset><PAMRasterBand band='1'><CategoryNames>{}</CategoryNames></PAMRasterBand></PAMDataset>"


@pytest.fixture
def legend_of(tmp_path):
    """The legend of a raster with such tags, palette and sidecar."""

    def make(tags=None, palette=None, aux=None):
        path = tmp_path / "map.tif"
        with rasterio.open(
            path, "w", driver="GTiff", height=2, width=2, count=1, dtype="uint8", transform=Affine(1, 0, 0, 0, -1, 2)
        ) as dataset:
            dataset.write(np.zeros((1, 2, 2), np.uint8))
            dataset.update_tags(**(tags or {}))
            if palette:
                dataset.write_colormap(1, palette)
        if aux:
            (tmp_path / "map.tif.aux.xml").write_text(aux)
        with rasterio.open(path) as dataset:
            return Legend.of(dataset)

    return make


def test_classes_without_names_are_called_after_their_ids(legend_of):
    legend = legend_of()
    assert legend.names[:2] == ("class 0", "class 1")
    assert len(legend.names) == len(legend.colors) == 255
    assert len(set(legend.colors[:10])) == 10


def test_category_names_are_read_and_gaps_in_them_filled(legend_of):
    aux = NAMES.format("<Category>water</Category><Category></Category><Category>wood</Category>")
    assert legend_of(aux=aux).names[:4] == ("water", "class 1", "wood", "class 3")


def test_names_in_the_tags_go_first_and_others_tags_are_left_alone(legend_of):
    aux = NAMES.format("<Category>water</Category>")
    assert legend_of(tags={"CLASS_NAMES": json.dumps(["sea"])}, aux=aux).names[0] == "sea"
    assert legend_of(tags={"CLASS_NAMES": "sea, land"}, aux=aux).names[0] == "water"


def test_a_broken_sidecar_is_no_reason_to_stop(legend_of):
    assert legend_of(aux="<PAMDataset>").names[0] == "class 0"


def test_colours_are_those_of_the_palette(legend_of):
    assert legend_of(palette={1: (9, 8, 7, 255)}).colors[1] == (9, 8, 7)


def test_classes_are_found_by_name_and_by_id(legend_of):
    legend = legend_of(aux=NAMES.format("<Category>water</Category><Category>wood</Category>"))
    assert legend.ids(["wood", "0", "7"]) == [1, 0, 7]
    with pytest.raises(ConfigError, match=r"lake: no such class in the raster \(known: water, wood\)"):
        legend.ids(["lake"])


def test_a_name_that_occurs_twice_gets_its_id(legend_of):
    legend = legend_of(aux=NAMES.format("<Category>wood</Category><Category>wood</Category>"))
    assert legend.class_map([1]).names == ("wood (0)", "wood (1)")
