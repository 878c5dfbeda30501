"""Classes by the values of an attribute or a raster, and what is called thin."""

import pytest

from co2s_cli.data.draft.classes import RASTER_NOUN, ClassFacts, LabelClasses, check_classes
from co2s_cli.errors import InputError


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
