"""A landscape is a function of seed and place, and what it shows is what its labels say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from co2s_cli.classes import IGNORE
from co2s_cli.data.landscape import CLASSES, TILE, Landscape
from co2s_cli.data.landscape.landscape import footprint
from co2s_cli.data.landscape.look import look
from co2s_cli.data.landscape.palette import CLASS_OF, GRAIN, TINTS, Material
from co2s_cli.data.landscape.plan import LandscapePlan
from co2s_cli.data.landscape.surface import Frame, survey
from co2s_cli.tiling import Window

SIZE = 1100


@pytest.fixture(scope="module")
def whole():
    """Pixels and labels of the first 1100² pixels of scene 1."""
    return Landscape(1, SIZE).block(Window(0, 0, SIZE, SIZE))


@pytest.mark.slow
@settings(max_examples=6)
@given(data=st.data())
def test_a_window_is_cut_from_the_scene_whatever_the_blocks(whole, data):
    row, col = data.draw(st.integers(0, SIZE - 1)), data.draw(st.integers(0, SIZE - 1))
    window = Window(row, col, data.draw(st.integers(1, SIZE - row)), data.draw(st.integers(1, SIZE - col)))
    pixels, labels = Landscape(1, 4096).block(window)
    np.testing.assert_array_equal(pixels, whole[0][:, *window.slices])
    np.testing.assert_array_equal(labels, whole[1][window.slices])


def test_the_ground_does_not_depend_on_the_square_it_is_made_in():
    """Tiles meet without a seam: what two overlapping frames have in common is the same."""
    plan = LandscapePlan(2, look(2))
    one, other = survey(plan, Frame(-40, 300, 400)), survey(plan, Frame(60, 170, 480))
    here, there = np.s_[100:400, 0:350], np.s_[0:300, 130:480]
    # single pixels on an edge may fall either way, as sums are rounded differently
    assert (one.material[here] != other.material[there]).mean() < 1e-4
    assert (np.abs(one.height[here] - other.height[there]) > 0.1).mean() < 1e-3
    assert (np.abs(one.tint[here].astype(int) - other.tint[there]) > 1).mean() < 1e-3


def test_brightness_does_not_jump_between_tiles(whole):
    jump = np.abs(np.diff(whole[0].astype(int), axis=2)).mean(axis=(0, 1))
    assert jump[TILE - 1] < 1.3 * jump.mean()


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_a_scene_of_some_hundred_metres_holds_every_class(seed):
    _, labels = Landscape(seed).block(Window(0, 0, 1536, 1536))
    share = np.bincount(labels.ravel(), minlength=len(CLASSES)) / labels.size
    assert labels.max() == len(CLASSES) - 1
    assert share.min() > 0.005
    assert share.max() < 0.7


@pytest.mark.slow
def test_roads_connect():
    _, labels = Landscape(2).block(Window(0, 0, 1536, 1536))
    parts, _ = ndimage.label(labels == CLASSES.id_of("road"), np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    assert sizes.max() / sizes.sum() > 0.95


def test_near_infrared_tells_plants_from_water():
    pixels, labels = Landscape(1, SIZE, bands=4, dtype="uint16").block(Window(0, 0, 512, 512))
    red, nir = pixels[0].astype(float), pixels[3].astype(float)
    index = (nir - red) / (nir + red)
    plants, water = (np.median(index[labels == CLASSES.id_of(name)]) for name in ("vegetation", "water"))
    assert plants > 0.35
    assert water < 0


def test_sample_type_and_bands_change_no_label_and_no_order_of_brightness(whole):
    window = Window(0, 0, 512, 512)
    pixels, labels = Landscape(1, SIZE, bands=4, dtype="uint16").block(window)
    np.testing.assert_array_equal(labels, whole[1][window.slices])
    assert pixels.dtype == np.uint16
    assert pixels.shape == (4, 512, 512)
    assert 300 < pixels.mean() < 4000  # reflectance × 10,000
    eight = whole[0][:, *window.slices].astype(float)
    assert np.corrcoef(np.sqrt(pixels[:3].ravel()), eight.ravel())[0, 1] > 0.99


def test_no_pixel_is_nodata_where_the_sensor_saw(whole):
    assert whole[0].min() >= 1
    assert whole[0].dtype == np.uint8
    assert 60 < whole[0].mean() < 160
    assert (whole[0] == 255).mean() < 0.01


def test_two_seeds_are_two_scenes(whole):
    pixels, labels = Landscape(2).block(Window(0, 0, 512, 512))
    assert (labels != whole[1][:512, :512]).mean() > 0.3
    one, other = look(1), look(2)
    assert one.season != other.season
    assert one.sun != other.sun
    vegetation = CLASSES.id_of("vegetation")
    means = [p[:, k == vegetation].mean(axis=1) for p, k in ((pixels, labels), whole)]
    assert np.abs(means[0] - means[1]).max() > 10


@pytest.mark.slow
def test_a_tilted_scene_is_nodata_and_unlabelled_outside_its_footprint(whole):
    pixels, labels = Landscape(1, SIZE, tilt=True).block(Window(0, 0, SIZE, SIZE))
    unseen = (pixels == 0).all(axis=0)
    np.testing.assert_array_equal(unseen, labels == IGNORE)
    np.testing.assert_array_equal(pixels[:, ~unseen], whole[0][:, ~unseen])
    angle = look(1).tilt
    assert 1 - unseen.mean() == pytest.approx(1 / (np.cos(angle) + np.sin(angle)) ** 2, abs=0.005)
    assert unseen[0, 0]
    assert not unseen[SIZE // 2, SIZE // 2]


def test_a_footprint_is_the_same_in_parts():
    part = footprint(Window(10, 20, 30, 40), 100, 0.2)
    np.testing.assert_array_equal(part, footprint(Window(0, 0, 100, 100), 100, 0.2)[10:40, 20:60])


@pytest.mark.parametrize("wrong", [{"bands": 2}, {"dtype": "float32"}])
def test_what_no_sensor_here_delivers_is_refused(wrong):
    with pytest.raises(ValueError, match="3 or 4 bands"):
        Landscape(1, **wrong)


def test_every_material_has_a_class_colours_and_a_texture():
    assert len(CLASS_OF) == len(GRAIN) == len(Material)
    for seed in range(1, 9):
        colors = look(seed).colors
        assert colors.shape == (len(Material), TINTS, 4)
        assert colors.min() > 0
        assert colors.max() < 0.8
