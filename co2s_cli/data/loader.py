"""Loader of training batches. All random numbers of a crop depend only on (seed, batch number, slot).

A slot is a position in the batch of all ranks. A rank computes its part of a step in passes, each of which holds some
slots of one batch; a step therefore has the same crops for any number of ranks and passes.
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
from co2s_cli.data.paste import irregular_mask, pasted, shows_borders
from co2s_cli.data.samples import Crop, Pool
from co2s_cli.data.strong import NO_NOISE, PUBLISHED, BandChange, BandNoise, Strength, StrongParams
from co2s_cli.errors import ConfigError

LABELED, UNLABELED, PARTNER = 0, 1, 2
"""Streams of random numbers for crops; `PARTNER` draws a second view of an unlabelled image."""

BOXES, PASTED, ORDER = 3, 100, 1000
"""Streams of random numbers: `BOXES` + number of the strong view for CutMix boxes; `PASTED` for what is pasted into
labelled crops; `ORDER` + a stream of crops for the order in which its items are drawn."""


@dataclass(frozen=True, slots=True)
class Pass:
    """The slots that go through the networks in one forward and backward pass."""

    batch: int
    """Number of the batch within the step."""
    slots: range


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How batches are composed, and how their slots are dealt out to ranks."""

    seed: int
    batch: int
    """Labelled crops in a batch of all ranks; it has as many unlabelled crops."""
    crop: int
    """Side of the crops in pixels."""
    rank: int = 0
    ranks: int = 1
    accumulate: int = 1
    """Batches per step."""
    share: int = 0
    """Largest number of slots in a pass: those of one rank when the run was started. 0: those of one rank now."""
    apart: bool = False
    """Whether losses are averaged over each share of slots by itself, so that a share must not be divided."""
    views: int = 2
    """Number of strong views; 0: no unlabelled data is read."""
    partner: Literal["other", "same", "flip"] = "other"
    """What CutMix pastes: another image, another view of the same image, or the image at the mirrored position in the
    share (the middle one of an odd share is its own partner)."""
    strength: Strength = PUBLISHED
    """Limits of the changes in strong views."""
    labeled_bands: BandNoise = NO_NOISE
    """Limits of the change of each band in labelled crops."""
    labeled_paste: float = 0.0
    """Probability that parts of another labelled crop are pasted into a labelled one that shows few borders."""
    rgb: tuple[int, int, int] | None = (0, 1, 2)
    """Indices of the red, green and blue bands; None if one of them is missing."""

    @property
    def shares(self) -> list[Pass]:
        """All slots of a step, divided into shares of `share` slots."""
        most = self.share or -(-self.batch // self.ranks)
        return [
            Pass(number, range(first, min(first + most, self.batch)))
            for number in range(self.accumulate)
            for first in range(0, self.batch, most)
        ]

    def passes(self, rank: int) -> list[Pass]:
        """The passes of one rank in a step. Each slot belongs to one rank, and each rank has at least one slot.

        Raises:
            ConfigError: there are more ranks than slots (or shares, if these must not be divided).
        """
        shares = self.shares
        parts = len(shares) if self.apart else self.batch * self.accumulate
        if parts < self.ranks:
            what = "parts with losses of their own" if self.apart else "labelled crops"
            raise ConfigError(
                f"a step has {parts} {what}, too few for {self.ranks} processes",
                hint=f"start at most {parts} processes, or a new run with a larger --batch (that of all processes)",
            )
        first, last = parts * rank // self.ranks, parts * (rank + 1) // self.ranks
        if self.apart:
            return shares[first:last]
        passes, most = [], len(shares[0].slots)
        while first < last:
            number, slot = divmod(first, self.batch)
            slots = range(slot, min(slot + most, self.batch, slot + last - first))
            passes.append(Pass(number, slots))
            first += len(slots)
        return passes

    def mirrored(self, slot: int) -> int:
        """The slot at the mirrored position in its share."""
        share = next(share.slots for share in self.shares if slot in share.slots)
        return share[0] + share[-1] - slot


def item_at(count: int, position: int, *, seed: int, stream: int) -> int:
    """Index of the item at a position in an endless series of epochs, each of which shuffles `count` items anew.

    With more than two items, no item follows itself.
    """
    return int(_epoch_order(count, position // count, seed, stream)[position % count])


@functools.lru_cache(maxsize=8)
def _epoch_order(count: int, epoch: int, seed: int, stream: int) -> NDArray[np.int64]:
    """Order of the items in one epoch; the first item differs from the last one of the epoch before."""
    # not [seed, stream, epoch]: NumPy ignores zeros at the end of a seed, so this would be the seed of a crop in slot 0
    order = np.random.default_rng([seed, ORDER + stream, epoch]).permutation(count)
    if epoch and count > 2:
        previous = np.random.default_rng([seed, ORDER + stream, epoch - 1]).permutation(count)[-1]
        if order[0] == previous:
            order[[0, 1]] = order[[1, 0]]
    return order


class Loader:
    """The batches of this rank, prepared in advance by threads; they can start at any step."""

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
        """From step `whole_from` on, labelled crops are drawn from `whole`, if it is given, instead of `labeled`.

        Raises:
            ConfigError: there are more ranks than slots in a step.
        """
        self._labeled = labeled
        self._whole = whole or labeled
        self._whole_from = whole_from
        self._unlabeled = unlabeled if plan.views else None
        self._plan = plan
        self._passes = plan.passes(plan.rank)
        self.passes = len(self._passes)
        """Number of passes of this rank in a step."""
        self.one_pass = all(len(plan.passes(rank)) == 1 for rank in range(plan.ranks))
        """Whether every rank has a single pass in a step."""
        self._threads = threads
        self._pinned = pinned

    @property
    def crops(self) -> int:
        """Labelled crops that all ranks together draw for a step."""
        return self._plan.batch * self._plan.accumulate

    @property
    def images(self) -> int:
        """Labelled and unlabelled crops that all ranks together draw for a step."""
        return self.crops * (1 if self._unlabeled is None else 2)

    @property
    def shares(self) -> int:
        """Number of shares in a step: of parts with losses of their own, if the plan has such parts."""
        return len(self._plan.shares)

    def batches(self, first: int, last: int) -> Generator[DrawnBatch]:
        """The batches, one per pass, of steps `first` … `last - 1`. Close the generator if it is not used up."""
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
                barrier = Barrier(self._threads)  # each thread must take exactly one of these tasks
                wait([pool.submit(self._release_at, barrier) for _ in range(self._threads)])

    def release(self) -> None:
        """Close the files that this thread has opened."""
        self._labeled.release()
        self._whole.release()
        if self._unlabeled is not None:
            self._unlabeled.release()

    def _release_at(self, barrier: Barrier) -> None:
        barrier.wait()
        self.release()

    def batch(self, number: int) -> DrawnBatch:
        """The batch of this rank's pass number `number`, counted over all steps."""
        plan = self._plan
        step, current = number // self.passes, self._passes[number % self.passes]
        pool = self._whole if step >= self._whole_from else self._labeled
        step, slots = step * plan.accumulate + current.batch, current.slots  # from here on, `step` counts batches
        labeled = [self._labeled_crop(pool, step, slot) for slot in slots]
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
        """Crops (n, bands, S, S), as uint8 if the images are uint8."""
        if not self._labeled.is_uint8:
            return _stacked(images, like)
        # convert crop by crop, while each is in the processor's cache
        return _stacked([compact(image) for image in images], None if like is None else compact(like))

    def _unlabeled_crops(self, step: int, slots: range) -> tuple[list[tuple[Crop, np.random.Generator]], list[int]]:
        """Unlabelled crops of a pass, each with its generator, and for each slot the index of its CutMix partner.

        Crops that only serve as partners come after those of the slots.
        """
        if self._unlabeled is None:
            return [], []
        plan = self._plan
        crops = [self._crop(self._unlabeled, UNLABELED, step, slot) for slot in slots]
        if plan.partner == "same":
            crops += [self._crop(self._unlabeled, PARTNER, step, slot) for slot in slots]
            return crops, [len(slots) + index for index in range(len(slots))]
        partners = [plan.mirrored(slot) if plan.partner == "flip" else slot ^ 1 for slot in slots]
        crop_of_slot = {slot: index for index, slot in enumerate(slots)}
        for partner in partners:
            if partner not in crop_of_slot:
                crop_of_slot[partner] = len(crops)
                crops.append(self._crop(self._unlabeled, UNLABELED, step, partner))
        return crops, [crop_of_slot[partner] for partner in partners]

    def _labeled_crop(self, pool: Pool, step: int, slot: int) -> tuple[Crop, np.random.Generator]:
        """A labelled crop, perhaps with parts of another one, and the generator that draws the change of its bands."""
        crop, rng = self._crop(pool, LABELED, step, slot)
        paste_rng = np.random.default_rng([self._plan.seed, PASTED, step, slot])
        if paste_rng.random() < self._plan.labeled_paste and not shows_borders(crop):
            other = pool.draw(self._item(pool, PASTED, step, slot), paste_rng)
            crop = pasted(crop, other, irregular_mask(self._plan.crop, paste_rng))
        return crop, rng

    def _crop(self, pool: Pool, stream: int, step: int, slot: int) -> tuple[Crop, np.random.Generator]:
        """A crop, and the generator that has drawn it, from which its strong views are drawn next."""
        rng = np.random.default_rng([self._plan.seed, stream, step, slot])
        return pool.draw(self._item(pool, UNLABELED if stream == PARTNER else stream, step, slot), rng), rng

    def _item(self, pool: Pool, stream: int, step: int, slot: int) -> int:
        """Index of the item that a slot draws in a stream."""
        return item_at(len(pool), step * self._plan.batch + slot, seed=self._plan.seed, stream=stream)


def _weights(crops: Sequence[Crop]) -> Tensor | None:
    """Label weights (n, S, S) of crops of one pool, of which all or none have weights; None in the latter case."""
    weights = [crop.weights for crop in crops if crop.weights is not None]
    return torch.stack(weights) if weights else None


def _stacked(tensors: Sequence[Tensor], like: Tensor | None = None) -> Tensor:
    """The tensors stacked along a new first axis; without any, an empty tensor (0, …) shaped and typed as `like`."""
    if tensors or like is None:
        return torch.stack(list(tensors))
    return like.new_empty((0, *like.shape))


def _changes(plan: BatchPlan, bands: int, rngs: Sequence[np.random.Generator]) -> tuple[BandChange, ...]:
    """Random band changes of the labelled crops; empty if the plan allows none."""
    if plan.labeled_bands == NO_NOISE:
        return ()
    return tuple(BandChange.draw(rng, bands, plan.labeled_bands) for rng in rngs)


def _box(plan: BatchPlan, step: int, slot: int, view: int) -> Box:
    return cutmix_box(plan.crop, np.random.default_rng([plan.seed, BOXES + view, step, slot]))
