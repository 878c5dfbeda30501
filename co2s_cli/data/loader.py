"""Batches: everything in them is a function of (seed, step, slot). A slot is a position in the batch of all ranks."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from threading import Barrier
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from co2s_cli.data.augment import PUBLISHED, Strength, Strong, cutmix_box
from co2s_cli.data.samples import Crop, Pool

LABELED, UNLABELED, PARTNER = 0, 1, 2
"""Streams of random numbers; `PARTNER` draws the second view of an image."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a rank sees of one step: b labelled, b unlabelled crops, and those extra ones that partners need."""

    step: int
    slots: tuple[int, ...]
    """The global slots of the crops."""
    images: Tensor
    """(b, bands, S, S)"""
    labels: Tensor
    """(b, S, S)"""
    seen: Tensor
    """(b, S, S), False where `images` are padding or nodata."""
    weak: Tensor
    """(b + extra, bands, S, S): the unlabelled crops, then the extra ones. Without unlabelled data (0, …)."""
    strong: tuple[Tensor, ...]
    """Strong views of `weak`, each of its shape."""
    valid: Tensor
    """(b + extra, S, S)"""
    boxes: tuple[Tensor, ...]
    """For each strong view (b, S, S): where the partner is pasted."""
    partner: Tensor
    """(b,): place in `weak` of each crop's CutMix partner."""
    weights: Tensor | None = None
    """(b, S, S) how much each label counts; None where all count fully."""

    def first(self, size: int) -> Batch:
        """The first crops of each kind, partners among themselves: what a batch of `size` costs."""
        own = slice(0, size)
        return replace(
            self,
            slots=self.slots[own],
            images=self.images[own],
            labels=self.labels[own],
            seen=self.seen[own],
            weak=self.weak[own],
            strong=tuple(view[own] for view in self.strong),
            valid=self.valid[own],
            boxes=tuple(box[own] for box in self.boxes),
            partner=self.partner[own] % size,
            weights=None if self.weights is None else self.weights[own],
        )

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            seen=self.seen.to(device),
            weak=self.weak.to(device),
            strong=tuple(view.to(device) for view in self.strong),
            valid=self.valid.to(device),
            boxes=tuple(box.to(device) for box in self.boxes),
            partner=self.partner.to(device),
            weights=None if self.weights is None else self.weights.to(device),
        )


@dataclass(frozen=True, slots=True)
class Plan:
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
    order = np.random.default_rng([seed, stream, epoch]).permutation(count)
    if epoch and count > 2:
        before = np.random.default_rng([seed, stream, epoch - 1]).permutation(count)[-1]
        if order[0] == before:
            order[[0, 1]] = order[[1, 0]]
    return order


class Loader:
    """Batches from any step on, made ahead of time by threads."""

    def __init__(self, labeled: Pool, unlabeled: Pool | None, plan: Plan, *, threads: int = 2) -> None:
        self._labeled = labeled
        self._unlabeled = unlabeled if plan.views else None
        self._plan = plan
        self._threads = threads

    @property
    def images(self) -> int:
        """Crops that this rank draws for a batch, labelled and unlabelled."""
        return self._plan.batch * (1 if self._unlabeled is None else 2)

    def batches(self, first: int, last: int) -> Generator[Batch]:
        """The batches of steps `first` … `last - 1`; to be closed by whoever stops before the end."""
        with ThreadPoolExecutor(self._threads, "crops") as pool:
            waiting: deque[Future[Batch]] = deque()
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
        if self._unlabeled is not None:
            self._unlabeled.release()

    def _release(self, everyone: Barrier) -> None:
        everyone.wait()
        self.release()

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        plan = self._plan
        labeled = [self._crop(self._labeled, LABELED, step, slot)[0] for slot in plan.slots]
        crops, partner = self._unlabeled_crops(step)
        views = [[_strong(crop, rng, plan.strength) for crop, rng in crops] for _ in range(plan.views if crops else 0)]
        boxes = [[_box(plan, step, slot, view) for slot in plan.slots] for view in range(len(views))]
        shape = (0, *labeled[0].image.shape)
        return Batch(
            step=step,
            slots=plan.slots,
            images=torch.stack([crop.image for crop in labeled]),
            labels=torch.stack([crop.labels for crop in labeled]),
            seen=torch.stack([crop.valid for crop in labeled]),
            weak=torch.stack([crop.image for crop, _ in crops]) if crops else torch.empty(shape),
            strong=tuple(torch.stack(view) for view in views),
            valid=torch.stack([crop.valid for crop, _ in crops]) if crops else torch.empty((0, *shape[2:])).bool(),
            boxes=tuple(torch.stack(view) for view in boxes),
            partner=torch.tensor(partner, dtype=torch.long),
            weights=_weights(labeled),
        )

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


def _strong(crop: Crop, rng: np.random.Generator, strength: Strength) -> Tensor:
    return Strong.draw(rng, strength).apply(crop.image)


def _box(plan: Plan, step: int, slot: int, view: int) -> Tensor:
    return torch.from_numpy(cutmix_box(plan.crop, np.random.default_rng([plan.seed, 3 + view, step, slot])))
