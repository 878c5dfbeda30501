"""Strong views: their parameters are drawn one by one on the CPU, their pixels are computed in batches on any device.

Images are float tensors (n, bands, h, w) in [0, 1]. Sizes and probabilities are the published ones; colours change as
torchvision's adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue, rgb_to_grayscale and gaussian_blur do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

JITTER_CHANCE = 0.8
BLUR_RADIUS = 0.1, 2.0

LUMA = 0.2989, 0.587, 0.114
"""Weights of red, green and blue in a grey value."""

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


@dataclass(frozen=True, slots=True)
class BandNoise:
    """How far each band may change by itself; 0 = not at all."""

    gain: float = 0.0
    """Largest relative change of a band."""
    offset: float = 0.0
    """Largest shift of a band, in parts of its range."""
    noise: float = 0.0
    """Largest standard deviation of white noise, in parts of the range."""


NO_NOISE = BandNoise()


@dataclass(frozen=True, slots=True)
class Strength:
    """How far strong views may be from what was seen; as published if nothing is said."""

    jitter: float = 0.5
    """Largest relative change of brightness, contrast and saturation."""
    hue: float = 0.25
    """Largest turn of the hue, 0.5 being half of the circle."""
    gray: float = 0.2
    """Chance that a view loses its colours."""
    blur: float = 0.5
    """Chance that it is blurred."""
    bands: BandNoise = NO_NOISE


PUBLISHED = Strength()


@dataclass(frozen=True, slots=True)
class BandChange:
    """What happens to each band of one view: `gain` × value + `offset` + noise."""

    gain: tuple[float, ...] = ()
    """By band; empty = no band changes."""
    offset: tuple[float, ...] = ()
    noise: float = 0.0
    """Standard deviation."""
    seed: int = 0
    """Of the noise."""

    @classmethod
    def draw(cls, rng: np.random.Generator, bands: int, limits: BandNoise) -> BandChange:
        """Draw one; nothing is drawn where all limits are 0."""
        if limits == NO_NOISE:
            return NO_CHANGE
        gain = rng.uniform(1 - limits.gain, 1 + limits.gain, bands)
        offset = rng.uniform(-limits.offset, limits.offset, bands)
        noise = float(rng.uniform(0, limits.noise))
        return cls(tuple(gain.tolist()), tuple(offset.tolist()), noise, int(rng.integers(2**31)))


NO_CHANGE = BandChange()


@dataclass(frozen=True, slots=True)
class StrongParams:
    """Parameters of one strong view: colours and sharpness, never geometry."""

    order: tuple[int, ...]
    """In which order brightness, contrast, saturation and hue change; empty = they do not."""
    factors: tuple[float, float, float, float]
    gray: bool
    radius: float
    """Standard deviation of the blur in pixels; 0 = none."""
    bands: BandChange = NO_CHANGE

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: Strength = PUBLISHED, bands: int = 3) -> StrongParams:
        """Draw one; how much is drawn does not depend on what is drawn."""
        jitter, gray, blur = rng.random(3)
        order = tuple(int(index) for index in rng.permutation(4))
        scale = rng.uniform(1 - strength.jitter, 1 + strength.jitter, 3)
        hue, radius = float(rng.uniform(-strength.hue, strength.hue)), float(rng.uniform(*BLUR_RADIUS))
        return cls(
            order if jitter < JITTER_CHANCE else (),
            (float(scale[0]), float(scale[1]), float(scale[2]), hue),
            bool(gray < strength.gray),
            radius if blur < strength.blur else 0.0,
            BandChange.draw(rng, bands, strength.bands),
        )


def rgb_places(bands: Sequence[str]) -> tuple[int, int, int] | None:
    """Where red, green and blue are among the names of bands; None where one of them is not."""
    names = [name.lower() for name in bands]
    if any(names.count(color) != 1 for color in ("red", "green", "blue")):
        return None
    return names.index("red"), names.index("green"), names.index("blue")


def strong_views(images: Tensor, params: Sequence[StrongParams], rgb: tuple[int, int, int] | None) -> Tensor:
    """A strong view of each image, on the images' device.

    Brightness and contrast change all bands. Saturation, hue and grey change the bands `rgb` alone; without those they
    do not happen.
    """
    views = images.clone()
    for position in range(4):
        for kind in range(4) if rgb else (_BRIGHTNESS, _CONTRAST):
            chosen = [index for index, one in enumerate(params) if one.order and one.order[position] == kind]
            _adjust(views, chosen, kind, [params[index].factors[kind] for index in chosen], rgb)
    if rgb:
        _remove_color(views, [index for index, one in enumerate(params) if one.gray], rgb)
    _change_bands(views, [one.bands for one in params])
    _blur(views, {index: one.radius for index, one in enumerate(params) if one.radius})
    return views


def changed_bands(images: Tensor, changes: Sequence[BandChange]) -> Tensor:
    """Images whose bands change as `changes` say, one for each image; clipped to [0, 1]."""
    if not any(change.gain for change in changes):
        return images
    views = images.clone()
    _change_bands(views, changes)
    return views


def _to_device(values: Sequence[float] | Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(values).to(like.device, non_blocking=True)


def _adjust(
    views: Tensor, chosen: Sequence[int], kind: int, factors: Sequence[float], rgb: tuple[int, int, int] | None
) -> None:
    """Change one property of the chosen images in place."""
    if not chosen:
        return
    index, factor = _to_device(chosen, views), _to_device(factors, views).view(-1, 1, 1, 1)
    part = views.index_select(0, index)
    if kind == _BRIGHTNESS:
        part.mul_(factor).clamp_(0, 1)
    elif kind == _CONTRAST:
        _blend(part, _middle(part, rgb), factor)
    elif rgb:
        colors = _colors(part, rgb)
        if kind == _SATURATION:
            _blend(colors, _gray(colors), factor)
        else:
            _turn_hue(colors, factor[:, 0])
        if rgb != (0, 1, 2):
            _set_colors(part, colors, rgb)
    views.index_copy_(0, index, part)


def _colors(images: Tensor, rgb: tuple[int, int, int]) -> Tensor:
    """Red, green and blue (n, 3, h, w); a view of the images where these are their first bands."""
    return images[:, :3] if rgb == (0, 1, 2) else torch.stack([images[:, band] for band in rgb], dim=1)


def _set_colors(images: Tensor, colors: Tensor, rgb: tuple[int, int, int]) -> None:
    """Put red, green and blue (n, 3, h, w) into the images."""
    for band, color in zip(rgb, colors.unbind(1), strict=True):  # a list as an index would wait for the device
        images[:, band].copy_(color)


def _middle(images: Tensor, rgb: tuple[int, int, int] | None) -> Tensor:
    """What contrast changes about: the mean grey value of RGB images, else the mean of each band."""
    if images.shape[1] == 3 and rgb:
        return _gray(_colors(images, rgb)).mean(dim=(1, 2, 3), keepdim=True)
    return images.mean(dim=(2, 3), keepdim=True)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> None:
    """`factor` × images + (1 - `factor`) × other, in place."""
    images.mul_(factor).add_(other * (1 - factor)).clamp_(0, 1)


def _gray(colors: Tensor) -> Tensor:
    """Grey values (n, 1, h, w)."""
    red, green, blue = colors[:, 0:1], colors[:, 1:2], colors[:, 2:3]
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def _remove_color(views: Tensor, chosen: Sequence[int], rgb: tuple[int, int, int]) -> None:
    for index in chosen:
        view = views[index : index + 1]
        _set_colors(view, _gray(_colors(view, rgb)).expand(-1, 3, -1, -1), rgb)


def _turn_hue(colors: Tensor, turn: Tensor) -> None:
    """Turn the hue of RGB images (n, 3, h, w) by `turn` (n, 1, 1) of a circle, in place.

    With hue h in sixths of the circle the colour is minimum + chroma × (|h - 3| - 1, 2 - |h - 2|, 2 - |h - 4|), each
    factor clipped to [0, 1].
    """
    red, green, blue = colors.unbind(1)
    highest, lowest = torch.maximum(torch.maximum(red, green), blue), torch.minimum(torch.minimum(red, green), blue)
    chroma = highest - lowest
    from_red, from_green, from_blue = green - blue, blue - red, red - green
    divisor = torch.where(chroma > 0, chroma, 1.0)
    sixths = torch.where(
        highest == red,
        from_red.div_(divisor),
        torch.where(highest == green, from_green.div_(divisor).add_(2), from_blue.div_(divisor).add_(4)),
    )
    sixths.add_(6 * turn).remainder_(6)
    for channel, (middle, inside) in enumerate(((3, False), (2, True), (4, True))):
        distance = (sixths - middle).abs_()
        share = distance.neg_().add_(2) if inside else distance.sub_(1)
        colors[:, channel] = share.clamp_(0, 1).mul_(chroma).add_(lowest)


def _change_bands(views: Tensor, changes: Sequence[BandChange]) -> None:
    for view, change in zip(views, changes, strict=True):
        if not change.gain:
            continue
        gain, offset = _to_device(change.gain, views).float(), _to_device(change.offset, views).float()
        view.mul_(gain[:, None, None]).add_(offset[:, None, None])
        if change.noise:
            generator = torch.Generator(views.device).manual_seed(change.seed)
            view.add_(torch.randn(view.shape, generator=generator, device=view.device), alpha=change.noise)
        view.clamp_(0, 1)


def _blur(views: Tensor, radii: Mapping[int, float]) -> None:
    """Gaussian blur of some images, by standard deviation in pixels, in place; edges are reflected."""
    if not radii:
        return
    most = min(views.shape[-2:]) // 2 - 1
    weights = [_gaussian(radius, min(math.ceil(3 * radius), max(0, most))) for radius in radii.values()]
    reach = max(len(one) for one in weights) // 2
    kernel = torch.stack([F.pad(one, [reach - len(one) // 2] * 2) for one in weights])
    index, bands = _to_device(list(radii), views), views.shape[1]
    part = views.index_select(0, index)
    taps = kernel.to(views.device, non_blocking=True).repeat_interleave(bands, 0)[:, None]
    count, height, width = len(radii) * bands, *views.shape[-2:]
    padded = F.pad(part, [reach] * 4, mode="reflect").view(1, count, height + 2 * reach, width + 2 * reach)
    across = F.conv2d(padded, taps[:, :, None], groups=count)
    views.index_copy_(0, index, F.conv2d(across, taps[..., None], groups=count).view_as(part))


def _gaussian(radius: float, reach: int) -> Tensor:
    """Weights of -`reach` … `reach`, of sum 1."""
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / radius) ** 2)
    return weights / weights.sum()
