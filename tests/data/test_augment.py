"""Geometry, colours and boxes: published sizes and chances, and the same for the same generator."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.classes import IGNORE
from co2s_cli.data.augment import (
    BOX_AREA,
    Geometry,
    Symmetry,
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
        assert torch.equal((image > 0.5)[clear].byte(), labels[clear])


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


@given(st.integers(0, 10**6))
def test_a_box_has_the_published_size_and_lies_in_the_crop(seed):
    side = 100
    row, col, height, width = cutmix_box(side, rng(seed))
    if not height:
        assert (row, col, width) == (0, 0, 0)
        return
    assert row + height <= side
    assert col + width <= side
    assert (height + 1) * (width + 1) >= BOX_AREA[0] * side**2
    assert height * width <= BOX_AREA[1] * side**2
    assert (height + 1) / width >= 0.3
    assert height / (width + 1) <= 1 / 0.3


def test_half_of_the_boxes_are_empty_and_the_others_cover_a_fifth_of_the_crop():
    generator, side = rng(), 512
    boxes = [cutmix_box(side, generator) for _ in range(24_400)]
    areas = [height * width / side**2 for _, _, height, width in boxes if height]
    assert len(areas) >= 12_000
    assert len(areas) / len(boxes) == pytest.approx(0.5, abs=0.02)
    assert np.mean(areas) == pytest.approx(0.205, abs=0.01)


@pytest.mark.parametrize(("flip_rows", "turn"), [(True, False), (False, True), (True, True)])
def test_crops_are_mirrored_and_turned_evenly_where_that_is_wanted(flip_rows, turn):
    """An image of four different corners: all of the wanted symmetries come, labels and image together."""
    corners = np.array([[0, 1], [2, 3]], np.uint8)
    generator, seen = rng(), Counter()
    for _ in range(2400):
        geometry = weak_geometry(2, 2, crop=2, scale=1.0, rng=generator, symmetry=Symmetry(flip_rows, turn))
        image = view_image(torch.from_numpy(corners.astype(np.float32))[None], geometry, 2)[0]
        assert torch.equal(image.byte(), labels_view(corners, geometry, 2))
        seen[tuple(image.flatten().tolist())] += 1
    assert len(seen) == (8 if turn else 4)
    assert all(count == pytest.approx(2400 / len(seen), rel=0.25) for count in seen.values())


def test_the_papers_only_mirror_left_to_right():
    generator = rng()
    drawn = [weak_geometry(64, 64, crop=CROP, scale=1.0, rng=generator) for _ in range(100)]
    assert not any(geometry.flip_rows or geometry.turns for geometry in drawn)
