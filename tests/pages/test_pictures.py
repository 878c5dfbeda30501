"""Arrays as pictures: no colour is lost or taken twice."""

import base64
import io

import numpy as np
from PIL import Image

from co2s_cli.classes import IGNORE
from co2s_cli.pages import pictures


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGBA"))


def test_class_ids_come_back_from_their_colours():
    labels = np.random.default_rng(0).choice([0, 1, 2, IGNORE], (20, 30)).astype(np.uint8)
    colors = ((1, 2, 3), (200, 0, 0), (0, 0, 9))
    pixels = decoded(pictures.class_picture(labels, colors))
    for value, color in enumerate(colors):
        assert (pixels[labels == value] == (*color, 255)).all()
    assert (pixels[labels == IGNORE][:, 3] == 0).all()


def test_equal_colours_are_moved_apart_and_others_stay():
    assert pictures.distinct([(5, 5, 5), (1, 1, 1), (5, 5, 5), (5, 5, 6), (255, 255, 255), (255, 255, 255)]) == (
        (5, 5, 5), (1, 1, 1), (5, 5, 6), (5, 5, 7), (255, 255, 255), (0, 0, 0),
    )  # fmt: skip


def test_a_ramp_rises_and_ends_at_its_limits():
    values = np.array([[0.2, 0.6, 1.0, np.nan, 0.0]], np.float32)
    pixels = decoded(pictures.ramp_picture(values, 0.2, 1.0))[0]
    colors = pictures.ramp()
    assert tuple(pixels[0, :3]) == colors[0] == tuple(pixels[4, :3])
    assert tuple(pixels[1, :3]) == colors[16]
    assert tuple(pixels[2, :3]) == colors[-1]
    assert pixels[3, 3] == 0
    assert len(set(colors)) == pictures.RAMP_STEPS


def test_a_photo_is_clear_where_it_is_not_valid():
    image = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    valid = np.arange(16)[:, None].repeat(16, axis=1) < 8
    pixels = decoded(pictures.photo(image, valid)).astype(int)
    assert np.abs(pixels[:8, :, :3] - (200, 100, 50)).max() < 12
    assert (pixels[8:, :, 3] == 0).all()
