"""The sliding window in memory: predict's by default, the published one on demand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support.made import ArrayScene, landcover, runner, whole

from co2s_cli.geo.read.reader import reflected
from co2s_cli.inference.sliding import Sliding
from co2s_cli.tiling import Window

MIX = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)) * 4


def pointwise(images):
    return torch.einsum("nc,bchw->bnhw", MIX, images)


def positional(images):
    ramp = torch.linspace(0, 2, images.shape[-1]) + torch.linspace(0, 1, images.shape[-2])[:, None]
    return pointwise(images) + ramp.sin()[None, None] * torch.arange(4)[:, None, None]


@settings(max_examples=20)
@given(height=st.integers(1, 60), width=st.integers(1, 60), tile=st.integers(2, 30), data=st.data())
def test_a_pointwise_model_gives_what_it_gives_untiled(height, width, tile, data):
    sliding = Sliding(
        tile=tile,
        stride=data.draw(st.integers(max(1, tile // 2), tile)),
        blend=data.draw(st.sampled_from(["probabilities", "logits"])),
        taper=data.draw(st.sampled_from(["smooth", "flat"])),
        batch=data.draw(st.integers(1, 3)),
    )
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    expected = pointwise(image[None])[0]
    if sliding.blend == "probabilities":
        expected = expected.softmax(0)
    torch.testing.assert_close(sliding(pointwise, image), expected, atol=1e-5, rtol=1e-5)


def test_it_is_the_window_of_predict():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 50, 70)).astype(np.uint8)
    scene = ArrayScene(pixels, np.ones((50, 70), bool))
    members = lambda images: {"clip": positional(images).softmax(1)}  # noqa: E731 - one line is clearer here
    predicted, _ = whole(runner(scene, members, landcover(), tile=24, overlap=6), Window(0, 0, 50, 70))
    seen = Sliding(tile=24)(positional, torch.from_numpy(pixels).float() / 255)
    np.testing.assert_allclose(seen.numpy(), predicted, atol=1e-6)


@settings(max_examples=20)
@given(height=st.integers(1, 90), width=st.integers(1, 90), data=st.data())
def test_an_area_has_the_values_of_the_map_of_the_whole_image(height, width, data):
    row, col = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    area = Window(row, col, data.draw(st.integers(1, height - row)), data.draw(st.integers(1, width - col)))
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    seen = []

    def view(window):
        seen.append(window)
        rows, cols = reflected(window.row, window.bottom, height), reflected(window.col, window.right, width)
        return image[:, rows][:, :, cols]

    sliding = Sliding(tile=16, batch=2)
    part = sliding.part(positional, view, of=(height, width), area=area)
    torch.testing.assert_close(part, sliding(positional, image)[:, area.slices[0], area.slices[1]])
    assert all(w.row < area.bottom and area.row < w.bottom and w.col < area.right and area.col < w.right for w in seen)


def by_hand(logits, image, tile, stride):
    """Published: sum of logits over windows ÷ their count, the last window moved inside."""
    _, height, width = image.shape
    total, count = torch.zeros(4, height, width), torch.zeros(height, width)
    for row in range(max(height - tile + stride - 1, 0) // stride + 1):
        for col in range(max(width - tile + stride - 1, 0) // stride + 1):
            bottom, right = min(row * stride + tile, height), min(col * stride + tile, width)
            top, left = max(bottom - tile, 0), max(right - tile, 0)
            total[:, top:bottom, left:right] += logits(image[None, :, top:bottom, left:right])[0]
            count[top:bottom, left:right] += 1
    return total / count


@pytest.mark.parametrize("size", [(36, 36), (36, 41), (50, 77)])
def test_the_published_window_is_among_its_choices(size):
    image = torch.rand(3, *size)
    published = Sliding(tile=36, stride=36 * 5 // 6, blend="logits", taper="flat")
    torch.testing.assert_close(published(positional, image), by_hand(positional, image, 36, 30), atol=1e-5, rtol=1e-5)


def test_images_are_resized_by_their_shorter_side_and_back():
    image = torch.rand(3, 20, 30)
    seen = []

    def remember(images):
        seen.append(images)
        return pointwise(images)

    values = Sliding(tile=64, short_side=40, blend="logits")(remember, image)
    assert values.shape == (4, 20, 30)
    big = F.interpolate(image[None], (40, 60), mode="bilinear", align_corners=False)[0]
    rows, cols = reflected(0, 64, 40), reflected(0, 64, 60)
    torch.testing.assert_close(seen[0][0], big[:, rows][:, :, cols])


@pytest.mark.parametrize("stride", [0, 9])
def test_a_stride_that_leaves_gaps_is_refused(stride):
    with pytest.raises(ValueError, match="1 <= stride <= tile"):
        Sliding(tile=8, stride=stride)
