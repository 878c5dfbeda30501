"""The images of a data.yaml: which of their bands are read, and by which names."""

import logging

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from support.rasters import noise, write_raster

from co2s_cli.config.data import DataConfig
from co2s_cli.data.sources import labeled_sources, open_scene, resolved, unlabeled_sources, with_bands
from co2s_cli.errors import InputError

SHAPE = (8, 8)


def image(folder, name, names=(), count=None, **options):
    """A scene with named bands beside labels for it."""
    path = write_raster(folder / name, noise((count or len(names), *SHAPE)), names=names, **options)
    write_raster(folder / "labels.tif", np.zeros(SHAPE, np.uint8))
    return str(path)


def config(folder, *images, **changes):
    """A data.yaml that labels these images."""
    labeled = [
        {"labels": folder / "labels.tif", **(each if isinstance(each, dict) else {"image": each})} for each in images
    ]
    return DataConfig.model_validate({"classes": ["land", "water"], "labeled": labeled, **changes})


def bands_of(folder, *images, **changes):
    return with_bands(config(folder, *images, **changes)).bands


def test_without_bands_all_of_the_labelled_scene_are_used_by_their_names_but_alpha(tmp_path):
    names = ("Blue", "Green", "Red", "NIR", "thermal")
    assert bands_of(tmp_path, image(tmp_path, "a.tif", names)) == names
    colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined, ColorInterp.alpha)
    assert bands_of(tmp_path, image(tmp_path, "b.tif", count=5, colors=colors)) == ("red", "green", "blue", "band_4")


@pytest.mark.parametrize("names", [(), ("Red", "Green", "Blue"), ("B04", "B03", "B02"), ("blue", "green", "red")])
def test_three_bands_without_names_or_of_colours_are_red_green_blue(tmp_path, names):
    assert bands_of(tmp_path, image(tmp_path, "a.tif", names, count=3, photometric="minisblack")) == (
        "red",
        "green",
        "blue",
    )


def test_three_other_bands_keep_their_names(tmp_path):
    assert bands_of(tmp_path, image(tmp_path, "a.tif", ("nir", "red", "green"))) == ("nir", "red", "green")


def test_bands_that_an_entry_picks_are_those_of_the_model(tmp_path):
    path = image(tmp_path, "a.tif", ("blue", "green", "red", "nir"))
    assert bands_of(tmp_path, {"image": path, "bands": [4, "red"]}) == ("nir", "red")


def test_labelled_scenes_of_other_bands_are_refused_with_both_names(tmp_path):
    first = image(tmp_path, "a.tif", ("red", "green", "blue", "nir"))
    same = image(tmp_path, "b.tif", ("NIR", "Red", "Green", "Blue"))
    other = image(tmp_path, "c.tif", ("red", "green", "blue", "swir1"))
    assert bands_of(tmp_path, first, same) == ("red", "green", "blue", "nir")
    for val in (0.2, [{"image": other, "labels": tmp_path / "labels.tif"}]):
        with pytest.raises(InputError, match=r"different bands: .*nir in .*a\.tif, .*swir1 in .*c\.tif"):
            bands_of(tmp_path, first, *([other] if val == 0.2 else []), val=val)


def test_two_bands_of_one_name_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.tif: several bands have the same name"):
        bands_of(tmp_path, image(tmp_path, "a.tif", ("red", "nir", "NIR", "blue")))


def test_scaling_must_have_as_many_ranges_as_the_bands_found(tmp_path):
    scaling = {"low": [0, 0, 0], "high": [1, 1, 1]}
    with pytest.raises(InputError, match="scaling has 3 ranges for 4 bands"):
        bands_of(tmp_path, image(tmp_path, "a.tif", ("red", "green", "blue", "nir")), scaling=scaling)


def test_an_unlabelled_entry_picks_as_many_bands_as_were_found(tmp_path):
    path = image(tmp_path, "a.tif", ("red", "green", "blue", "nir"))
    with pytest.raises(InputError, match="picks 3 bands where 4 are named"):
        bands_of(tmp_path, path, unlabeled=[{"image": path, "bands": [1, 2, 3]}])


def test_unlabelled_scenes_are_matched_by_name(tmp_path):
    data = with_bands(config(tmp_path, image(tmp_path, "a.tif", ("red", "green", "blue", "nir"))))
    other = image(tmp_path, "b.tif", ("coastal", "nir", "blue", "green", "red"))
    entry = config(tmp_path, other, unlabeled=[other]).unlabeled
    (source,) = unlabeled_sources(entry, data.bands, known=set())
    assert source.scene.bands == (5, 4, 3, 2)


def test_bands_of_a_data_yaml_are_numbers_or_names_in_any_mix(tmp_path):
    first = image(tmp_path, "a.tif", ("B2", "B3", "B4", "B8A", "B12"))
    other = image(tmp_path, "b.tif", ("B12", "B4", "B8A", "B2"))
    data = with_bands(config(tmp_path, first, bands=[5, "NIR08", 3], unlabeled=[other]))
    assert data.band_names == ("B12", "B8A", "B4")
    (labeled,) = labeled_sources(data.labeled, data.class_map, data.band_names)
    assert labeled.scene.bands == (5, 4, 3)
    (unlabeled,) = unlabeled_sources(data.unlabeled, data.band_names, known=set())
    assert unlabeled.scene.bands == (1, 3, 2)  # by its names, not by the numbers of the first


