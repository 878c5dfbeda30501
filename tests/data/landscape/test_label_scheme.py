"""Classes are taken, left out and joined as the text says."""

import pytest

from co2s_cli.classes import IGNORE
from co2s_cli.data.landscape import CLASSES
from co2s_cli.data.landscape.label_scheme import LabelScheme
from co2s_cli.errors import ConfigError


@pytest.mark.parametrize("text", ["", "  "])
def test_no_text_stands_for_all_classes(text):
    scheme = LabelScheme.parse(text)
    assert scheme.classes == CLASSES
    assert scheme.table[:6].tolist() == [0, 1, 2, 3, 4, 5]
    assert (scheme.table[6:] == IGNORE).all()


def test_named_classes_keep_their_order_in_the_text_and_the_rest_is_unlabelled():
    scheme = LabelScheme.parse("Water, road")
    assert scheme.classes.names == ("Water", "road")
    assert scheme.table[:6].tolist() == [IGNORE, 1, IGNORE, IGNORE, IGNORE, 0]


def test_joined_classes_share_an_id_and_their_prompts():
    scheme = LabelScheme.parse("built=building+road+pavement, green = vegetation")
    assert scheme.classes.names == ("built", "green")
    assert scheme.table[:6].tolist() == [0, 0, 0, 1, IGNORE, IGNORE]
    assert scheme.classes.classes[0].prompts[:4] == ("building", "roof", "house", "road")
    assert scheme.classes.classes[0].color == CLASSES.colors[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("road,moon", "no class is called 'moon'"),
        ("road,", "no class is called ''"),
        ("road,built=road+water", "repeats a class"),
        ("a=road+road", "repeats a class"),
        ("x=road,x=water", "names must differ"),
    ],
)
def test_text_that_makes_no_sense_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        LabelScheme.parse(text)
