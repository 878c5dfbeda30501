"""Units of work, done: the model is run over them chain by chain, and each is kept on disk as it is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from co2s_cli import tiling
from co2s_cli.geo.gdal import environment
from co2s_cli.inference.engine import Engine, repeatable
from co2s_cli.inference.parts import Builder, Parts
from co2s_cli.inference.products import Product
from co2s_cli.inference.readers import ahead
from co2s_cli.inference.runner import Pace, Runner
from co2s_cli.inference.stitch import Strip
from co2s_cli.inference.subject import Subject
from co2s_cli.tiling import Window

QUEUE = 3
"""Strips that may wait for the writer."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A strip on its way from the device to the disk."""

    row: int
    valid: NDArray[np.bool_]
    planes: Callable[[], dict[str, NDArray[Any]]] | None
    """Waits for the device; None where no pixel is valid."""


@dataclass(frozen=True, slots=True)
class Work:
    """All that one process needs to do its units of a scene."""

    subject: Subject
    engine: Engine
    product: Product
    parts: Parts
    lanes: int
    """Windows that run side by side."""
    threads: int
    """Threads that read."""
    cache: int
    """Bytes of GDAL's block cache."""

    def windows(self, units: Sequence[Window]) -> int:
        """How many windows are read for some units, those at the ends of chains twice."""
        return sum(self.subject.lattice.count(tiling.around(chain)) for chain in tiling.chains(units))

    def run(self, units: Sequence[Window], step: Callable[[int, Pace], None] = lambda *_: None) -> Pace:
        """Do the units; `step` is told how many more windows are done, and the pace so far."""
        with repeatable(), environment(self.cache), ThreadPoolExecutor(1, "writer") as writer:
            runner = Runner(
                self.subject.lattice,
                self.engine,
                self.product,
                self.subject.reader,
                lanes=self.lanes,
                threads=self.threads,
            )
            for chain in tiling.chains(units):
                keep = partial(self._keep, Builder(self.product.planes, chain))
                # closed here and now, whatever fails: threads that read would keep the process alive
                with closing(
                    runner.strips(tiling.around(chain), step=lambda count: step(count, runner.pace))
                ) as strips:
                    for _ in ahead(partial(writer.submit, keep), self._leave(strips), count=QUEUE):
                        pass
        return runner.pace

    def _leave(self, strips: Iterator[Strip]) -> Iterator[Leaving]:
        for strip in strips:
            if strip.blended is None:
                yield Leaving(strip.row, strip.valid, None)
            else:
                with torch.no_grad():
                    planes = self.product.decide(strip.blended)
                yield Leaving(strip.row, strip.valid, to_host(planes))

    def _keep(self, builder: Builder, strip: Leaving) -> None:
        """Put a strip into its unit, blank where it is not valid; write units that are full."""
        planes = strip.planes() if strip.planes else None
        for plane in self.product.planes if planes else ():
            planes[plane.name][:, ~strip.valid] = plane.blank  # type: ignore[index]
        for unit, finished in builder.add(strip.row, planes, len(strip.valid)):
            self.parts.write(unit, finished)


def to_host(planes: Mapping[str, Tensor]) -> Callable[[], dict[str, NDArray[Any]]]:
    """Begin to copy planes off the device; the call waits for them."""
    if not any(plane.is_cuda for plane in planes.values()):
        return lambda: {name: plane.cpu().numpy() for name, plane in planes.items()}
    hosts = {name: torch.empty(plane.shape, dtype=plane.dtype, pin_memory=True) for name, plane in planes.items()}
    for name, plane in planes.items():
        hosts[name].copy_(plane, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def arrays() -> dict[str, NDArray[Any]]:
        copied.synchronize()
        return {name: host.numpy() for name, host in hosts.items()}

    return arrays
