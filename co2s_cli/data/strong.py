"""Strong views: parameters are drawn for each view on the CPU, pixels are computed in batches on any device.

Images are float tensors (n, bands, h, w) in [0, 1]. Ranges and probabilities are the published ones. Colours change as
by torchvision's adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue, rgb_to_grayscale and gaussian_blur.
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
"""Probability that brightness, contrast, saturation and hue change."""
BLUR_RADIUS = 0.1, 2.0
"""Range of the standard deviation of the blur in pixels."""

LUMA = 0.2989, 0.587, 0.114
"""Weights of red, green and blue in a grey value."""

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


@dataclass(frozen=True, slots=True)
class BandNoise:
    """Limits of the random change of each band by itself; 0: no change."""

    gain: float = 0.0
    """Largest relative change of a band."""
    offset: float = 0.0
    """Largest shift of a band, as a share of its range."""
    noise: float = 0.0
    """Largest standard deviation of white noise, as a share of the range."""


NO_NOISE = BandNoise()


@dataclass(frozen=True, slots=True)
class Strength:
    """Limits and probabilities of the changes in strong views; the defaults are the published ones."""

    jitter: float = 0.5
    """Largest relative change of brightness, contrast and saturation."""
    hue: float = 0.25
    """Largest turn of the hue, 0.5 being half of the circle."""
    gray: float = 0.2
    """Probability that a view turns grey."""
    blur: float = 0.5
    """Probability that a view is blurred."""
    bands: BandNoise = NO_NOISE
    """Limits of the change of each band by itself."""


PUBLISHED = Strength()


@dataclass(frozen=True, slots=True)
class BandChange:
    """Change of the bands of one view: `gain` × value + `offset` + noise."""

    gain: tuple[float, ...] = ()
    """Factor of each band; empty: no band changes."""
    offset: tuple[float, ...] = ()
    """Shift of each band."""
    noise: float = 0.0
    """Standard deviation of the noise."""
    seed: int = 0
    """Seed of the noise."""

    @classmethod
    def draw(cls, rng: np.random.Generator, bands: int, limits: BandNoise) -> BandChange:
        """A random change within `limits`; if all limits are 0, no random number is drawn."""
        if limits == NO_NOISE:
            return NO_CHANGE
        gain = rng.uniform(1 - limits.gain, 1 + limits.gain, bands)
        offset = rng.uniform(-limits.offset, limits.offset, bands)
        noise = float(rng.uniform(0, limits.noise))
        return cls(tuple(gain.tolist()), tuple(offset.tolist()), noise, int(rng.integers(2**31)))


NO_CHANGE = BandChange()


@dataclass(frozen=True, slots=True)
class StrongParams:
    """Parameters of one strong view: colours and sharpness, but not geometry."""

    order: tuple[int, ...]
    """Order in which brightness (0), contrast (1), saturation (2) and hue (3) change; empty: they do not."""
    factors: tuple[float, float, float, float]
    """Factors of brightness, contrast and saturation, and turn of the hue as a share of the circle."""
    gray: bool
    """Whether the view turns grey."""
    radius: float
    """Standard deviation of the blur in pixels; 0: no blur."""
    bands: BandChange = NO_CHANGE

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: Strength = PUBLISHED, bands: int = 3) -> StrongParams:
        """Random parameters; the number of random numbers does not depend on their values."""
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
    """Indices of red, green and blue among the names of bands; None unless each of them occurs once."""
    names = [name.lower() for name in bands]
    if any(names.count(color) != 1 for color in ("red", "green", "blue")):
        return None
    return names.index("red"), names.index("green"), names.index("blue")


def strong_views(images: Tensor, params: Sequence[StrongParams], rgb: tuple[int, int, int] | None) -> Tensor:
    """Strong views (n, bands, h, w), one of each image, on the images' device.

    Brightness, contrast, band changes and blur apply to all bands; saturation, hue and grey only to the bands `rgb`, or
    not at all if `rgb` is None.
    """
    views = images.clone()
    for position in range(4):
        for kind in range(4) if rgb else (_BRIGHTNESS, _CONTRAST):
            chosen = [index for index, view in enumerate(params) if view.order and view.order[position] == kind]
            _adjust(views, chosen, kind, [params[index].factors[kind] for index in chosen], rgb)
    if rgb:
        _remove_color(views, [index for index, view in enumerate(params) if view.gray], rgb)
    _change_bands(views, [view.bands for view in params])
    _blur(views, {index: view.radius for index, view in enumerate(params) if view.radius})
    return views


def changed_bands(images: Tensor, changes: Sequence[BandChange]) -> Tensor:
    """The images with their bands changed, `changes` having one change per image; clipped to [0, 1]."""
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
    """Change brightness, contrast, saturation or hue (`kind`) of the chosen images in place, by `factors`."""
    if not chosen:
        return
    index, factor = _to_device(chosen, views), _to_device(factors, views).view(-1, 1, 1, 1)
    images = views.index_select(0, index)
    if kind == _BRIGHTNESS:
        images.mul_(factor).clamp_(0, 1)
    elif kind == _CONTRAST:
        _blend(images, _contrast_center(images, rgb), factor)
    elif rgb:
        colors = _colors(images, rgb)
        if kind == _SATURATION:
            _blend(colors, _gray(colors), factor)
        else:
            _turn_hue(colors, factor[:, 0])
        if rgb != (0, 1, 2):
            _set_colors(images, colors, rgb)
    views.index_copy_(0, index, images)


def _colors(images: Tensor, rgb: tuple[int, int, int]) -> Tensor:
    """Red, green and blue (n, 3, h, w); shares memory with `images` if these are the first bands."""
    return images[:, :3] if rgb == (0, 1, 2) else torch.stack([images[:, band] for band in rgb], dim=1)


def _set_colors(images: Tensor, colors: Tensor, rgb: tuple[int, int, int]) -> None:
    """Write red, green and blue (n, 3, h, w) into the images."""
    for band, color in zip(rgb, colors.unbind(1), strict=True):  # a list as index would synchronise with the device
        images[:, band].copy_(color)


def _contrast_center(images: Tensor, rgb: tuple[int, int, int] | None) -> Tensor:
    """Values around which contrast changes: the mean grey value of RGB images, else the mean of each band."""
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
    """Turn the chosen images grey in place."""
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
    """Change the bands of each image in place."""
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
    """Blur some images in place by a Gaussian; `radii` maps their indices to standard deviations in pixels.

    Images are padded by reflection.
    """
    if not radii:
        return
    max_reach = min(views.shape[-2:]) // 2 - 1
    kernels = [_gaussian(radius, min(math.ceil(3 * radius), max(0, max_reach))) for radius in radii.values()]
    reach = max(len(kernel) for kernel in kernels) // 2
    padded_kernels = torch.stack([F.pad(kernel, [reach - len(kernel) // 2] * 2) for kernel in kernels])
    index, bands = _to_device(list(radii), views), views.shape[1]
    images = views.index_select(0, index)
    taps = padded_kernels.to(views.device, non_blocking=True).repeat_interleave(bands, 0)[:, None]
    count, height, width = len(radii) * bands, *views.shape[-2:]
    padded = F.pad(images, [reach] * 4, mode="reflect").view(1, count, height + 2 * reach, width + 2 * reach)
    blurred_rows = F.conv2d(padded, taps[:, :, None], groups=count)
    views.index_copy_(0, index, F.conv2d(blurred_rows, taps[..., None], groups=count).view_as(images))


def _gaussian(radius: float, reach: int) -> Tensor:
    """Gaussian weights (2 × `reach` + 1,) with standard deviation `radius` and sum 1."""
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / radius) ** 2)
    return weights / weights.sum()
