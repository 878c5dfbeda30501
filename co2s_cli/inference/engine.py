"""The model on its device: pixels of a batch of windows in, values to blend out. Every batch has the same size."""

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
"""Number of pinned buffers, and of batches that may be queued on a CUDA device at a time."""


class InferenceEngine:
    """Runs batches of windows; on a CPU several threads may call it at the same time."""

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
        """`note` is given each event that may have changed last bits of the values."""
        self.device = device
        self.precision = precision
        self.product = product
        self._members = members
        self._note = note
        columns = [torch.tensor(v, device=device)[:, None, None] for v in (scaling.low, scaling.gain, scaling.shift)]
        self._low, self._gain, self._shift = columns
        self._clamp = scaling.clamp
        self._halving = threading.Lock()
        self._queued: deque[torch.cuda.Event] = deque()
        self.set_batch(batch)

    def set_batch(self, batch: int) -> None:
        """Fix the number of windows in a batch; not while batches run."""
        self.batch = batch
        """Windows in a batch."""
        self.step = batch
        """Windows that go through the model together: the batch, until the device's memory did not hold it."""
        self._pinned = _PinnedBatches(self.device, batch) if self.device.type == "cuda" else None
        self._stage: Callable[[Tensor], Tensor] = self._copied if self._pinned is None else self._pinned.to_device

    def run(self, pixels: Sequence[tuple[int, NDArray[Any]]]) -> Tensor:
        """Values (batch, depth, tile, tile) in float32, from pixels (bands, tile, tile) by their slot in the batch.

        Slots without pixels run on zeros: their values mean nothing.
        """
        with torch.inference_mode(), self._paced():
            return self._values(self._staged(pixels))

    def _staged(self, pixels: Sequence[tuple[int, NDArray[Any]]]) -> Tensor:
        """Samples (batch, bands, tile, tile) on the host; for a CUDA device in memory that it can fetch by itself."""
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
    def _paced(self) -> Iterator[None]:
        """Let at most `STAGES` batches wait on a CUDA device: each of them takes its memory."""
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
        """The values of a batch, by steps that are halved until the device's memory holds one from staging on."""
        while True:
            step = self.step
            try:
                parts = [self._forward(staged[start : start + step]) for start in range(0, len(staged), step)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
                if not _is_out_of_memory(error):
                    raise
                if step == 1:
                    raise ResourceError(
                        f"{self.device}: not even one window fits into its memory", hint="use a smaller --tile"
                    ) from error
            self._halve(step)

    def _halve(self, tried: int) -> None:
        """Go below a step that did not fit; batches that failed at the same time halve it once, not once each."""
        with self._halving:
            if self.step < tried:
                return
            self.step = tried // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            elif self.device.type == "mps":
                torch.mps.empty_cache()
            self._note(f"out of memory on {self.device}: from now on {self.step} windows at a time")

    def _forward(self, staged: Tensor) -> Tensor:
        """Values (windows, depth, tile, tile) of some windows of a batch."""
        images = self._scaled(self._stage(staged))
        dtype = DTYPES[self.precision]
        with torch.autocast(self.device.type, dtype=dtype, enabled=self.precision != "fp32"):
            members = self._members(images)
        return self.product.values(members)

    def _copied(self, staged: Tensor) -> Tensor:
        return staged.to(self.device)

    def _scaled(self, pixels: Tensor) -> Tensor:
        # `to` copies unless the samples are float32 already; those of a batch of one still belong to the patch
        images = pixels.to(torch.float32, copy=True).sub_(self._low).mul_(self._gain).add_(self._shift)
        return images.clamp_(0, 1) if self._clamp else images


def _is_out_of_memory(error: Exception) -> bool:
    """Whether the memory of a device or of this process ran out; for MPS and the CPU torch has no error class."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        phrase in str(error) for phrase in ("MPS backend out of memory", "can't allocate memory")
    )


class _PinnedBatches:
    """Page-locked buffers for whole batches, copied to a CUDA device on a stream of its own while the model runs."""

    def __init__(self, device: torch.device, batch: int) -> None:
        """`batch`: windows that a buffer holds."""
        self._device = device
        self._batch = batch
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._buffers: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
        """Those used longest ago first, each with the event that marks the end of its last copy."""

    def take(self, like: NDArray[Any]) -> Tensor:
        """A buffer (batch, bands, tile, tile) for windows like this one; its last copy is over."""
        if len(self._buffers) < STAGES:
            buffer = torch.from_numpy(np.empty((self._batch, *like.shape), like.dtype)).pin_memory()
        else:
            buffer, copied = self._buffers.popleft()
            if copied is not None:
                copied.synchronize()
        self._buffers.append((buffer, None))
        return buffer

    def to_device(self, host: Tensor) -> Tensor:
        """Some windows of the buffer taken last, on the device."""
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
    """One thread per operation and no kernel chosen by a timing, so that equal windows give equal bits in any run.

    Several windows run side by side instead, which is no slower and does not depend on the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(threads)


def one_thread() -> None:
    """Initialise a pool thread that runs the model: torch keeps the number of threads by thread, too."""
    if threading.current_thread() is not threading.main_thread():
        torch.set_num_threads(1)
