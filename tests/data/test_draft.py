"""Classes by the values of an attribute, and what is called thin."""

import pytest

from co2s_cli.data.draft import AttributeClasses, ClassFacts, check_legend
from co2s_cli.errors import InputError
from co2s_cli.geo.labels.polygon_file import Attribute


def attribute(*values, polygons=20):
    kind = "text" if isinstance(values[0], str) else "whole numbers"
    return Attribute("class", kind, values, polygons)


def test_names_that_are_values_need_no_meanings():
    assert AttributeClasses.of(attribute("forest", "water")) == AttributeClasses(("forest", "water"), {})


def test_numbers_as_text_are_named_as_numbers_are():
    assert AttributeClasses.of(attribute("1", "2")) == AttributeClasses(
        ("class 1", "class 2"), {"1": "class 1", "2": "class 2"}
    )
    assert AttributeClasses.of(attribute(1, 2)) == AttributeClasses(
        ("class 1", "class 2"), {1: "class 1", 2: "class 2"}
    )


def test_spellings_join_and_words_for_nothing_are_no_class():
    legend = AttributeClasses.of(attribute("None", "Water", "mixed  wood", "mixed wood", "water"))
    assert legend.names == ("Water", "mixed wood")
    assert legend.values == {
        "None": None, "Water": "Water", "mixed  wood": "mixed wood", "mixed wood": "mixed wood", "water": "Water",
    }  # fmt: skip


def test_fewer_than_two_classes_are_refused():
    only = attribute("none", "water")
    with pytest.raises(InputError, match=r"names 1 class \(values: none, water\)"):
        check_legend("p.gpkg", only, AttributeClasses.of(only))


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
