"""Names of bands: which mean the same, which mean nothing, and what is never guessed."""

import pytest
from support.rasters import noise, write_raster

from co2s_cli.errors import InputError
from co2s_cli.geo.read.bands import SENSORS, SYNONYMS, bands_of_model, common_names, find_bands, plain
from co2s_cli.geo.read.scene import Scene

RGB = ("red", "green", "blue")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("B05",), ("rededge1",)),
        (("B5",), (None,)),
        (("B4", "B5", "B8A"), ("red", "rededge1", "nir08")),
        (("SR_B4", "SR_B5", "SR_B6"), ("red", "nir", "swir1")),
        (("SR_B4",), (None,)),
        (("Near Infrared", "Red-Edge 1", "SWIR16"), ("nir", "rededge1", "swir1")),
        (("band_1", "band 2", "reflectance"), (None, None, None)),
    ],
)
def test_a_code_is_read_only_where_one_meaning_is_left(names, expected):
    assert common_names(names) == expected


def test_no_two_bands_share_another_name_and_sensors_have_known_bands():
    meanings = {(plain(name), common) for common, others in SYNONYMS.items() for name in (common, *others)}
    assert len(meanings) == len({name for name, _ in meanings})
    assert {name for table in SENSORS.values() for name in table.values()} <= set(SYNONYMS)


def test_an_ambiguous_or_repeated_name_is_found_nowhere():
    assert find_bands(("nir", "rededge"), ["B5"]) == (None,)
    assert find_bands(("red", "Red"), ["red"]) == (None,)
    assert find_bands(("B02", "B8A", "B08"), ["NIR", "blue", "B8a"]) == (3, 1, 2)


def test_bands_of_a_model_are_found_by_name_in_its_order(tmp_path):
    path = write_raster(tmp_path / "scene.tif", noise((4, 8, 8)), names=("Blue", "Green", "Red", "NIR"))
    scene = Scene.open(str(path)).with_bands_of(RGB)
    assert (scene.bands, scene.names) == ((3, 2, 1), ("Red", "Green", "Blue"))


def test_as_many_unnamed_bands_are_taken_in_order_and_others_refused():
    unnamed = tuple(f"band_{number}" for number in range(1, 12))
    assert bands_of_model("a.tif", unnamed[:3], (1, 2, 3), RGB) == (1, 2, 3)
    for names in (unnamed, ("blue", "green", "nir"), ("nir", "red", "green", "blue_2")):
        with pytest.raises(InputError) as caught:
            bands_of_model("a.tif", names, range(1, len(names) + 1), RGB)
        assert "1,2,3" not in caught.value.hint
