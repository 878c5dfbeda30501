"""The least sure places: the most doubtful squares, spread over the map."""

import numpy as np
import pytest

from co2s_cli.classes import IGNORE
from co2s_cli.pages.doubt import least_sure


@pytest.fixture
def doubt():
    values = np.full((480, 480), 0.1, np.float32)
    values[100:120, 200:220] = 0.9
    values[400:410, 30:40] = 0.6
    values[:, 440:] = np.nan
    return values


def test_the_most_doubtful_square_comes_first_with_its_class(doubt):
    labels = np.zeros(doubt.shape, np.uint8)
    labels[100:120, 200:220] = 3
    first, second, *_ = least_sure(doubt, labels, 5)
    assert (first.row, first.col, first.side) == (100, 200, 10)
    assert first.doubt == pytest.approx(0.9)
    assert first.class_id == 3
    assert (second.row, second.col) == (400, 30)


def test_places_are_apart_and_none_lies_where_nothing_is_known(doubt):
    places = least_sure(doubt, np.full(doubt.shape, IGNORE, np.uint8), 1000)
    squares = np.array([(item.row, item.col) for item in places]) // 10
    gaps = np.abs(squares[:, None] - squares[None]).max(axis=2) + 100 * np.eye(len(squares), dtype=int)
    assert gaps.min() > 3
    assert squares[:, 1].max() < 44
    assert places[0].class_id is None


def test_a_map_of_nothing_has_no_places():
    assert least_sure(np.full((50, 60), np.nan, np.float32), np.zeros((50, 60), np.uint8), 3) == []
    assert least_sure(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.uint8), 3) == []
