"""Random crops read straight from scenes of any size; a crop is a function of an item and a generator."""

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
"""Windows tried for a crop that has data (or labels) and lies off the validation; after that any window is taken."""

_OPEN = 16
"""Files that a thread keeps open."""


@dataclass(frozen=True, slots=True)
class Crop:
    """One weak view."""

    image: Tensor
    """(bands, crop, crop) in [0, 1]; padding is 0."""
    labels: Tensor
    """(crop, crop) uint8 class ids, `IGNORE` where not labelled; all of it for unlabelled images."""
    valid: Tensor
    """(crop, crop), False in padding, nodata and what is held out."""
    weights: Tensor | None = None
    """(crop, crop) how much the labels count; None where all of the pool's count fully."""


@dataclass(frozen=True, slots=True)
class View:
    """How crops are cut."""

    crop: int
    scales: tuple[float, float]
    rule: ScaleRule
    symmetry: Symmetry = PUBLISHED_SYMMETRY


@dataclass(frozen=True, slots=True)
class _Part:
    """A window of a source as it was read."""

    pixels: NDArray[np.float32]
    """(bands, h, w) in [0, 1]."""
    valid: NDArray[np.bool_]
    """(h, w)"""
    labels: NDArray[np.uint8]
    """(h, w) class ids; `IGNORE` where not labelled or not valid."""
    weights: NDArray[np.float32] | None
    """(h, w) of the labels; None where all of the pool's count fully."""


class Pool:
    """Items to draw from, and their sources. Safe for several threads: each has handles of its own."""

    def __init__(
        self,
        sources: Sequence[Source],
        items: Sequence[Item],
        scaling: Scaling,
        view: View,
        *,
        classes: ClassIndex | None = None,
    ) -> None:
        """`classes`: crops are centred on a pixel of a class that this draws, whatever item is asked for."""
        self._classes = classes
        self.sources = tuple(sources)
        self.items = tuple(items)
        self._scaling = scaling
        self._view = view
        self._weighted = any(source.weights is not None for source in self.sources)
        self.is_uint8 = all(source.scene.dtype == "uint8" for source in self.sources)
        """Whether all images have samples of 8 bits."""
        self._local = threading.local()

    def __len__(self) -> int:
        return len(self.items)

    def draw(self, index: int, rng: np.random.Generator) -> Crop:
        """A random crop around item `index`."""
        for _ in range(_ATTEMPTS):
            item, centre = self._target(index, rng)
            source = self.sources[item.source]
            geometry = self._geometry(source, item, centre, rng)
            if any(touch(geometry.window, out) for out in source.holdout):
                continue
            part = self._read(item.source, geometry.window)
            if self._useful(source, part):
                return self._crop(geometry, part)
        item, centre = self._target(index, rng)
        geometry = self._geometry(self.sources[item.source], item, centre, rng)
        return self._crop(geometry, self._read(item.source, geometry.window))

    def release(self) -> None:
        """Close this thread's files: GDAL wants them closed where they were opened."""
        for stack, _ in self._local.__dict__.pop("opened", OrderedDict()).values():
            stack.close()

    def _target(self, index: int, rng: np.random.Generator) -> tuple[Item, tuple[int, int] | None]:
        """The item that a crop is drawn around, and the (row, column) of its centre where classes are balanced."""
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
    def _useful(source: Source, part: _Part) -> bool:
        if source.labels is not None:
            return bool((part.labels != IGNORE).any())
        return bool(part.valid.mean() >= 0.25)

    def _read(self, index: int, window: Window) -> _Part:
        source = self.sources[index]
        reader, label_reader, weight_reader = self._handles(index)
        patch = reader.read(window)
        pixels, valid = self._scaling.apply(patch.pixels), patch.valid
        labels = np.full(valid.shape, IGNORE, np.uint8) if label_reader is None else label_reader.read(window)
        labels[~valid | ~inside(window, source.windows)] = IGNORE
        for out in source.holdout:
            if touch(window, out):
                rows = slice(max(0, out.row - window.row), max(0, out.bottom - window.row))
                cols = slice(max(0, out.col - window.col), max(0, out.right - window.col))
                pixels[:, rows, cols], valid[rows, cols], labels[rows, cols] = 0, False, IGNORE
        weights = None
        if self._weighted:
            weights = np.ones(valid.shape, np.float32) if weight_reader is None else weight_reader.read(window)
        return _Part(pixels, valid, labels, weights)

    def _crop(self, geometry: Geometry, part: _Part) -> Crop:
        side = self._view.crop
        return Crop(
            image=view_image(torch.from_numpy(part.pixels), geometry, side),
            labels=labels_view(part.labels, geometry, side),
            valid=view_mask(part.valid, geometry, side, fill=0),
            weights=None if part.weights is None else view_mask(part.weights, geometry, side, fill=0),
        )

    def _handles(self, index: int) -> tuple[Any, Any, Any]:
        """This thread's readers of a source: image, labels, weights. Opening one may close the least recently used."""
        opened: OrderedDict[int, tuple[ExitStack, tuple[Any, Any, Any]]] = self._local.__dict__.setdefault(
            "opened", OrderedDict()
        )
        if index in opened:
            opened.move_to_end(index)
        else:
            if len(opened) >= _OPEN:
                opened.popitem(last=False)[1][0].close()
            source, stack = self.sources[index], ExitStack()
            reader = stack.enter_context(source.scene.reader())
            labels = stack.enter_context(source.labels.reader()) if source.labels is not None else None
            weights = stack.enter_context(source.weights.reader()) if source.weights is not None else None
            opened[index] = stack, (reader, labels, weights)
        return opened[index][1]
