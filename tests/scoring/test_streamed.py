"""Every count is that of the whole map, whatever the blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from co2s_cli.classes import IGNORE
from co2s_cli.progress import SILENT
from co2s_cli.scoring.boundary import borders
from co2s_cli.scoring.counts import CountRules, MapCounts
from co2s_cli.scoring.matrix import confusion
from co2s_cli.scoring.streamed import MapAndTruth, Recoded, counts, recoding
from co2s_cli.tiling import Window

SHAPE = (37, 45)
WHOLE = Window(0, 0, *SHAPE)


class Kept:
    def __init__(self, values):
        self.values, self.read_windows = values, []

    def read(self, window):
        self.read_windows.append(window)
        assert window.row >= 0
        assert window.col >= 0
        assert window.bottom <= self.values.shape[0]
        assert window.right <= self.values.shape[1]
        return self.values[window.slices].copy()


def made(seed):
    """Truth with gaps, a map with other gaps, confidences."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 4, (10, 12)), np.ones((4, 4), int))[: SHAPE[0], : SHAPE[1]].astype(np.uint8)
    drawn = np.where(rng.random(SHAPE) < 0.85, np.roll(truth, 1, 1), rng.integers(0, 4, SHAPE)).astype(np.uint8)
    truth[rng.random(SHAPE) < 0.1] = IGNORE
    truth[20:30, 5:40] = IGNORE
    drawn[rng.random(SHAPE) < 0.05] = IGNORE
    sure = rng.integers(0, 256, SHAPE).astype(np.uint8)
    return truth, drawn, sure


def pair_of(truth, drawn, sure):
    return MapAndTruth(Kept(truth), Kept(drawn), Kept(sure), SHAPE)


def same(one, other):
    for name in ("matrix", "missing", "borders", "levels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    side=st.integers(3, 50),
    rules=st.builds(CountRules, st.sampled_from([(), (2,)]), st.booleans(), st.sampled_from([0.0, 1.5, 3.0, 7.0])),
)
def test_blocks_add_up_to_the_whole(seed, side, rules):
    arrays = made(seed)
    whole = MapCounts.of(*arrays, (slice(None), slice(None)), rules)
    same(counts(pair_of(*arrays), WHOLE, rules, SILENT, side), whole)


@pytest.mark.parametrize("wrong", [False, True])
def test_the_counts_are_those_of_a_plain_reading(wrong):
    truth, drawn, sure = made(5)
    rules = CountRules((1,), wrong, 2.0)
    found = counts(pair_of(truth, drawn, sure), WHOLE, rules, SILENT, 16)
    np.testing.assert_array_equal(found.matrix[:4, :4], confusion(truth, drawn, 4))
    assert found.matrix[4:].sum() == 0
    for value in range(4):
        assert found.missing[value] == ((truth == value) & (drawn == IGNORE)).sum()
    known = (truth != IGNORE) & (truth != 1) & ((drawn != IGNORE) | wrong)
    everywhere = (slice(None), slice(None))
    np.testing.assert_array_equal(found.borders, borders(truth, drawn, known, everywhere, 2.0))
    heard = known & (drawn != IGNORE) & (sure != IGNORE)
    np.testing.assert_array_equal(found.levels[0], np.bincount(sure[heard], minlength=256))
    np.testing.assert_array_equal(found.levels[1], np.bincount(sure[heard & (truth == drawn)], minlength=256))


def test_a_window_counts_what_lies_in_it_and_sees_what_lies_around():
    truth, drawn, sure = made(2)
    window = Window(9, 13, 20, 17)
    found = counts(pair_of(truth, drawn, sure), window, CountRules(), SILENT, 8)
    same(found, MapCounts.of(truth, drawn, sure[window.slices], window.slices, CountRules()))


def test_the_map_is_not_read_where_nothing_is_labelled():
    truth, drawn, sure = made(1)
    truth[:] = IGNORE
    truth[3, 4] = 1
    pair = pair_of(truth, drawn, sure)
    counts(pair, WHOLE, CountRules(), SILENT, 10)
    assert len(pair.predicted.read_windows) == len(pair.confidence.read_windows) == 1
    assert len(pair.truth.read_windows) == 20


def test_ids_are_replaced_as_they_are_read():
    reader = Recoded(Kept(np.array([[0, 1, 2, IGNORE]], np.uint8)), recoding((2, 0, 1)))
    assert reader.read(Window(0, 0, 1, 4)).tolist() == [[2, 0, 1, IGNORE]]
