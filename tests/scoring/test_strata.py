"""Areas of classes and stratified samples from one pass over a map."""

import numpy as np
import pytest

from co2s_cli.classes import IGNORE
from co2s_cli.progress import SILENT
from co2s_cli.scoring import strata


class ArrayReader:
    def __init__(self, labels):
        self.labels = labels

    def read(self, window):
        return self.labels[window.slices]


def drawn(labels, count, seed=0, row_areas=None, rows=7):
    draw = strata.StratifiedDraw(count, seed, row_areas)
    for top in range(0, len(labels), rows):
        draw.add(top, labels[top : top + rows])
    return draw.sample()


@pytest.fixture
def labels():
    ids = np.random.default_rng(0).choice([0, 2, 5, IGNORE], (60, 40), p=[0.7, 0.2, 0.02, 0.08])
    return ids.astype(np.uint8)


def test_strips_cover_the_map_and_totals_weigh_rows_by_their_area(labels, monkeypatch):
    monkeypatch.setattr(strata, "STRIP_PIXELS", 40 * 7)
    areas = np.linspace(1, 2, 60)
    totals = strata.ClassTotals.empty(areas)
    for top, strip in strata.strips(ArrayReader(labels), labels.shape, SILENT):
        totals.add(top, strip)
    assert totals.occurring == [0, 2, 5]
    for class_id in totals.occurring:
        assert totals.pixels[class_id] == (labels == class_id).sum()
        assert totals.ground[class_id] == pytest.approx(((labels == class_id).sum(axis=1) * areas).sum())


def test_a_sample_has_as_many_pixels_of_each_class_each_once_and_none_of_nodata(labels):
    places = drawn(labels, 20)
    assert (labels[places[:, 1], places[:, 2]] == places[:, 0]).all()
    assert len({tuple(place) for place in places.tolist()}) == len(places)
    assert np.bincount(places[:, 0], minlength=6).tolist() == [20, 0, 20, 0, 0, 20]


def test_of_a_rare_class_every_pixel_is_taken(labels):
    places = drawn(labels, 1000)
    assert (places[:, 0] == 5).sum() == (labels == 5).sum()


def test_a_sample_is_that_of_its_seed_however_the_map_is_cut(labels):
    assert np.array_equal(drawn(labels, 9, rows=7), drawn(labels, 9, rows=60))
    assert not np.array_equal(drawn(labels, 9), drawn(labels, 9, seed=1))


def test_the_first_points_are_of_all_classes(labels):
    assert set(drawn(labels, 30)[:30, 0].tolist()) == {0, 2, 5}


def test_the_chance_of_a_pixel_follows_its_area():
    labels, areas = np.zeros((30, 30), np.uint8), np.linspace(0.2, 1, 30)
    rows = np.concatenate([drawn(labels, 20, seed, areas)[:, 1] for seed in range(200)])
    share = np.bincount(rows, minlength=30) / len(rows)
    assert np.corrcoef(share, areas)[0, 1] > 0.95
    assert share[20:].sum() == pytest.approx(areas[20:].sum() / areas.sum(), abs=0.03)
