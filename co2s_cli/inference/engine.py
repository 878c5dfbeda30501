"""The model on its device: takes the pixels of a batch of windows, returns the values that are blended."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from co2s_cli.errors import ResourceError
from co2s_cli.geo.read.scaling import Scaling
from co2s_cli.inference.model import DTYPES, Members, Precision
from co2s_cli.inference.products import Product

log = logging.getLogger(__name__)

STAGES = 3
"""Number of page-locked buffers, and of batches that may be queued on a CUDA device at a time."""


class InferenceEngine:
    """Runs batches of windows, all of one size; on a CPU several threads may call it at the same time."""

    def __init__(
        self,
        members: Members,
        product: Product,
        *,
        scaling: Scaling,
        device: torch.device,
        precision: Precision,
        batch: int = 1,
        note: Callable[[str], None] = log.warning,
    ) -> None:
        """`note` is called with each event that may have changed the last bits of the values, in words."""
        self.device = device
        self.precision = precision
        self.product = product
        self._members = members
        self._note = note
        by_band = [torch.tensor(v, device=device)[:, None, None] for v in (scaling.low, scaling.gain, scaling.shift)]
        self._low, self._gain, self._shift = by_band
        self._clamp = scaling.clamp
        self._halve_lock = threading.Lock()
        self._queued: deque[torch.cuda.Event] = deque()
        self.set_batch(batch)

    def set_batch(self, batch: int) -> None:
        """Set the number of windows in a batch; must not be called while batches run."""
        self.batch = batch
        """Windows in a batch."""
        self.forward_size = batch
        """Windows in one forward pass: the whole batch, or less after the device ran out of memory."""
        self._pinned = _PinnedBatches(self.device, batch) if self.device.type == "cuda" else None
        self._to_device: Callable[[Tensor], Tensor] = self._copied if self._pinned is None else self._pinned.to_device

    def run(self, pixels: Sequence[tuple[int, NDArray[Any]]]) -> Tensor:
        """Values (batch, depth, tile, tile) in float32, from pairs of slot in the batch and pixels (bands, tile, tile).

        Slots without pixels run on zeros; their values are meaningless.
        """
        with torch.inference_mode(), self._limited_queue():
            return self._values(self._staged(pixels))

    def _staged(self, pixels: Sequence[tuple[int, NDArray[Any]]]) -> Tensor:
        """Samples (batch, bands, tile, tile) on the host; for a CUDA device in page-locked memory."""
        first = pixels[0][1]
        if self._pinned is not None:
            host = self._pinned.take(first)
        elif self.batch == 1:
            return torch.from_numpy(np.ascontiguousarray(first))[None]
        else:
            host = torch.from_numpy(np.empty((self.batch, *first.shape), first.dtype))
        samples = host.numpy()
        for slot, array in pixels:
            samples[slot] = array
        samples[sorted(set(range(self.batch)) - {slot for slot, _ in pixels})] = 0
        return host

    @contextlib.contextmanager
    def _limited_queue(self) -> Iterator[None]:
        """Wait until fewer than `STAGES` batches are queued on a CUDA device: each queued batch holds device memory."""
        if self.device.type != "cuda":
            yield
            return
        if len(self._queued) == STAGES:
            self._queued.popleft().synchronize()
        yield
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self.device))
        self._queued.append(done)

    def _values(self, staged: Tensor) -> Tensor:
        """The values of a batch, in forward passes that are halved until the device's memory suffices."""
        while True:
            size = self.forward_size
            try:
                parts = [self._forward(staged[start : start + size]) for start in range(0, len(staged), size)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
                if not _is_out_of_memory(error):
                    raise
                if size == 1:
                    raise ResourceError(
                        f"{self.device}: not even one window fits into its memory", hint="use a smaller --tile"
                    ) from error
            self._halve(size)

    def _halve(self, failed_size: int) -> None:
        """Halve the forward size that did not fit; threads that fail with it at the same time halve it only once."""
        with self._halve_lock:
            if self.forward_size < failed_size:
                return
            self.forward_size = failed_size // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            elif self.device.type == "mps":
                torch.mps.empty_cache()
            self._note(f"out of memory on {self.device}: from now on {self.forward_size} windows at a time")

    def _forward(self, staged: Tensor) -> Tensor:
        """Values (windows, depth, tile, tile) of some windows of a batch."""
        images = self._scaled(self._to_device(staged))
        dtype = DTYPES[self.precision]
        with torch.autocast(self.device.type, dtype=dtype, enabled=self.precision != "fp32"):
            members = self._members(images)
        return self.product.values(members)

    def _copied(self, staged: Tensor) -> Tensor:
        return staged.to(self.device)

    def _scaled(self, pixels: Tensor) -> Tensor:
        # the copy matters for float32 samples of a batch of one: they still belong to the patch and must not change
        images = pixels.to(torch.float32, copy=True).sub_(self._low).mul_(self._gain).add_(self._shift)
        return images.clamp_(0, 1) if self._clamp else images


def _is_out_of_memory(error: Exception) -> bool:
    """Whether device or host memory ran out; for MPS and the CPU torch has no error class, only a message."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        phrase in str(error) for phrase in ("MPS backend out of memory", "can't allocate memory")
    )


class _PinnedBatches:
    """Page-locked buffers for whole batches, copied to a CUDA device on a separate stream while the model runs."""

    def __init__(self, device: torch.device, batch: int) -> None:
        """`batch`: windows that a buffer holds."""
        self._device = device
        self._batch = batch
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._buffers: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
        """Least recently used first, each with the event at the end of its last copy; None: not copied yet."""

    def take(self, like: NDArray[Any]) -> Tensor:
        """A buffer (batch, bands, tile, tile) for windows of the shape and type of `like`; its last copy has ended."""
        if len(self._buffers) < STAGES:
            buffer = torch.from_numpy(np.empty((self._batch, *like.shape), like.dtype)).pin_memory()
        else:
            buffer, copied = self._buffers.popleft()
            if copied is not None:
                copied.synchronize()
        self._buffers.append((buffer, None))
        return buffer

    def to_device(self, host: Tensor) -> Tensor:
        """Copy some windows of the most recently taken buffer to the device, asynchronously."""
        with torch.cuda.stream(self._stream):
            pixels = host.to(self._device, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self._stream)
        self._buffers[-1] = (self._buffers[-1][0], copied)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        pixels.record_stream(current)
        return pixels


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Run each operation in one thread, with deterministic kernels, so that equal windows give equal bits in any run.

    Cores are used by several windows at a time instead, which is no slower, and no result depends on their number.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(threads)


def one_thread() -> None:
    """Initialise a pool thread that runs the model: torch's number of threads is also a setting of each thread."""
    if threading.current_thread() is not threading.main_thread():
        torch.set_num_threads(1)
