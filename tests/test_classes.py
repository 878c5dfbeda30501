"""Class maps come from plain data and go back to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.classes import ClassMap

colors = st.lists(st.integers(0, 255), min_size=3, max_size=3)
items = st.fixed_dictionaries(
    {"name": st.text(min_size=1, max_size=200), "color": colors, "prompts": st.lists(st.text(), max_size=3)}
)


@given(st.lists(items, min_size=1, max_size=255, unique_by=lambda item: item["name"]))
def test_plain_data_is_read_back(plain):
    classes = ClassMap.of(plain)
    assert classes.plain() == plain
    assert [classes.id_of(name) for name in classes.names] == list(range(len(plain)))


def test_names_alone_are_enough_and_get_different_colors():
    classes = ClassMap.of(["land", "water", "ice"])
    assert len(set(classes.colors)) == 3
    assert len(classes) == 3


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ([], "need 1 to 255"),
        ([str(index) for index in range(256)], "need 1 to 255"),
        (["a", "b", "a"], "repeated: a"),
        ([{"colour": [1, 2, 3]}], "class 0: keys are name"),
        ([{"name": "a", "colour": [1, 2, 3]}], "keys are name, color, prompts"),
        ([{"name": "a", "color": [1, 2]}], "three values"),
        ([{"name": "a", "color": [1, 2, 256]}], r"in 0\.\.255"),
    ],
)
def test_what_is_no_class_map_is_refused(plain, words):
    with pytest.raises(ValueError, match=words):
        ClassMap.of(plain)


def test_an_unknown_class_has_no_id():
    with pytest.raises(KeyError, match="fire"):
        ClassMap.of(["land"]).id_of("fire")


def test_joined_classes_keep_their_ids_and_new_ones_come_behind():
    both, ids = ClassMap.of(["a", "b"]).joined(ClassMap.of(["c", "b", "d"]))
    assert both.names == ("a", "b", "c", "d")
    assert ids == (2, 1, 3)
    assert ClassMap.of(["a"]).joined(ClassMap.of(["a"]))[0].names == ("a",)
