"""A scene prepared for one model: its area of interest, scaling and windows."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.cloud import local_copy
from co2s_cli.config.mapping import MapConfig
from co2s_cli.geo.read.aoi import Aoi
from co2s_cli.geo.read.reader import Patch
from co2s_cli.geo.read.scaling import Scaling, scaling_for
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.read.shared import MIN_PIECES, SharedBlocks, piece_shape
from co2s_cli.inference.runner import Lattice
from co2s_cli.inference.targets import open_scene, window_of
from co2s_cli.models.manifest import Manifest
from co2s_cli.tiling import TilePlan, Window

_OVERVIEW_SIDE = 2048
"""Longer side, in pixels, of the overview in which an estimate looks for blank windows."""


@dataclass(frozen=True, slots=True)
class PreparedScene:
    """One scene, checked and planned for a model. It holds no open file and can be pickled to helper processes."""

    scene: Scene
    aoi: Aoi | None
    scaling: Scaling
    lattice: Lattice
    block_width: int
    """Width of a block of the file, in pixels of the grid that the model sees."""
    piece_bytes: int
    """Bytes of the decoded pixels of one piece, the unit in which readers share blocks."""

    @classmethod
    def open(cls, source: str, manifest: Manifest, settings: MapConfig) -> PreparedScene:
        """Check a scene against a model and plan its windows as the settings say.

        Raises:
            Co2sError: the scene, the area of interest or the scaling does not fit.
        """
        scene = open_scene(source, manifest, settings)
        area = settings.aoi and local_copy(settings.aoi)  # each machine of a cluster fetches its own
        aoi = Aoi.of(scene.grid, file=area, bounds=settings.bounds)
        scaling = scaling_for(scene, settings.scale, manifest.scaling)
        tile, overlap = window_of(settings, manifest)
        plan = TilePlan.of(scene.height, scene.width, tile=tile, overlap=overlap)
        with scene.reader() as reader:
            may_be_valid = _may_be_valid(plan, reader, aoi)
            block_shape = reader.raster.block_shape
        pixel_bytes = len(scene.bands) * np.dtype(scene.dtype).itemsize + 1
        piece_bytes = math.prod(piece_shape(block_shape, scene.original.shape)) * pixel_bytes
        block_width = block_shape[1] * scene.width // scene.original.width
        return cls(scene, aoi, scaling, Lattice(plan, may_be_valid), block_width, piece_bytes)

    @contextlib.contextmanager
    def reader(self, shared: SharedBlocks | None = None) -> Iterator[_AreaReader]:
        """A reader for one thread; pixels outside the area of interest are not valid.

        `shared` is the cache of decoded blocks that all readers of the scene use.
        """
        with self.scene.reader(shared) as reader:
            yield _AreaReader(reader, self.aoi)

    def shared_blocks(self, limit: int) -> SharedBlocks | None:
        """A cache for up to `limit` bytes of decoded blocks; None if the file's blocks are too large for it."""
        return SharedBlocks(limit) if self.piece_bytes * MIN_PIECES <= limit else None

    def facts(self) -> dict[str, Any]:
        """The facts of scene and settings that decide the pixels of a map; key and journal are made of them."""
        plan, scene = self.lattice.plan, self.scene
        return {
            "scene": scene.identity,
            "size": [scene.height, scene.width],
            "bands": list(scene.bands),
            "validity": repr(scene.rules),
            "scaling": [list(self.scaling.low), list(self.scaling.high), self.scaling.clamp],
            "area": hashlib.sha256(self.aoi.shape.wkb).hexdigest() if self.aoi else None,
            "tile": plan.tile,
            "overlap": plan.overlap,
        }

    def remarks(self, manifest: Manifest) -> list[str]:
        """What a user should know before the map is made, one line each."""
        gap = self.scene.resolution_gap(manifest.ground_resolution)
        remarks = [*self.scene.remarks(), *([f"{self.scene.source}: {gap}"] if gap else [])]
        tile_gap = manifest.tile_gap(self.lattice.plan.tile)
        return [*remarks, *([f"{self.scene.source}: {tile_gap}"] if tile_gap else [])]

    def probably_blank(self) -> int:
        """Number of windows that may hold a valid pixel, but hold none in an overview of the scene."""
        valid = self.scene.overview(_OVERVIEW_SIDE).valid
        row_scale, col_scale = valid.shape[0] / self.scene.height, valid.shape[1] / self.scene.width
        plan, blank = self.lattice.plan, 0
        for down, row in enumerate(plan.rows):
            rows = valid[math.floor(row * row_scale) : math.ceil((row + plan.tile) * row_scale)]
            for across in np.flatnonzero(self.lattice.may_be_valid[down]):
                col = plan.cols[across]
                blank += not rows[:, math.floor(col * col_scale) : math.ceil((col + plan.tile) * col_scale)].any()
        return blank


class _AreaReader:
    """A scene's reader for which pixels outside the area of interest are not valid."""

    def __init__(self, reader: Any, aoi: Aoi | None) -> None:
        self._reader = reader
        self._aoi = aoi

    def read(self, window: Window) -> Patch:
        """Pixels of a window; those outside the area keep their values, as context for the model, but are not valid."""
        patch: Patch = self._reader.read(window)
        return patch if self._aoi is None else Patch(patch.pixels, patch.valid & self._aoi.mask(window))


def _may_be_valid(plan: TilePlan, reader: Any, aoi: Aoi | None) -> NDArray[np.bool_]:
    """Whether each window may hold a valid pixel, (rows, columns of windows), by area and block index."""
    may_be_valid = np.ones((len(plan.rows), len(plan.cols)), np.bool_)
    for down in range(len(plan.rows)):
        for across in range(len(plan.cols)):
            window = plan.window(down, across)
            may_be_valid[down, across] = not (aoi and aoi.misses(window)) and reader.has_data(window)
    return may_be_valid
