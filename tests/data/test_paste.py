"""Parts of one labelled crop in another: which, where, and with which labels."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from support.rasters import write_raster
from support.training import SIZE, landscape

from co2s_cli.classes import IGNORE
from co2s_cli.config.data import read_data
from co2s_cli.data.dataset import assemble
from co2s_cli.data.loader import PASTED, BatchPlan, Loader
from co2s_cli.data.paste import MASK_AREA, SMALLEST_SOURCE, irregular_mask, large_areas, pasted, shows_borders
from co2s_cli.data.samples import Crop, View
from co2s_cli.data.strong import BandNoise

SMALL = 3
"""The class whose squares are too small to be pasted."""


def polygons(folder, *, small=(SMALL,), dense=False):
    """A data set of squares of single classes that do not touch, of 4 or 12 pixels; or with a label everywhere.

    The value of a pixel tells its label.
    """
    path = landscape(folder, val=None)
    labels = np.full((SIZE, SIZE), IGNORE, np.uint8)
    for number, (row, col) in enumerate(itertools.product(range(0, SIZE - 16, 16), repeat=2)):
        side = 4 if number % 5 in small else 12
        labels[row : row + side, col : col + side] = number % 5
    if dense:
        labels = np.kron(np.indices((SIZE // 8, SIZE // 8)).sum(axis=0) % 5, np.ones((8, 8))).astype(np.uint8)
    write_raster(folder / "few.tif", labels)
    values = np.where(labels == IGNORE, 255, labels * 20 + 10).astype(np.uint8)
    write_raster(folder / "scene.tif", np.stack([values] * 3))
    return assemble(read_data(path), view=View(64, (1.0, 1.0), "own"), seed=0)


@given(st.integers(0, 10**6))
def test_large_areas_are_those_of_scipy(seed):
    generator = np.random.default_rng(seed)
    side = int(generator.integers(1, 14))
    coarse = generator.choice([0, 1, IGNORE], (-(-40 // side), -(-52 // side)))
    labels = np.kron(coarse, np.ones((side, side))).astype(np.uint8)[:40, :52]
    expected = np.zeros(labels.shape, bool)
    for class_id in (0, 1):
        areas, _ = ndimage.label(labels == class_id)
        expected |= (np.bincount(areas.ravel())[areas] >= SMALLEST_SOURCE) & (labels == class_id)
    np.testing.assert_array_equal(large_areas(labels), expected)
    np.testing.assert_array_equal(large_areas(labels.T), expected.T)


def labeled_batch(data, **plan):
    loader = Loader(data.labeled, None, BatchPlan(seed=0, batch=4, crop=64, **plan))
    batch = loader.batch(3)
    loader.release()
    return batch


def test_parts_of_another_labelled_crop_are_pasted_with_their_labels(tmp_path):
    data, noise = polygons(tmp_path), BandNoise(gain=0.1, offset=0.1)
    plain, some, every = (labeled_batch(data, labeled_paste=share, labeled_bands=noise) for share in (0.0, 0.5, 1.0))
    for batch in (plain, some, every):
        labelled = batch.labels != IGNORE
        assert torch.equal((batch.images[:, 0][labelled] - 10) // 20, batch.labels[labelled])
        assert batch.changes == plain.changes
    changed = (every.images != plain.images).any(dim=1)
    assert changed.flatten(1).any(dim=1).all()
    assert set(every.labels[changed].tolist()) == {0, 1, 2, 4}, "only what is labelled is pasted, and no small squares"
    touched = [not torch.equal(one, other) for one, other in zip(some.images, plain.images, strict=True)]
    assert 0 < sum(touched) < 4
    part = labeled_batch(data, labeled_paste=1.0, rank=1, ranks=2)
    assert torch.equal(part.images, every.images[2:])
    assert torch.equal(part.labels, every.labels[2:])


@pytest.mark.parametrize("kind", [{"dense": True}, {"small": range(5)}])
def test_nothing_is_pasted_where_labels_show_borders_anyway_nor_of_small_areas(tmp_path, kind):
    data = polygons(tmp_path, **kind)
    plain, every = (labeled_batch(data, labeled_paste=share) for share in (0.0, 1.0))
    assert torch.equal(plain.images, every.images)
    assert torch.equal(plain.labels, every.labels)


def uniform(value):
    """A crop of one class, of which pixels and weights tell it."""
    labels = torch.full((16, 16), value, dtype=torch.uint8)
    return Crop(labels.expand(3, 16, 16).float(), labels, torch.ones(16, 16, dtype=torch.bool), labels / 4)


def test_nothing_is_pasted_onto_pixels_without_data():
    crop = uniform(1)
    crop.valid[:, 8:] = False
    made = pasted(crop, uniform(2), np.ones((16, 16), bool))
    assert (made.labels[:, :8] == 2).all()
    assert (made.labels[:, 8:] == 1).all()
    assert torch.equal(made.image[0], made.labels.float())


@pytest.mark.parametrize(("rows", "shows"), [(8, True), (7, False)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_crop_shows_borders_if_they_are_as_long_as_its_labels_are_wide(rows, shows, turned):
    labels = torch.full((16, 16), IGNORE, dtype=torch.uint8)
    labels[:8, :4], labels[:rows, 4:8] = 0, 1
    crop = Crop(torch.zeros(3, 16, 16), labels.T if turned else labels, torch.ones(16, 16, dtype=torch.bool))
    assert shows_borders(crop) is shows


def test_what_is_pasted_is_drawn_anew_for_each_crop(monkeypatch, tmp_path):
    data, drawn, real = polygons(tmp_path), [], np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: (drawn.append(tuple(seed)), real(seed))[1])
    loader = Loader(data.labeled, None, BatchPlan(seed=5, batch=3, crop=64, labeled_paste=1.0))
    for step in range(4):
        loader.batch(step)
    loader.release()
    states = {tuple(np.random.SeedSequence(seed).generate_state(4).tolist()) for seed in drawn}
    assert len(states) == len(set(drawn))
    assert sum(seed[1] == PASTED for seed in set(drawn)) == 3 * 4


def test_weights_are_pasted_with_their_labels():
    mask = np.random.default_rng(0).random((16, 16)) < 0.5
    made = pasted(uniform(1), uniform(2), mask)
    assert torch.equal(made.weights, made.labels / 4)
    np.testing.assert_array_equal(made.labels, 1 + mask)


@given(st.integers(0, 10**6))
def test_an_irregular_mask_covers_a_share_within_its_range(seed):
    mask = irregular_mask(64, np.random.default_rng(seed))
    assert mask.shape == (64, 64)
    assert MASK_AREA[0] - 0.001 <= mask.mean() <= MASK_AREA[1] + 0.001


def test_irregular_masks_are_narrow_and_wide_and_lie_everywhere():
    masks = [irregular_mask(96, np.random.default_rng(seed)) for seed in range(300)]
    # the mean run of pixels along a row is about as long as a patch is wide
    widths = [mask.sum() / max(1, np.diff(mask.astype(int), axis=1).clip(0).sum()) for mask in masks]
    assert 1 < min(widths) < 3
    assert 8 < max(widths) < 50
    often = np.mean(masks, axis=0)
    assert often.min() > 0.2
    assert often.max() < 0.5
