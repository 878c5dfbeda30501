"""Classes by the values of an attribute or a raster, and what is called thin."""

import numpy as np
import pytest

from co2s_cli.data.draft.classes import RASTER_NOUN, ClassFacts, LabelClasses, check_classes, class_facts
from co2s_cli.data.survey import GAP, block_of
from co2s_cli.errors import InputError
from co2s_cli.tiling import Window


def classes(*values):
    return LabelClasses.of((value, str(value), None) for value in values)


def test_names_that_are_values_need_no_meanings():
    assert classes("forest", "water").names == ("forest", "water")
    assert classes("forest", "water").values == {}


def test_numbers_as_text_are_named_as_numbers_are():
    assert classes("1", "2").names == classes(1, 2).names == ("class 1", "class 2")
    assert classes("1", "2").values == {"1": "class 1", "2": "class 2"}
    assert classes(1, 2).values == {1: "class 1", 2: "class 2"}


def test_spellings_join_and_words_for_nothing_are_no_class():
    joined = classes("None", "Water", "mixed  wood", "mixed wood", "water")
    assert joined.names == ("Water", "mixed wood")
    assert joined.values == {
        "None": None, "Water": "Water", "mixed  wood": "mixed wood", "mixed wood": "mixed wood", "water": "Water",
    }  # fmt: skip


def test_a_colour_of_the_file_goes_before_the_usual_one():
    given = LabelClasses.of(
        [(1, "water", (1, 2, 3)), (2, "forest", None), (3, "Water", (4, 5, 6)), (4, None, (7, 8, 9))]
    )
    assert given.names == ("water", "forest")
    assert given.colors[0] == (1, 2, 3)
    assert given.colors[1] == classes("forest").colors[0]
    assert given.values == {1: "water", 2: "forest", 3: "water", 4: None}


def test_a_number_and_the_name_that_it_gets_are_one_class():
    assert classes("1", "class 1", "2").names == ("class 1", "class 2")


def test_names_that_are_too_long_are_refused():
    with pytest.raises(InputError, match="names a class with 300 characters, at most 200"):
        check_classes("p.gpkg", classes("water", "x" * 300), ["water"], hint="")


def test_what_validates_is_counted_without_the_rim_of_its_block():
    labels = np.ones((20, 20), np.uint8)
    block = block_of(0, Window(0, 0, 20, 20), labels, 2, rim=GAP)
    (_, facts) = class_facts(classes("a", "b"), None, [block], [block])
    assert (facts.pixels, facts.train_pixels, facts.val_pixels) == (800, 400, 144)
    edge = block_of(0, Window(0, 0, 20, 20), np.where(np.arange(20) < 2, 1, 0).astype(np.uint8) * labels, 2, rim=GAP)
    (_, facts) = class_facts(classes("a", "b"), None, [block], [edge])
    assert "none of its places could be held back" in facts.thin(RASTER_NOUN)


def test_fewer_than_two_classes_are_refused():
    with pytest.raises(InputError, match=r"p.gpkg names 1 class \(values: none, water\)") as caught:
        check_classes("p.gpkg", classes("none", "water"), ["none", "water"], hint="draw more")
    assert caught.value.hint == "draw more"


@pytest.mark.parametrize(
    ("pixels", "train", "val", "said"),
    [
        (0, 0, 0, "cover no pixel"),
        (500, 3, 0, "cannot be validated"),
        (500, 3, 1, "4 places"),
        (99, 4, 2, "99 pixels"),
        (100, 4, 1, None),
    ],
)
def test_thin_is_what_no_figure_can_be_trusted_of(pixels, train, val, said):
    facts = ClassFacts("water", (0, 0, 0), 6, pixels, pixels - val, train, val, val)
    told = facts.thin("polygons")
    assert (told is None) == (said is None)
    assert said is None or said in told


def test_thin_points_ask_for_more_points_or_polygons():
    told = ClassFacts("water", (0, 0, 0), 9, 9, 7, 5, 2, 2).thin("points")
    assert told.endswith("label more by more points, or by polygons")
    assert "draw some on the scene" in ClassFacts("water", (0, 0, 0), 1, 0, 0, 0, 0, 0).thin("points")


def test_thin_labels_of_a_raster_ask_for_more_of_them():
    told = ClassFacts("water", (0, 0, 0), None, 9, 7, 5, 2, 2).thin(RASTER_NOUN)
    assert told == "water: 9 pixels are labelled; label more"
