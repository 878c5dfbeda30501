"""Classes get the colours that people expect."""

import itertools

import pytest

from co2s_cli.classes import PALETTE
from co2s_cli.colors import colors_for, usual_color


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("Water", "water"), ("water bodies", "water"), ("Built-up", "built up"), ("TREES", "tree"),
        ("irrigated crops", "crop"), ("bareSoil", "bare soil"), ("Grass", "grassland"),
        ("Evergreen Forests", "conifer"),
    ],
)  # fmt: skip
def test_case_plural_and_further_words_do_not_count(name, same_as):
    assert usual_color(name) == usual_color(same_as) is not None


@pytest.mark.parametrize("name", ["non-forest", "class 3", "17", "", "Wasser"])
def test_other_names_have_no_usual_color(name):
    assert usual_color(name) is None


def test_classes_of_one_colour_get_shades_and_the_rest_the_palette():
    names = ["oak wood", "class 2", "pine wood", "water", "beech wood", "class 6"]
    colors = colors_for(names)
    assert colors[0] == usual_color("wood")
    assert colors[3] == usual_color("water")
    assert {colors[1], colors[5]} <= set(PALETTE)
    assert all(
        sum((a - b) ** 2 for a, b in zip(*pair, strict=True)) ** 0.5 >= 40 for pair in itertools.combinations(colors, 2)
    )


def test_any_number_of_classes_gets_a_color():
    assert len(colors_for([f"kind {number}" for number in range(60)])) == 60
