"""Parts of one labelled crop in another, with their labels: they make the borders that polygons leave out."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from co2s_cli.classes import IGNORE
from co2s_cli.data.samples import Crop
from co2s_cli.geo.polygons.regions import find

MASK_SIGMAS = 0.7, 6.0
"""Range of the standard deviation, in pixels, to which the noise of irregular masks is smoothed."""
MASK_AREA = 0.1, 0.6
"""Range of the share of the crop where an irregular mask is True."""

SMALLEST_SOURCE = 64
"""Least pixels of a labelled area that is pasted into other crops. Networks recognise smaller ones by their
surroundings; pasted elsewhere, those would teach colour alone."""


def shows_borders(crop: Crop) -> bool:
    """Whether at least √n neighbouring pixels are labelled as two classes, of n labelled pixels."""
    labels = crop.labels
    labelled = labels != IGNORE
    down = (labels[1:] != labels[:-1]) & labelled[1:] & labelled[:-1]
    right = (labels[:, 1:] != labels[:, :-1]) & labelled[:, 1:] & labelled[:, :-1]
    return int(down.sum() + right.sum()) >= math.sqrt(max(1, int(labelled.sum())))


def large_areas(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where labels (h, w) are of a connected area of one class with at least `SMALLEST_SOURCE` pixels."""
    regions = find(labels)
    area = regions.label[regions.run_of].reshape(labels.shape)
    large: NDArray[np.bool_] = (np.bincount(area.ravel())[area] >= SMALLEST_SOURCE) & (labels != IGNORE)
    return large


def pasted(crop: Crop, other: Crop, mask: NDArray[np.bool_]) -> Crop:
    """`crop` with the pixels and labels of `other` where `mask` is True and `other` has a large labelled area.

    Nothing is pasted onto invalid pixels.
    """
    chosen = torch.from_numpy(mask & large_areas(other.labels.numpy())) & crop.valid
    weights = None
    if crop.weights is not None and other.weights is not None:
        weights = torch.where(chosen, other.weights, crop.weights)
    image = torch.where(chosen, other.image, crop.image)
    return Crop(image, torch.where(chosen, other.labels, crop.labels), crop.valid, weights)


def irregular_mask(crop: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A mask (crop, crop), True in irregular patches, mostly 3 to 23 px wide: where smoothed noise is highest.

    Such masks are those of CowMask (French et al., 2020), here with an exact share of the crop.
    """
    sigma = math.exp(rng.uniform(*np.log(MASK_SIGMAS)))
    area = rng.uniform(*MASK_AREA)
    noise = np.fft.rfft2(rng.standard_normal((crop, crop)))
    squares = np.fft.fftfreq(crop)[:, None] ** 2 + np.fft.rfftfreq(crop) ** 2
    smooth = np.fft.irfft2(noise * np.exp(-2 * (math.pi * sigma) ** 2 * squares), s=(crop, crop))
    mask: NDArray[np.bool_] = smooth > np.quantile(smooth, 1 - area)
    return mask
