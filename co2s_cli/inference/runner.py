"""Readers → batches → model → blend: the values of an area of a scene as strips of finished rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from co2s_cli.inference.engine import Engine, one_thread
from co2s_cli.inference.products import Product
from co2s_cli.inference.readers import Patch, Reader, Readers, ahead
from co2s_cli.inference.stitch import Piece, Strip, Weights, stitch
from co2s_cli.tiling import Plan, Window


@dataclass(frozen=True, slots=True)
class Lattice:
    """The windows of a plan, and which of them may hold a valid pixel."""

    plan: Plan
    may: NDArray[np.bool_]
    """(rows of windows, columns of windows); False = surely nothing there, neither read nor run."""
    before: NDArray[np.int64] = field(init=False)
    """(rows of windows,) windows that may hold something in the rows above."""

    def __post_init__(self) -> None:
        counts = self.may.sum(axis=1, dtype=np.int64)
        object.__setattr__(self, "before", np.cumsum(counts) - counts)

    def keys(self, area: Window) -> Iterator[Key]:
        """The windows to read for an area in row-major order, each with its rank in the whole scene."""
        rows, cols = self.plan.meeting(area)
        for down in rows:
            rank = int(self.before[down]) + int(self.may[down, : cols.start].sum())
            for across in cols:
                if self.may[down, across]:
                    yield Key(down, across, rank)
                    rank += 1

    def count(self, area: Window) -> int:
        """How many windows are to be read for an area."""
        rows, cols = self.plan.meeting(area)
        return int(self.may[rows.start : rows.stop, cols.start : cols.stop].sum())


@dataclass(frozen=True, slots=True)
class Key:
    """One window of the lattice."""

    down: int
    across: int
    rank: int
    """Its place among all windows of the scene that may hold something; batches are cut by it, so that a window has
    the same slot in any area and in any run."""


@dataclass(slots=True)
class Pace:
    """What a run has done so far."""

    read: int = 0
    """Windows read."""
    ran: int = 0
    """Windows that held a valid pixel and went through the model."""
    seconds: float = 0.0
    """Time since the first read."""
    waited: float = 0.0
    """Time of it in which no read window was there for the model."""


class Runner:
    """Runs the model over areas of one scene."""

    def __init__(
        self,
        lattice: Lattice,
        engine: Engine,
        product: Product,
        opened: Callable[[], AbstractContextManager[Reader]],
        *,
        lanes: int,
        threads: int,
    ) -> None:
        self.pace = Pace()
        self._lattice = lattice
        self._engine = engine
        self._product = product
        self._opened = opened
        self._lanes = lanes
        self._threads = threads
        self._weights = Weights(lattice.plan, engine.device)

    def strips(self, area: Window, *, step: Callable[[int], None] = lambda _: None) -> Generator[Strip]:
        """Finished rows of `area`; `step` is told how many more windows are read."""
        waiting = (self._threads + self._lanes) * self._engine.batch + 1
        with (
            Readers(self._opened, threads=self._threads, ahead=waiting) as readers,
            ThreadPoolExecutor(self._lanes, "lane", initializer=one_thread) as lanes,
        ):
            windows = ((key, self._window(key)) for key in self._lattice.keys(area))
            patches = self._counted(readers.read(windows), readers, step)
            batches = groupby(patches, key=lambda item: item[0].rank // self._engine.batch)
            full = ([item for item in batch if item[1].valid.any()] for _, batch in batches)
            pieces = ahead(lambda batch: lanes.submit(self._piece, batch), filter(None, full), count=self._lanes + 1)
            yield from stitch(
                (piece for batch in pieces for piece in batch),
                plan=self._lattice.plan,
                area=area,
                depth=self._product.depth,
                device=self._engine.device,
            )

    def _window(self, key: Key) -> Window:
        return self._lattice.plan.window(key.down, key.across)

    def _piece(self, batch: list[tuple[Key, Patch]]) -> list[Piece]:
        """Run one batch; give its windows' weighted values."""
        size = self._engine.batch
        values = self._engine.run([(key.rank % size, patch.pixels) for key, patch in batch])
        with torch.inference_mode():
            for key, _ in batch:
                self._weights.apply(values[key.rank % size], key.down, key.across)
        return [Piece(key.down, key.across, values[key.rank % size], patch.valid) for key, patch in batch]

    def _counted(
        self, patches: Iterable[tuple[Key, Patch]], readers: Readers, step: Callable[[int], None]
    ) -> Iterator[tuple[Key, Patch]]:
        """The same patches, with the pace kept."""
        started = time.perf_counter()
        before = self.pace.seconds, self.pace.waited
        for item in patches:
            self.pace.read += 1
            self.pace.ran += bool(item[1].valid.any())
            self.pace.seconds = before[0] + time.perf_counter() - started
            self.pace.waited = before[1] + readers.waited
            yield item
            step(1)
