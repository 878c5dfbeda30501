"""Batches: everything in them is a function of (seed, step, slot). A slot is a position in the batch of all ranks."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Barrier
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from co2s_cli.data.augment import Box, cutmix_box
from co2s_cli.data.batch import DrawnBatch, compact
from co2s_cli.data.samples import Crop, Pool
from co2s_cli.data.strong import NO_NOISE, PUBLISHED, BandChange, BandNoise, Strength, StrongParams

LABELED, UNLABELED, PARTNER = 0, 1, 2
"""Streams of random numbers; `PARTNER` draws the second view of an image."""

BOXES, ORDER = 3, 1000
"""Streams of the CutMix boxes (one more for each strong view) and, plus another stream, of the order of its items."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How batches are put together."""

    seed: int
    batch: int
    """Crops of each kind a rank and a step."""
    crop: int
    rank: int = 0
    ranks: int = 1
    views: int = 2
    """Strong views; 0 = no unlabelled data is read at all."""
    partner: Literal["other", "same", "flip"] = "other"
    """What CutMix pastes: another image, another view of the same one, or the image at the mirrored place of the rank's
    batch (the middle one of an odd batch is its own partner)."""
    strength: Strength = PUBLISHED
    """Of the strong views."""
    labeled_bands: BandNoise = NO_NOISE
    """How far each band of labelled crops may change by itself."""
    rgb: tuple[int, int, int] | None = (0, 1, 2)
    """The bands that are red, green and blue."""

    @property
    def slots(self) -> tuple[int, ...]:
        """The slots of this rank."""
        return tuple(range(self.rank * self.batch, (self.rank + 1) * self.batch))

    @property
    def total(self) -> int:
        """Slots of all ranks."""
        return self.batch * self.ranks


