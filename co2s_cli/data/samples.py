"""Random crops read directly from scenes of any size; a crop depends only on its item and its random generator."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from co2s_cli.classes import IGNORE
from co2s_cli.data.augment import (
    PUBLISHED_SYMMETRY,
    Geometry,
    ScaleRule,
    Symmetry,
    labels_view,
    scale_of,
    view_image,
    view_mask,
    weak_geometry,
)
from co2s_cli.data.balance import ClassIndex
from co2s_cli.data.sources import Source, inside, touch
from co2s_cli.data.survey import Item, without
from co2s_cli.geo.read.scaling import Scaling
from co2s_cli.tiling import Window

_ATTEMPTS = 8
"""Windows tried for a crop with data (or labels) outside the held-out parts; then any window is accepted."""

_MAX_OPEN = 16
"""Most sources that a thread keeps open."""


@dataclass(frozen=True, slots=True)
class Crop:
    """One weak view of an image, with its labels."""

    image: Tensor
    """(bands, crop, crop) in [0, 1]; padding is 0."""
    labels: Tensor
    """(crop, crop) uint8 class ids, `IGNORE` where not labelled; only `IGNORE` for unlabelled images."""
    valid: Tensor
    """(crop, crop) bool, False in padding, nodata and held-out parts."""
    weights: Tensor | None = None
    """(crop, crop) weights of the labels; None if all labels of the pool weigh 1."""


@dataclass(frozen=True, slots=True)
class View:
    """Settings of weak views."""

    crop: int
    """Side of the crops in pixels."""
    scales: tuple[float, float]
    """Smallest and largest random scale factor."""
    rule: ScaleRule
    symmetry: Symmetry = PUBLISHED_SYMMETRY


@dataclass(frozen=True, slots=True)
class _WindowValues:
    """A window of a source as it was read, before scaling to the crop."""

    pixels: NDArray[np.float32]
    """(bands, h, w) in [0, 1]."""
    valid: NDArray[np.bool_]
    """(h, w)"""
    labels: NDArray[np.uint8]
    """(h, w) class ids; `IGNORE` where not labelled or not valid."""
    weights: NDArray[np.float32] | None
    """(h, w) weights of the labels; None if all labels of the pool weigh 1."""


class Pool:
    """Items to draw crops from, and their sources. Thread-safe: each thread opens the files for itself."""

    def __init__(
        self,
        sources: Sequence[Source],
        items: Sequence[Item],
        scaling: Scaling,
        view: View,
        *,
        classes: ClassIndex | None = None,
    ) -> None:
        """With `classes`, crops are centred on a pixel of a class that it draws, and the items are not used."""
        self._classes = classes
        self.sources = tuple(sources)
        self.items = tuple(items)
        self._scaling = scaling
        self._view = view
        self._weighted = any(source.weights is not None for source in self.sources)
        self.is_uint8 = all(source.scene.dtype == "uint8" for source in self.sources)
        """Whether all images are uint8."""
        self._local = threading.local()

    def __len__(self) -> int:
        return len(self.items)

    def draw(self, index: int, rng: np.random.Generator) -> Crop:
        """A random crop around item `index`."""
        for _ in range(_ATTEMPTS):
            item, centre = self._target(index, rng)
            source = self.sources[item.source]
            geometry = self._geometry(source, item, centre, rng)
            if any(touch(geometry.window, holdout) for holdout in source.holdout):
                continue
            values = self._read(item.source, geometry.window)
            if self._is_useful(source, values):
                return self._crop(geometry, values)
        item, centre = self._target(index, rng)
        geometry = self._geometry(self.sources[item.source], item, centre, rng)
        return self._crop(geometry, self._read(item.source, geometry.window))

    def release(self) -> None:
        """Close this thread's files; GDAL requires that the thread that opened a file closes it."""
        for stack, _ in self._local.__dict__.pop("opened", OrderedDict()).values():
            stack.close()

    def _target(self, index: int, rng: np.random.Generator) -> tuple[Item, tuple[int, int] | None]:
        """The item that a crop is drawn around, and the (row, column) of its centre if classes are balanced."""
        if self._classes is None:
            return self.items[index], None
        block, class_id = self._classes.draw(rng)
        source = self.sources[block.source]
        labels = without(self._handles(block.source)[1].read(block.cell), block.cell, source.holdout)
        pixels = np.argwhere(labels == class_id)
        row, col = pixels[rng.integers(len(pixels))].tolist()
        return Item(block.source, None), (block.cell.row + row, block.cell.col + col)

    def _geometry(
        self, source: Source, item: Item, centre: tuple[int, int] | None, rng: np.random.Generator
    ) -> Geometry:
        height, width = source.scene.height, source.scene.width
        scale = scale_of(height, width, self._view.rule, self._view.scales, rng)
        return weak_geometry(
            height,
            width,
            crop=self._view.crop,
            scale=scale,
            rng=rng,
            near=item.near,
            centre=centre,
            symmetry=self._view.symmetry,
        )

    @staticmethod
    def _is_useful(source: Source, values: _WindowValues) -> bool:
        """Whether a window has a label, or, in an unlabelled image, a quarter of valid pixels."""
        if source.labels is not None:
            return bool((values.labels != IGNORE).any())
        return bool(values.valid.mean() >= 0.25)

    def _read(self, index: int, window: Window) -> _WindowValues:
        """The pixels, labels and weights of a window of source number `index`; held-out parts are blanked."""
        source = self.sources[index]
        reader, label_reader, weight_reader = self._handles(index)
        patch = reader.read(window)
        pixels, valid = self._scaling.apply(patch.pixels), patch.valid
        labels = np.full(valid.shape, IGNORE, np.uint8) if label_reader is None else label_reader.read(window)
        labels[~valid | ~inside(window, source.windows)] = IGNORE
        for holdout in source.holdout:
            if touch(window, holdout):
                rows = slice(max(0, holdout.row - window.row), max(0, holdout.bottom - window.row))
                cols = slice(max(0, holdout.col - window.col), max(0, holdout.right - window.col))
                pixels[:, rows, cols], valid[rows, cols], labels[rows, cols] = 0, False, IGNORE
        weights = None
        if self._weighted:
            weights = np.ones(valid.shape, np.float32) if weight_reader is None else weight_reader.read(window)
        return _WindowValues(pixels, valid, labels, weights)

    def _crop(self, geometry: Geometry, values: _WindowValues) -> Crop:
        side = self._view.crop
        return Crop(
            image=view_image(torch.from_numpy(values.pixels), geometry, side),
            labels=labels_view(values.labels, geometry, side),
            valid=view_mask(values.valid, geometry, side, fill=0),
            weights=None if values.weights is None else view_mask(values.weights, geometry, side, fill=0),
        )

    def _handles(self, index: int) -> tuple[Any, Any, Any]:
        """This thread's readers of a source: image, labels, weights. Opening one may close the least recently used."""
        opened: OrderedDict[int, tuple[ExitStack, tuple[Any, Any, Any]]] = self._local.__dict__.setdefault(
            "opened", OrderedDict()
        )
        if index in opened:
            opened.move_to_end(index)
        else:
            if len(opened) >= _MAX_OPEN:
                opened.popitem(last=False)[1][0].close()
            source, stack = self.sources[index], ExitStack()
            reader = stack.enter_context(source.scene.reader())
            labels = stack.enter_context(source.labels.reader()) if source.labels is not None else None
            weights = stack.enter_context(source.weights.reader()) if source.weights is not None else None
            opened[index] = stack, (reader, labels, weights)
        return opened[index][1]
