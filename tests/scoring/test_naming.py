"""Classes of map and truth by name."""

import pytest

from co2s_cli.classes import ClassMap
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.scoring.counts import MapCounts
from co2s_cli.scoring.naming import Naming

ABC = ClassMap.of(["a", "b", "c"])


def tally_with(*pairs):
    found = MapCounts.empty()
    for truth, drawn in pairs:
        found.matrix[truth, drawn] += 1
    return found


def test_classes_are_matched_by_name_and_new_ones_come_behind():
    naming = Naming.of(ABC, ClassMap.of(["c", "snow", "a"]))
    assert naming.classes.names == ("a", "b", "c", "snow")
    assert naming.truth_ids == (2, 3, 0)
    assert any("snow" in remark for remark in naming.remarks())
    assert any("by name" in remark for remark in naming.remarks())


def test_one_side_takes_the_names_of_the_other():
    for naming in (Naming.of(ABC, None), Naming.of(None, ABC), Naming.of(ABC, ABC)):
        assert naming.classes.names == ABC.names
        assert naming.truth_ids == (0, 1, 2)
        assert naming.remarks() == []


def test_without_any_names_classes_are_those_that_occur():
    naming = Naming.of(None, None)
    assert naming.names_of(tally_with((10, 10), (0, 95)), "map.tif") == {i: f"class {i}" for i in (0, 10, 95)}
    assert naming.names_of(MapCounts.empty(), "map.tif") == {}


def test_names_without_anything_in_common_are_refused():
    with pytest.raises(InputError, match="no name in common"):
        Naming.of(ABC, ClassMap.of(["x", "y"]))


def test_a_value_of_the_map_without_a_name_is_refused():
    naming = Naming.of(ABC, ClassMap.of(["a", "snow"]))
    with pytest.raises(InputError, match=r"map\.tif: value 3 has no name"):
        naming.names_of(tally_with((0, 3)), "map.tif")
    assert tuple(naming.names_of(tally_with((3, 0)), "map.tif").values()) == ("a", "b", "c", "snow")


def test_excluded_classes_are_named():
    assert Naming.of(ABC, None).ids(["c", "a"]) == (2, 0)
    with pytest.raises(ConfigError, match="--exclude 2: no such class"):
        Naming.of(ABC, None).ids(["2"])


def test_a_class_that_is_only_missing_occurs():
    lost = MapCounts.empty()
    lost.missing[6] = 1
    assert lost.occurring == [6]