def item_at(count: int, position: int, *, seed: int, stream: int) -> int:
    """The item at a position of an endless series of shuffled passes over `count` items.

    No two neighbours are equal where there are more than two items.
    """
    return int(_pass(count, position // count, seed, stream)[position % count])


@functools.lru_cache(maxsize=8)
def _pass(count: int, epoch: int, seed: int, stream: int) -> NDArray[np.int64]:
    # not [seed, stream, epoch]: zeros at the end change nothing, so that crops of slot 0 would have the same numbers
    order = np.random.default_rng([seed, ORDER + stream, epoch]).permutation(count)
    if epoch and count > 2:
        before = np.random.default_rng([seed, ORDER + stream, epoch - 1]).permutation(count)[-1]
        if order[0] == before:
            order[[0, 1]] = order[[1, 0]]
    return order


class Loader:
    """Batches from any step on, made ahead of time by threads."""

    def __init__(
        self,
        labeled: Pool,
        unlabeled: Pool | None,
        plan: BatchPlan,
        *,
        threads: int = 2,
        pinned: bool = False,
        whole: Pool | None = None,
        whole_from: int = 0,
    ) -> None:
        """`whole`, where there is one, takes the place of `labeled` from step `whole_from` on."""
        self._labeled = labeled
        self._whole = whole or labeled
        self._whole_from = whole_from
        self._unlabeled = unlabeled if plan.views else None
        self._plan = plan
        self._threads = threads
        self._pinned = pinned

    @property
    def images(self) -> int:
        """Crops that this rank draws for a batch, labelled and unlabelled."""
        return self._plan.batch * (1 if self._unlabeled is None else 2)

    def batches(self, first: int, last: int) -> Generator[DrawnBatch]:
        """The batches of steps `first` … `last - 1`; to be closed by whoever stops before the end."""
        with ThreadPoolExecutor(self._threads, "crops") as pool:
            waiting: deque[Future[DrawnBatch]] = deque()
            try:
                for step in range(first, last):
                    waiting.append(pool.submit(self.batch, step))
                    if len(waiting) > self._threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
                everyone = Barrier(self._threads)  # so that each thread takes one of these
                wait([pool.submit(self._release, everyone) for _ in range(self._threads)])

    def release(self) -> None:
        """Close the files that this thread has opened."""
        self._labeled.release()
        self._whole.release()
        if self._unlabeled is not None:
            self._unlabeled.release()

    def _release(self, everyone: Barrier) -> None:
        everyone.wait()
        self.release()

    def batch(self, step: int) -> DrawnBatch:
        """The batch of one step."""
        plan = self._plan
        pool = self._whole if step >= self._whole_from else self._labeled
        labeled = [self._crop(pool, LABELED, step, slot) for slot in plan.slots]
        crops, partner = self._unlabeled_crops(step)
        views = range(plan.views if crops else 0)
        bands = labeled[0][0].image.shape[0]
        drawn = DrawnBatch(
            step=step,
            slots=plan.slots,
            images=self._stacked([crop.image for crop, _ in labeled]),
            labels=torch.stack([crop.labels for crop, _ in labeled]),
            seen=torch.stack([crop.valid for crop, _ in labeled]),
            weak=self._stacked([crop.image for crop, _ in crops], like=labeled[0][0].image),
            valid=_stacked([crop.valid for crop, _ in crops], like=labeled[0][0].valid),
            strong=tuple(tuple(StrongParams.draw(rng, plan.strength, bands) for _, rng in crops) for _ in views),
            boxes=tuple(tuple(_box(plan, step, slot, view) for slot in plan.slots) for view in views),
            partner=torch.tensor(partner, dtype=torch.long),
            weights=_weights([crop for crop, _ in labeled]),
            changes=_changes(plan, bands, [rng for _, rng in labeled]),
            rgb=plan.rgb,
        )
        return drawn.pinned() if self._pinned else drawn

    def _stacked(self, images: Sequence[Tensor], like: Tensor | None = None) -> Tensor:
        """Crops (n, bands, S, S), as uint8 where the images are."""
        if not self._labeled.is_uint8:
            return _stacked(images, like)
        # crop by crop, while it is in the processor's cache
        return _stacked([compact(image) for image in images], None if like is None else compact(like))

    def _unlabeled_crops(self, step: int) -> tuple[list[tuple[Crop, np.random.Generator]], list[int]]:
        """The unlabelled crops of a step with their generators, the extra ones behind, and each slot's partner."""
        if self._unlabeled is None:
            return [], []
        plan = self._plan
        crops = [self._crop(self._unlabeled, UNLABELED, step, slot) for slot in plan.slots]
        if plan.partner == "same":
            crops += [self._crop(self._unlabeled, PARTNER, step, slot) for slot in plan.slots]
            return crops, [plan.batch + place for place in range(plan.batch)]
        if plan.partner == "flip":
            return crops, list(reversed(range(plan.batch)))
        places = {slot: place for place, slot in enumerate(plan.slots)}
        for slot in plan.slots:
            if slot ^ 1 not in places:
                places[slot ^ 1] = len(crops)
                crops.append(self._crop(self._unlabeled, UNLABELED, step, slot ^ 1))
        return crops, [places[slot ^ 1] for slot in plan.slots]

    def _crop(self, pool: Pool, stream: int, step: int, slot: int) -> tuple[Crop, np.random.Generator]:
        """A crop, and the generator that drew it, good for its strong views."""
        seed = self._plan.seed
        rng = np.random.default_rng([seed, stream, step, slot])
        series = UNLABELED if stream == PARTNER else stream
        index = item_at(len(pool), step * self._plan.total + slot, seed=seed, stream=series)
        return pool.draw(index, rng), rng


def _weights(crops: Sequence[Crop]) -> Tensor | None:
    """The weights of the labels of some crops of one pool: all of them have some, or none has."""
    known = [crop.weights for crop in crops if crop.weights is not None]
    return torch.stack(known) if known else None


def _stacked(tensors: Sequence[Tensor], like: Tensor | None = None) -> Tensor:
    """Tensors of one shape as one; where there are none, (0, …) of the shape and type of `like`."""
    if tensors or like is None:
        return torch.stack(list(tensors))
    return like.new_empty((0, *like.shape))


def _changes(plan: BatchPlan, bands: int, rngs: Sequence[np.random.Generator]) -> tuple[BandChange, ...]:
    """How the bands of the labelled crops change; empty where the plan wants no change."""
    if plan.labeled_bands == NO_NOISE:
        return ()
    return tuple(BandChange.draw(rng, bands, plan.labeled_bands) for rng in rngs)


def _box(plan: BatchPlan, step: int, slot: int, view: int) -> Box:
    return cutmix_box(plan.crop, np.random.default_rng([plan.seed, BOXES + view, step, slot]))
