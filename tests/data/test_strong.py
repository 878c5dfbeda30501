"""Strong views: torchvision's numbers in batches, published chances, and what happens to bands that are no colours."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as tv

from co2s_cli.data.strong import (
    BandChange,
    BandNoise,
    Strength,
    StrongParams,
    changed_bands,
    rgb_places,
    strong_views,
)

RGB = 0, 1, 2


def rng(seed=0):
    return np.random.default_rng(seed)


def image_by_image(image, params):
    """The strong view as torchvision computes it."""
    steps = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    for index in params.order:
        image = steps[index](image, params.factors[index])
    if params.gray:
        image = tv.rgb_to_grayscale(image, num_output_channels=3)
    if params.radius:
        side = 2 * math.ceil(3 * params.radius) + 1
        side = min(side, 2 * (min(image.shape[-2:]) // 2) - 1)
        image = tv.gaussian_blur(image, [side, side], [params.radius, params.radius])
    return image


@pytest.mark.parametrize("side", [8, 48])
def test_views_in_batches_equal_those_of_torchvision_image_by_image(side):
    images = torch.rand(64, 3, side, side, generator=torch.Generator().manual_seed(0))
    images[:16] = (images[:16] * 4).round() / 4  # ties between the colours, and greys without a hue
    generator = rng()
    params = [StrongParams.draw(generator) for _ in images]
    wanted = torch.stack([image_by_image(image, one) for image, one in zip(images, params, strict=True)])
    before = images.clone()
    torch.testing.assert_close(strong_views(images, params, RGB), wanted, rtol=0, atol=1e-4)
    assert torch.equal(images, before)


@pytest.mark.gpu
def test_views_on_a_gpu_equal_those_of_the_cpu():
    images = torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    generator = rng()
    params = [StrongParams.draw(generator) for _ in images]
    found = strong_views(images.cuda(), params, RGB).cpu()
    torch.testing.assert_close(found, strong_views(images, params, RGB), rtol=0, atol=1 / 255)


def test_a_strong_view_keeps_the_geometry():
    image = torch.zeros(3, 64, 64)
    image[:, 20:40, 10:30] = 0.8
    for seed in range(30):
        strong = strong_views(image[None], [StrongParams.draw(rng(seed))], RGB)[0]
        assert strong.shape == image.shape
        assert strong.min() >= 0
        assert strong.max() <= 1
        inside, outside = strong[:, 27:33, 17:23].mean(), strong[:, 50:, 40:].mean()
        assert inside > outside + 0.2


def test_chances_of_the_strong_view_are_the_published_ones():
    generator = rng(1)
    drawn = [StrongParams.draw(generator) for _ in range(4000)]
    assert np.mean([bool(view.order) for view in drawn]) == pytest.approx(0.8, abs=0.03)
    assert np.mean([view.gray for view in drawn]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([view.radius > 0 for view in drawn]) == pytest.approx(0.5, abs=0.03)


def test_the_same_generator_draws_the_same_view():
    assert StrongParams.draw(rng(7)) == StrongParams.draw(rng(7))
    assert StrongParams.draw(rng(7)) != StrongParams.draw(rng(8))


def test_a_weaker_view_changes_less_and_draws_the_same_numbers():
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    nothing = Strength(jitter=0, hue=0, gray=0, blur=0)
    for seed in range(20):
        view = strong_views(image[None], [StrongParams.draw(rng(seed), nothing)], RGB)[0]
        torch.testing.assert_close(view, image, atol=1e-5, rtol=0)
        one, other = rng(seed), rng(seed)
        StrongParams.draw(one, nothing)
        StrongParams.draw(other)
        assert one.random() == other.random()
    hues = [StrongParams.draw(rng(seed), Strength(hue=0.03)).factors[3] for seed in range(200)]
    assert 0.025 < max(hues) <= 0.03


def test_colours_change_where_the_bands_are_colours_and_every_band_gets_brighter():
    """Hue, saturation and grey reach the bands named red, green, blue alone, wherever they are among the bands."""
    images = torch.rand(1, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    places = rgb_places(("nir", "Blue", "green", "RED", "swir"))
    assert places == (3, 2, 1)
    turned = StrongParams((3, 2, 0, 1), (1.0, 1.0, 0.4, 0.2), False, 0.0)
    view = strong_views(images, [turned], places)
    wanted = image_by_image(images[0, [3, 2, 1]], turned)
    torch.testing.assert_close(view[0, [3, 2, 1]], wanted, rtol=0, atol=1e-4)
    torch.testing.assert_close(view[0, [0, 4]], images[0, [0, 4]], rtol=0, atol=1e-5)
    gray = strong_views(images, [StrongParams((), (1, 1, 1, 0), True, 0.0)], places)
    assert torch.equal(gray[0, 1], gray[0, 2])
    assert torch.equal(gray[0, 0], images[0, 0])
    darker = strong_views(images, [StrongParams((0, 1, 2, 3), (0.5, 1, 1, 0), False, 0.0)], None)
    torch.testing.assert_close(darker, images * 0.5, rtol=0, atol=1e-5)
    flat = strong_views(images, [StrongParams((0, 1, 2, 3), (1, 0.0, 1, 0), False, 0.0)], None)
    torch.testing.assert_close(flat, images.mean(dim=(2, 3), keepdim=True).expand_as(flat), rtol=0, atol=1e-5)


def test_bands_that_are_no_colours_keep_their_hue():
    images = torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    params = [StrongParams((2, 3, 0, 1), (1.0, 1.0, 0.2, 0.25), True, 0.0)] * 2
    torch.testing.assert_close(strong_views(images, params, None), images, rtol=0, atol=1e-5)
    assert rgb_places(("red", "green")) is None
    assert rgb_places(("red", "green", "blue", "red")) is None


def test_each_band_changes_by_itself_within_its_limits_and_alike_with_the_same_generator():
    limits = BandNoise(gain=0.2, offset=0.05, noise=0.02)
    images = torch.full((40, 6, 32, 32), 0.5)
    draws = [BandChange.draw(rng(seed), 6, limits) for seed in range(40)]
    views = changed_bands(images, draws)
    means = views.mean(dim=(2, 3))
    assert 0.1 < (means - 0.5).abs().max() < 0.15 + 0.005
    assert means.std(dim=1).min() > 0.01
    assert 0.015 < views.std(dim=(2, 3)).max() < 0.022
    assert torch.equal(changed_bands(images, [BandChange.draw(rng(seed), 6, limits) for seed in range(40)]), views)
    assert changed_bands(images, [BandChange()] * 40) is images
