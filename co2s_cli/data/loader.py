"""Batches: everything in them is a function of (seed, batch, slot). A slot is a position in the batch of all ranks.

What a rank computes of a step is made in passes, each some slots of one batch. So a step is the same sum of crops
whatever the number of ranks and passes.
"""

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
from co2s_cli.errors import ConfigError

LABELED, UNLABELED, PARTNER = 0, 1, 2
"""Streams of random numbers; `PARTNER` draws the second view of an image."""

BOXES, ORDER = 3, 1000
"""Streams of the CutMix boxes (one more for each strong view) and, plus another stream, of the order of its items."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What goes through the networks at once."""

    batch: int
    """Number of the batch within the step."""
    slots: range


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How batches are put together, and what of them this rank computes."""

    seed: int
    batch: int
    """Crops of each kind in a batch, those of all ranks."""
    crop: int
    rank: int = 0
    ranks: int = 1
    accumulate: int = 1
    """Batches of a step."""
    share: int = 0
    """Slots of a batch that belong together, at most so many of which make a pass: what fell to each rank when the run
    began. 0: what falls to each now."""
    apart: bool = False
    """Whether each share has losses of its own, so that none is cut."""
    views: int = 2
    """Strong views; 0 = no unlabelled data is read at all."""
    partner: Literal["other", "same", "flip"] = "other"
    """What CutMix pastes: another image, another view of the same one, or the image at the mirrored place of the share
    (the middle one of an odd share is its own partner)."""
    strength: Strength = PUBLISHED
    """Of the strong views."""
    labeled_bands: BandNoise = NO_NOISE
    """How far each band of labelled crops may change by itself."""
    rgb: tuple[int, int, int] | None = (0, 1, 2)
    """The bands that are red, green and blue."""

    @property
    def shares(self) -> list[Pass]:
        """All slots of a step, share by share."""
        most = self.share or -(-self.batch // self.ranks)
        return [
            Pass(number, range(first, min(first + most, self.batch)))
            for number in range(self.accumulate)
            for first in range(0, self.batch, most)
        ]

    def passes(self, rank: int) -> list[Pass]:
        """What one rank computes of a step. All ranks together compute each slot once, at least one falls to each.

        Raises:
            ConfigError: there are more ranks than what can be dealt out.
        """
        shares = self.shares
        parts = len(shares) if self.apart else self.batch * self.accumulate
        if parts < self.ranks:
            what = "parts whose losses are their own" if self.apart else "crops of each kind"
            raise ConfigError(
                f"a step has {parts} {what}, and there are {self.ranks} processes",
                hint=f"start at most {parts} processes, or a new run with a larger --batch (that of all processes)",
            )
        first, last = parts * rank // self.ranks, parts * (rank + 1) // self.ranks
        if self.apart:
            return shares[first:last]
        found, most = [], len(shares[0].slots)
        while first < last:
            number, slot = divmod(first, self.batch)
            slots = range(slot, min(slot + most, self.batch, slot + last - first))
            found.append(Pass(number, slots))
            first += len(slots)
        return found

    def mirrored(self, slot: int) -> int:
        """The slot at the mirrored place of its share."""
        share = next(share.slots for share in self.shares if slot in share.slots)
        return share[0] + share[-1] - slot


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
    """The passes of this rank from any step on, made ahead of time by threads."""

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
        """`whole`, where there is one, takes the place of `labeled` from step `whole_from` on.

        Raises:
            ConfigError: there are more ranks than crops in a step.
        """
        self._labeled = labeled
        self._whole = whole or labeled
        self._whole_from = whole_from
        self._unlabeled = unlabeled if plan.views else None
        self._plan = plan
        self._passes = plan.passes(plan.rank)
        self.passes = len(self._passes)
        """Passes of this rank in a step."""
        self.one_pass = all(len(plan.passes(rank)) == 1 for rank in range(plan.ranks))
        """Whether every rank makes its steps in one pass."""
        self._threads = threads
        self._pinned = pinned

    @property
    def crops(self) -> int:
        """Crops of each kind that all ranks draw for a step."""
        return self._plan.batch * self._plan.accumulate

    @property
    def images(self) -> int:
        """Crops that all ranks draw for a step, labelled and unlabelled."""
        return self.crops * (1 if self._unlabeled is None else 2)

    @property
    def shares(self) -> int:
        """Parts of a step whose losses are their own, where they are."""
        return len(self._plan.shares)

    def batches(self, first: int, last: int) -> Generator[DrawnBatch]:
        """The passes of steps `first` … `last - 1`; to be closed by whoever stops before the end."""
        with ThreadPoolExecutor(self._threads, "crops") as pool:
            waiting: deque[Future[DrawnBatch]] = deque()
            try:
                for number in range(first * self.passes, last * self.passes):
                    waiting.append(pool.submit(self.batch, number))
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

    def batch(self, number: int) -> DrawnBatch:
        """The pass of this number, counted over all steps."""
        plan = self._plan
        step, own = number // self.passes, self._passes[number % self.passes]
        pool = self._whole if step >= self._whole_from else self._labeled
        step, slots = step * plan.accumulate + own.batch, own.slots  # batches are counted from here on
        labeled = [self._crop(pool, LABELED, step, slot) for slot in slots]
        crops, partner = self._unlabeled_crops(step, slots)
        views = range(plan.views if crops else 0)
        bands = labeled[0][0].image.shape[0]
        drawn = DrawnBatch(
            step=step,
            slots=tuple(slots),
            images=self._stacked([crop.image for crop, _ in labeled]),
            labels=torch.stack([crop.labels for crop, _ in labeled]),
            seen=torch.stack([crop.valid for crop, _ in labeled]),
            weak=self._stacked([crop.image for crop, _ in crops], like=labeled[0][0].image),
            valid=_stacked([crop.valid for crop, _ in crops], like=labeled[0][0].valid),
            strong=tuple(tuple(StrongParams.draw(rng, plan.strength, bands) for _, rng in crops) for _ in views),
            boxes=tuple(tuple(_box(plan, step, slot, view) for slot in slots) for view in views),
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

    def _unlabeled_crops(self, step: int, slots: range) -> tuple[list[tuple[Crop, np.random.Generator]], list[int]]:
        """The unlabelled crops of a pass with their generators, the extra ones behind, and each slot's partner."""
        if self._unlabeled is None:
            return [], []
        plan = self._plan
        crops = [self._crop(self._unlabeled, UNLABELED, step, slot) for slot in slots]
        if plan.partner == "same":
            crops += [self._crop(self._unlabeled, PARTNER, step, slot) for slot in slots]
            return crops, [len(slots) + place for place in range(len(slots))]
        partners = [plan.mirrored(slot) if plan.partner == "flip" else slot ^ 1 for slot in slots]
        places = {slot: place for place, slot in enumerate(slots)}
        for partner in partners:
            if partner not in places:
                places[partner] = len(crops)
                crops.append(self._crop(self._unlabeled, UNLABELED, step, partner))
        return crops, [places[partner] for partner in partners]

    def _crop(self, pool: Pool, stream: int, step: int, slot: int) -> tuple[Crop, np.random.Generator]:
        """A crop, and the generator that drew it, good for its strong views."""
        seed = self._plan.seed
        rng = np.random.default_rng([seed, stream, step, slot])
        series = UNLABELED if stream == PARTNER else stream
        index = item_at(len(pool), step * self._plan.batch + slot, seed=seed, stream=series)
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
