"""Geometry, colours and boxes: published sizes and chances, and the same for the same generator."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.classes import IGNORE
from co2s_cli.data.augment import (
    BOX_AREA,
    Geometry,
    Strength,
    Strong,
    cutmix_box,
    labels_view,
    scale_of,
    view_image,
    view_mask,
    weak_geometry,
)
from co2s_cli.tiling import Window

CROP = 32


def rng(seed=0):
    return np.random.default_rng(seed)


@given(st.integers(1, 90), st.integers(1, 90), st.floats(0.5, 4), st.integers(0, 10**6))
def test_a_crop_shows_a_part_that_lies_in_the_image(height, width, scale, seed):
    geometry = weak_geometry(height, width, crop=CROP, scale=scale, rng=rng(seed))
    window = geometry.window
    assert 0 <= window.row <= window.bottom <= height
    assert 0 <= window.col <= window.right <= width
    assert 1 <= geometry.height <= CROP
    assert 1 <= geometry.width <= CROP
    if window.height < height:
        assert geometry.height == CROP


@given(st.integers(0, 10**6), st.integers(0, 80), st.integers(0, 80))
def test_a_crop_near_something_holds_a_pixel_of_it(seed, row, col):
    near = Window(row, col, 5, 5)
    window = weak_geometry(90, 90, crop=CROP, scale=2.0, rng=rng(seed), near=near).window
    assert window.row < near.bottom
    assert window.bottom > near.row
    assert window.col < near.right
    assert window.right > near.col


def test_half_of_the_crops_are_mirrored():
    generator = rng()
    flips = [weak_geometry(64, 64, crop=CROP, scale=1.0, rng=generator).flip for _ in range(2000)]
    assert 0.46 < np.mean(flips) < 0.54


def test_image_and_labels_stay_registered():
    board = (np.indices((40, 40)).sum(axis=0) // 8 % 2).astype(np.uint8)
    for seed in range(20):
        generator = rng(seed)
        scale = float(generator.uniform(0.5, 2))
        geometry = weak_geometry(40, 40, crop=CROP, scale=scale, rng=generator)
        part = np.ascontiguousarray(board[geometry.window.slices])
        image = view_image(torch.from_numpy(part.astype(np.float32))[None], geometry, CROP)[0]
        labels = labels_view(part, geometry, CROP)
        known = labels != IGNORE
        clear = known & ((image - 0.5).abs() > 0.3)
        assert torch.equal((image > 0.5)[clear].long(), labels[clear])


def test_padding_lies_right_and_below_and_is_black_and_not_labelled():
    geometry = Geometry(Window(0, 0, 20, 10), 20, 10, flip=False)
    image = view_image(torch.ones(3, 20, 10), geometry, CROP)
    labels = labels_view(np.zeros((20, 10), np.uint8), geometry, CROP)
    valid = view_mask(np.ones((20, 10), np.bool_), geometry, CROP, fill=0)
    assert (image[:, :20, :10] == 1).all()
    assert image.sum() == 3 * 200
    assert (labels != IGNORE).sum() == 200
    assert torch.equal(valid, labels == 0)


@pytest.mark.parametrize(("rule", "size"), [("fitted", (256, 256)), ("long", (1024, 1024))])
def test_published_scale_ranges(rule, size):
    generator = rng()
    sides = [size[0] * scale_of(*size, rule, (0.5, 2.0), generator) for _ in range(2000)]
    low, high = (256, 1024) if rule == "fitted" else (512, 2048)
    assert low <= min(sides) < 1.05 * low
    assert 0.95 * high < max(sides) <= high


def test_a_strong_view_keeps_the_geometry():
    image = torch.zeros(3, 64, 64)
    image[:, 20:40, 10:30] = 0.8
    for seed in range(30):
        strong = Strong.draw(rng(seed)).apply(image)
        assert strong.shape == image.shape
        assert strong.min() >= 0
        assert strong.max() <= 1
        inside, outside = strong[:, 27:33, 17:23].mean(), strong[:, 50:, 40:].mean()
        assert inside > outside + 0.2


def test_chances_of_the_strong_view_are_the_published_ones():
    generator = rng(1)
    drawn = [Strong.draw(generator) for _ in range(4000)]
    assert np.mean([bool(view.order) for view in drawn]) == pytest.approx(0.8, abs=0.03)
    assert np.mean([view.gray for view in drawn]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([view.radius > 0 for view in drawn]) == pytest.approx(0.5, abs=0.03)


def test_the_same_generator_draws_the_same_view():
    assert Strong.draw(rng(7)) == Strong.draw(rng(7))
    assert Strong.draw(rng(7)) != Strong.draw(rng(8))


@given(st.integers(0, 10**6))
def test_a_box_is_a_rectangle_of_the_published_size(seed):
    side = 100
    mask = cutmix_box(side, rng(seed))
    if not mask.any():
        return
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = rows[-1] - rows[0] + 1, cols[-1] - cols[0] + 1
    assert mask.sum() == height * width
    assert (height + 1) * (width + 1) >= BOX_AREA[0] * side**2
    assert height * width <= BOX_AREA[1] * side**2
    assert (height + 1) / width >= 0.3
    assert height / (width + 1) <= 1 / 0.3


def test_half_of_the_boxes_are_empty():
    generator = rng()
    empty = [not cutmix_box(64, generator).any() for _ in range(10_000)]
    assert np.mean(empty) == pytest.approx(0.5, abs=0.02)


def test_a_weaker_view_changes_less_and_draws_the_same_numbers():
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    nothing = Strength(jitter=0, hue=0, gray=0, blur=0)
    for seed in range(20):
        torch.testing.assert_close(Strong.draw(rng(seed), nothing).apply(image), image, atol=1e-5, rtol=0)
        one, other = rng(seed), rng(seed)
        Strong.draw(one, nothing)
        Strong.draw(other)
        assert one.random() == other.random()
    hues = [Strong.draw(rng(seed), Strength(hue=0.03)).factors[3] for seed in range(200)]
    assert 0.025 < max(hues) <= 0.03
