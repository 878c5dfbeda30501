"""A scene as one model sees it: its area, its scaling, its windows."""

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
"""Longer side of the overview from which blank windows are guessed."""


@dataclass(frozen=True, slots=True)
class PreparedScene:
    """One scene, checked and planned for a model. It holds no open file and is pickled as it is to helper processes."""

    scene: Scene
    aoi: Aoi | None
    scaling: Scaling
    lattice: Lattice
    block_width: int
    """Columns of a block of the file, of the grid in use."""
    piece_bytes: int
    """Bytes of decoded pixels that readers would share as one piece."""

    @classmethod
    def open(cls, source: str, manifest: Manifest, settings: MapConfig) -> PreparedScene:
        """Check a scene against a model and plan its windows as the settings say.

        Raises:
            Co2sError: the scene, the area or the scaling does not fit.
        """
        scene = open_scene(source, manifest, settings)
        area = settings.aoi and local_copy(settings.aoi)  # each machine of a cluster fetches its own
        aoi = Aoi.of(scene.grid, file=area, bounds=settings.bounds)
        scaling = scaling_for(scene, settings.scale, manifest.scaling)
        tile, overlap = window_of(settings, manifest)
        plan = TilePlan.of(scene.height, scene.width, tile=tile, overlap=overlap)
        with scene.reader() as reader:
            may = _may_be_valid(plan, reader, aoi)
            blocks = reader.raster.block_shape
        pixel_bytes = len(scene.bands) * np.dtype(scene.dtype).itemsize + 1
        piece_bytes = math.prod(piece_shape(blocks, scene.original.shape)) * pixel_bytes
        block_width = blocks[1] * scene.width // scene.original.width
        return cls(scene, aoi, scaling, Lattice(plan, may), block_width, piece_bytes)

    @contextlib.contextmanager
    def reader(self, shared: SharedBlocks | None = None) -> Iterator[_AreaReader]:
        """A reader of its own for one thread; outside the area nothing is valid.

        `shared` are decoded blocks of all readers of the scene.
        """
        with self.scene.reader(shared) as reader:
            yield _AreaReader(reader, self.aoi)

    def shared_blocks(self, limit: int) -> SharedBlocks | None:
        """Room for `limit` bytes of decoded blocks; None where the file's blocks are too large for that."""
        return SharedBlocks(limit) if self.piece_bytes * MIN_PIECES <= limit else None

    def facts(self) -> dict[str, Any]:
        """What of the scene and the settings decides the pixels of a map."""
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
        return [*self.scene.remarks(), *([f"{self.scene.source}: {gap}"] if gap else [])]

    def probably_blank(self) -> int:
        """Windows that an overview shows without a valid pixel, beyond those that surely hold none."""
        valid = self.scene.overview(_OVERVIEW_SIDE).valid
        row_scale, col_scale = valid.shape[0] / self.scene.height, valid.shape[1] / self.scene.width
        plan, blank = self.lattice.plan, 0
        for down, row in enumerate(plan.rows):
            rows = valid[math.floor(row * row_scale) : math.ceil((row + plan.tile) * row_scale)]
            for across in np.flatnonzero(self.lattice.may[down]):
                col = plan.cols[across]
                blank += not rows[:, math.floor(col * col_scale) : math.ceil((col + plan.tile) * col_scale)].any()
        return blank


class _AreaReader:
    """A scene's reader, less what lies outside the area of interest."""

    def __init__(self, reader: Any, aoi: Aoi | None) -> None:
        self._reader = reader
        self._aoi = aoi

    def read(self, window: Window) -> Patch:
        """Pixels of a window; those outside the area are kept, as surroundings, but are not valid."""
        patch: Patch = self._reader.read(window)
        return patch if self._aoi is None else Patch(patch.pixels, patch.valid & self._aoi.mask(window))


def _may_be_valid(plan: TilePlan, reader: Any, aoi: Aoi | None) -> NDArray[np.bool_]:
    """Which windows may hold a valid pixel, as far as that can be told without reading any."""
    may = np.ones((len(plan.rows), len(plan.cols)), np.bool_)
    for down in range(len(plan.rows)):
        for across in range(len(plan.cols)):
            window = plan.window(down, across)
            may[down, across] = not (aoi and aoi.misses(window)) and reader.has_data(window)
    return may