@pytest.mark.parametrize("bands", [[5, 1], ["band_5", 1], "5,1"])
def test_bands_without_names_have_the_numbers_of_the_first_image_in_all_images_that_name_none(tmp_path, bands):
    first, other = (image(tmp_path, name, count=6, photometric="minisblack") for name in ("a.tif", "b.tif"))
    data = with_bands(config(tmp_path, first, bands=bands, unlabeled=[other]))
    assert data.band_names == ("band_5", "band_1")
    (labeled,) = labeled_sources(data.labeled, data.class_map, data.band_names)
    (unlabeled,) = unlabeled_sources(data.unlabeled, data.band_names, known=set())
    assert labeled.scene.bands == unlabeled.scene.bands == (5, 1)
    shorter = image(tmp_path, "c.tif", count=5, photometric="minisblack")  # another sensor: which band is the fifth?
    data = with_bands(config(tmp_path, first, bands=bands, unlabeled=[shorter]))
    with pytest.raises(InputError, match=r"5 bands found .* wanted are band_5, band_1"):
        unlabeled_sources(data.unlabeled, data.band_names, known=set())


def test_three_bands_without_names_are_red_green_blue_in_any_order(tmp_path):
    first = image(tmp_path, "a.tif", count=3, photometric="minisblack")
    named = image(tmp_path, "b.tif", ("red", "green", "blue"))
    data = with_bands(config(tmp_path, first, bands=[3, 2, 1], unlabeled=[first, named]))
    assert data.band_names == ("blue", "green", "red")
    (labeled,) = labeled_sources(data.labeled, data.class_map, data.band_names)
    rest = unlabeled_sources(data.unlabeled, data.band_names, known=set())
    assert [source.scene.bands for source in (labeled, *rest)] == [(3, 2, 1)] * 3


def test_numbers_of_more_bands_are_no_order_of_as_many_others(tmp_path):
    first = image(tmp_path, "a.tif", count=8, photometric="minisblack")
    other = image(tmp_path, "b.tif", count=4, photometric="minisblack")
    data = with_bands(config(tmp_path, first, bands=[8, 4, 3, 2], unlabeled=[other]))
    with pytest.raises(InputError, match="4 bands found"):
        unlabeled_sources(data.unlabeled, data.band_names, known=set())


def test_three_bands_without_names_are_red_green_blue_beside_alpha_too(tmp_path):
    colors = (ColorInterp.gray, ColorInterp.undefined, ColorInterp.undefined, ColorInterp.alpha)
    path = image(tmp_path, "a.tif", count=4, photometric="minisblack", dtype="uint8")
    with rasterio.open(path, "r+") as file:
        file.colorinterp = colors
    assert bands_of(tmp_path, path, bands=[3, 1]) == ("blue", "red")


def test_alpha_beside_the_bands_does_not_count_as_another_sensor(tmp_path):
    colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined, ColorInterp.alpha)
    first = image(tmp_path, "a.tif", count=5, colors=colors)
    other = image(tmp_path, "b.tif", count=4, colors=colors[:4], alpha="no")
    data = with_bands(config(tmp_path, first, bands=[4, 1], unlabeled=[other]))
    (unlabeled,) = unlabeled_sources(data.unlabeled, data.band_names, known=set())
    assert unlabeled.scene.bands == (4, 1)


def test_numbers_hold_for_chips_without_names_only_if_all_of_them_are_alike(tmp_path):
    first = image(tmp_path, "a.tif", count=6, photometric="minisblack")
    (tmp_path / "chips").mkdir()
    write_raster(tmp_path / "chips" / "a.tif", noise((6, *SHAPE)), photometric="minisblack")
    data = with_bands(config(tmp_path, first, bands=[4, 1], unlabeled=[str(tmp_path / "chips")]))
    (chip,) = unlabeled_sources(data.unlabeled, data.band_names, known=set())
    assert chip.scene.bands == (4, 1)
    write_raster(tmp_path / "chips" / "b.tif", noise((6, *SHAPE)), names=("B11", "B8", "B4", "B3", "B2", "B1"))
    data = with_bands(config(tmp_path, first, bands=[4, 1], unlabeled=[str(tmp_path / "chips")]))
    with pytest.raises(InputError, match="wanted are band_4, band_1"):
        unlabeled_sources(data.unlabeled, data.band_names, known=set())


def test_names_of_a_model_are_no_numbers_of_another_file(tmp_path):
    path = image(tmp_path, "a.tif", count=8, photometric="minisblack")
    data = with_bands(config(tmp_path, path, bands=["band_4", "band_1"]))
    with pytest.raises(InputError, match=r"8 bands found .* wanted are band_4, band_1"):
        labeled_sources(data.labeled, data.class_map, data.band_names)


