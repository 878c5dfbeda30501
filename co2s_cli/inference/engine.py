"""The model on its device: pixels of a batch of windows in, values to blend out. Every batch has the same size."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from co2s_cli.errors import ResourceError
from co2s_cli.inference.precision import DTYPES, Precision
from co2s_cli.inference.products import Product
from co2s_cli.inference.views import Members

STAGES = 3
"""Pinned buffers in turn, and batches that the device may have before it at a time."""


class Ranges(Protocol):
    """`(value - low) × gain + shift`, by band."""

    @property
    def low(self) -> tuple[float, ...]:
        """Subtracted first."""

    @property
    def gain(self) -> tuple[float, ...]:
        """Then multiplied."""

    @property
    def shift(self) -> tuple[float, ...]:
        """Then added."""

    @property
    def clamp(self) -> bool:
        """Whether the result is cut to [0, 1]."""


class Engine:
    """Runs batches of windows; safe to be called from several threads on a CPU."""

    def __init__(
        self,
        members: Members,
        product: Product,
        *,
        scaling: Ranges,
        device: torch.device,
        precision: Precision,
        batch: int,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.device = device
        self.batch = batch
        """Windows in a batch."""
        self.step = batch
        """Windows that run at once: the batch, until the device's memory did not hold it."""
        self._members = members
        self._product = product
        self._precision = precision
        self._note = note
        columns = [torch.tensor(v, device=device)[:, None, None] for v in (scaling.low, scaling.gain, scaling.shift)]
        self._low, self._gain, self._shift = columns
        self._clamp = scaling.clamp
        self._halved = threading.Lock()
        self._behind: deque[torch.cuda.Event] = deque()
        self._stage: Callable[[NDArray[Any]], Tensor] = _Pinned(device) if device.type == "cuda" else self._copied

    def run(self, pixels: Sequence[tuple[int, NDArray[Any]]]) -> Tensor:
        """Values (batch, depth, tile, tile) for pixels (bands, tile, tile) at their slots of the batch.

        Slots that are not named run too, on zeros: their values mean nothing.
        """
        _, first = pixels[0]
        staged = np.zeros((self.batch, *first.shape), first.dtype)
        for slot, array in pixels:
            staged[slot] = array
        with torch.inference_mode(), self._paced():
            return self._halving(self._scaled(self._stage(staged)))

    @contextlib.contextmanager
    def _paced(self) -> Iterator[None]:
        """Keep a CUDA device only a few batches behind: what it has not done yet takes its memory."""
        if self.device.type != "cuda":
            yield
            return
        if len(self._behind) == STAGES:
            self._behind.popleft().synchronize()
        yield
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self.device))
        self._behind.append(done)

    def _copied(self, staged: NDArray[Any]) -> Tensor:
        return torch.from_numpy(staged).to(self.device)

    def _scaled(self, pixels: Tensor) -> Tensor:
        images = pixels.to(torch.float32).sub_(self._low).mul_(self._gain).add_(self._shift)
        return images.clamp_(0, 1) if self._clamp else images

    def _halving(self, images: Tensor) -> Tensor:
        """The values of a batch, in smaller and smaller steps until the device's memory holds them."""
        while True:
            step = self.step
            try:
                parts = [self._forward(part) for part in torch.split(images, step)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            except torch.OutOfMemoryError as error:
                if step == 1:
                    raise ResourceError(
                        f"{self.device}: not even one window fits into its memory", hint="use a smaller --tile"
                    ) from error
            except RuntimeError as error:
                if "can't allocate memory" not in str(error):
                    raise
                raise ResourceError("out of memory while the model ran", hint="use a smaller --tile") from error
            self._halve(step)

    def _halve(self, tried: int) -> None:
        """Go below a step that did not fit; batches that failed at the same time halve it once, not once each."""
        with self._halved:
            if self.step < tried:
                return
            self.step = tried // 2
            torch.cuda.empty_cache()
            self._note(f"out of memory on {self.device}: from here on {self.step} windows at a time")

    def _forward(self, images: Tensor) -> Tensor:
        dtype = DTYPES[self._precision]
        with torch.autocast(self.device.type, dtype=dtype, enabled=self._precision != "fp32"):
            members = self._members(images)
        return self._product.values(members)


class _Pinned:
    """Host batches to a CUDA device through pinned buffers, on a stream of their own, while the model runs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._buffers: deque[Tensor] = deque(maxlen=STAGES)
        self._done: deque[torch.cuda.Event] = deque()

    def __call__(self, staged: NDArray[Any]) -> Tensor:
        host = self._buffer(staged)
        host.numpy()[...] = staged
        with torch.cuda.stream(self._stream):
            pixels = host.to(self._device, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self._stream)
        self._done.append(copied)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        pixels.record_stream(current)
        return pixels

    def _buffer(self, staged: NDArray[Any]) -> Tensor:
        """The buffer used longest ago, once its copy is over."""
        if len(self._buffers) < STAGES:
            self._buffers.append(torch.from_numpy(np.empty_like(staged)).pin_memory())
        else:
            self._done.popleft().synchronize()
            self._buffers.rotate(-1)
        return self._buffers[-1]


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """One thread an operation and no kernel chosen by a timing: what a window gives must not depend on the run.

    Several windows run side by side instead, which is no slower and leaves nothing to depend on the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(threads)


def one_thread() -> None:
    """Prepare a thread of a pool that runs the model: the number of threads is kept by thread, too."""
    if threading.current_thread() is not threading.main_thread():
        torch.set_num_threads(1)