def test_digits_in_quotes_are_a_name(tmp_path):
    path = image(tmp_path, "a.tif", ("2", "1", "4"))
    data = with_bands(config(tmp_path, path, bands=["1", "4"]))
    assert data.band_names == ("1", "4")
    (source,) = labeled_sources(data.labeled, data.class_map, data.band_names)
    assert source.scene.bands == (2, 3)
    assert with_bands(config(tmp_path, path, bands=["1..2"])).band_names == ("2", "1")


def test_names_beside_a_number_are_understood_together(tmp_path):
    path = image(tmp_path, "a.tif", ("red", "green", "blue", "nir08", "swir1"))
    data = with_bands(config(tmp_path, path, bands=["B8A", "B11", 1]))  # B11 alone could be Landsat's thermal band
    assert data.band_names == ("nir08", "swir1", "red")


def test_known_names_picked_from_more_bands_are_no_unnamed_ones(tmp_path, caplog):
    names = ("B1", "B2", "B3", "B4", "B8", "B8A", "B11", "B12")
    data = with_bands(config(tmp_path, image(tmp_path, "a.tif", names), bands=["B08", "B11", "B04"]))
    (source,) = labeled_sources(data.labeled, data.class_map, data.band_names)
    assert source.scene.bands == (5, 7, 4)
    assert not caplog.text


def test_an_entry_keeps_its_own_bands_where_others_have_those_of_all(tmp_path):
    first, other = (image(tmp_path, name, count=4, photometric="minisblack") for name in ("a.tif", "b.tif"))
    data = with_bands(config(tmp_path, first, {"image": other, "bands": [4, 3]}, bands=[1, 2]))
    sources = labeled_sources(data.labeled, data.class_map, data.band_names)
    assert [source.scene.bands for source in sources] == [(1, 2), (4, 3)]


@pytest.mark.parametrize(
    ("bands", "said"),
    [([1, 9], "has 4 bands .* band 9 was asked for"), ([2, 2], "the same band twice"), ([1, "haze"], "called 'haze'")],
)
def test_bands_by_number_that_are_not_there_or_twice_are_refused(tmp_path, bands, said):
    with pytest.raises(InputError, match=said):
        bands_of(tmp_path, image(tmp_path, "a.tif", ("red", "green", "blue", "nir")), bands=bands)


def test_bands_with_other_known_names_are_refused_and_never_taken_in_order(tmp_path):
    path = image(tmp_path, "a.tif", ("red", "green", "blue"))
    with pytest.raises(InputError, match=r"3 bands found .* wanted are nir, red, green") as caught:
        open_scene(path, ("nir", "red", "green"))
    assert "1" not in caught.value.hint
    assert open_scene(path, ("nir", "red", "green"), picked=(1, 2, 3)).bands == (1, 2, 3)


def test_numbered_names_say_nothing_of_a_file_with_more_bands(tmp_path):
    path = image(tmp_path, "a.tif", count=6)
    with pytest.raises(InputError, match="6 bands found"):
        open_scene(path, ("band_1", "band_2", "band_3", "band_4"))


def test_bands_without_names_are_taken_in_order_and_the_log_says_so(tmp_path, caplog):
    path = image(tmp_path, "a.tif", count=3, photometric="minisblack")
    data = with_bands(config(tmp_path, path))
    with caplog.at_level(logging.WARNING):
        (source,) = labeled_sources(data.labeled, data.class_map, data.bands)
    assert source.scene.bands == (1, 2, 3)
    assert "a.tif: bands without known names are taken as red, green, blue" in caplog.text
    caplog.clear()
    named = image(tmp_path, "b.tif", ("red", "green", "blue"))
    labeled_sources(config(tmp_path, named).labeled, data.class_map, data.bands)
    assert not caplog.text


def test_labelled_chips_with_a_palette_are_not_listed_again_as_unlabelled(tmp_path):
    (tmp_path / "chips").mkdir()
    (tmp_path / "labels").mkdir()
    for name in ("a.tif", "b.tif"):
        path = write_raster(tmp_path / "chips" / name, noise(SHAPE), photometric="palette")
        with rasterio.open(path, "r+") as dataset:
            dataset.write_colormap(1, {value: (value, 0, 255 - value) for value in range(256)})
    write_raster(tmp_path / "labels" / "a.tif", np.zeros(SHAPE, np.uint8))
    (tmp_path / "labeled.txt").write_text("a.tif\n")
    labeled = {"image": str(tmp_path / "chips"), "labels": tmp_path / "labels", "list": tmp_path / "labeled.txt"}
    data = with_bands(config(tmp_path, labeled, unlabeled=[str(tmp_path / "chips")]))
    first = labeled_sources(data.labeled, data.class_map, data.bands)
    known = {resolved(source.scene.source) for source in first}
    rest = unlabeled_sources(data.unlabeled, data.bands, known=known)
    assert [len(source.scene.bands) for source in (*first, *rest)] == [3, 3]
    assert [resolved(source.scene.source) for source in rest] == [str(tmp_path / "chips" / "b.tif")]
