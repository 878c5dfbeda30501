"""One training step: views of a batch → forward pass of one student at a time → its loss terms → their weighted sum.

A method (`training/methods`) declares the views it needs as `RequiredViews` and computes loss terms from the students'
outputs; this module does the rest of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from co2s_cli.data.batch import Batch
from co2s_cli.models.student import Student
from co2s_cli.training.losses import Term
from co2s_cli.training.runtime import Runtime

FEATURE_STREAM, DROPOUT_STREAM = 9, 10
"""Stream numbers that seed the channel masks; the loader uses lower numbers."""

FEATURE_DROP_RATE = 0.5
"""Share of the channels that the feature perturbation drops, as published."""

Guide = Callable[[Tensor], Tensor]
"""The model that makes the pseudo-labels: images (B, C, S, S) → class probabilities (B, N, S, S), without gradient."""


@dataclass(frozen=True, slots=True)
class RequiredViews:
    """The views of a batch that a method needs a student's outputs for, in addition to the labelled crops."""

    strong: int = 0
    """Number of strong views of the unlabelled crops."""
    feature: bool = False
    """Whether the weak view is also decoded with dropped feature channels (the feature view)."""
    weak: bool = False
    """Whether the student's weak-view logits need a gradient, even where a guide makes the pseudo-labels."""
    peers: bool = False
    """Whether the other students' probabilities of the weak view are needed."""
    labeled_guide: bool = False
    """Whether the guide's probabilities of the labelled crops are needed."""
    tokens: bool = False
    """Whether the student's tokens are needed, translated into the feature space of each frozen teacher."""

    @property
    def unlabeled(self) -> bool:
        """Whether any view of the unlabelled crops is needed."""
        return self.strong > 0 or self.feature


@dataclass(frozen=True, slots=True)
class StudentOutputs:
    """Logits (·, N, S, S) of one student for the views of one batch, and the probabilities that its targets come from.

    b is the number of labelled crops of the batch, and of unlabelled ones; extra unlabelled crops only serve as CutMix
    partners.
    """

    labeled: Tensor
    """(b, N, S, S) for the labelled crops."""
    weak: Tensor
    """(b, N, S, S) for the weak view of the b unlabelled crops; (0, N, S, S) where the method needs nothing but their
    pseudo-labels and a guide makes those, or where they have no weight yet."""
    strong: tuple[Tensor, ...]
    """(b, N, S, S) for each strong view."""
    feature: Tensor | None
    """(b, N, S, S) for the weak view with dropped feature channels."""
    guide: Tensor
    """Probabilities (b + extra, N, S, S) of all weak crops, without gradient: the source of the pseudo-labels."""
    labeled_guide: Tensor | None = None
    """Probabilities (b, N, S, S) that the guide gives the labelled crops."""
    teacher_images: Tensor | None = None
    """Images (B, C, S, S) that the frozen teachers see too: the labelled crops, then each strong view after CutMix."""
    tokens: Mapping[str, Tensor] = field(default_factory=dict)
    """By teacher name: the student's tokens of `teacher_images`, translated into that teacher's feature space."""


class Method(Protocol):
    """A training method: computes a student's loss terms from its outputs."""

    @property
    def required(self) -> RequiredViews:
        """The views it needs over the whole run."""

    @property
    def classes(self) -> int:
        """Number of classes."""

    def required_at(self, step: int) -> RequiredViews:
        """The views it needs in one step: fewer than `required` while the weight of some terms is still 0."""

    def counts_need_weak_view(self, step: int) -> bool:
        """Whether the counts of its terms depend on the students' predictions for the weak view."""

    def terms(self, outputs: StudentOutputs, batch: Batch, peers: Mapping[str, Tensor], step: int) -> dict[str, Term]:
        """Terms of a student's loss in step `step`, by name.

        `peers`: the other students' probabilities (b, N, S, S) of the weak view, by student, without gradient.
        """


class StudentStep(nn.Module):
    """The module that DDP wraps: a student with its method, which maps a batch to the terms of the student's loss.

    Other students' predictions come in as probabilities without gradient, so that only one student's graph is in memory
    at a time. The `guide` and the method's frozen teachers are not submodules: DDP, the optimiser and the model file
    never see them.
    """

    def __init__(
        self,
        student: Student,
        method: Method,
        *,
        number: int,
        seed: int,
        guide: Guide | None = None,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
        checkpointed: bool = False,
    ) -> None:
        """`number` is the student's index in the run; together with `seed` it decides which channels are dropped."""
        super().__init__()
        self.student = student
        self.required_at = method.required_at
        self.counts_need_weak_view = method.counts_need_weak_view
        self._method = method
        self._guide = guide
        self._number = number
        self._seed = seed
        self._dtype = dtype
        self._forward = StudentForward(student, compiled=compiled, checkpointed=checkpointed)

    def forward(self, batch: Batch, step: int, peers: Mapping[str, Tensor]) -> tuple[dict[str, Term], Tensor]:
        """The student's loss terms for `batch` in step `step` of the run, and its probabilities of the weak view.

        `peers` (by student) and the second result are probabilities (b, N, S, S) of the b unlabelled crops, without
        gradient.
        """
        required = self.required_at(step)
        feature_masks = self._masks(batch, FEATURE_STREAM, FEATURE_DROP_RATE) if required.feature else None
        dropout_masks = None
        if self.student.dropout:  # a function of seed, step and slot, so that a resumed run drops the same channels
            dropped_views = range(1 + required.strong)
            dropout_masks = [self._masks(batch, DROPOUT_STREAM + view, self.student.dropout) for view in dropped_views]
        with self._autocast(batch.images):
            outputs = forward_views(
                self._forward, batch, required,
                feature_masks=feature_masks, dropout_masks=dropout_masks, guide=self._guide,
            )  # fmt: skip
            terms = self._method.terms(outputs, batch, peers, step)
        return terms, outputs.weak.detach().float().softmax(dim=1)

    def _masks(self, batch: Batch, stream: int, drop_rate: float) -> list[Tensor]:
        """A channel mask (b, channels) for each feature map of the student."""
        return channel_masks(
            self.student.widths, batch.slots, seed=self._seed, step=batch.step, student=self._number,
            device=batch.images.device, stream=stream, drop_rate=drop_rate,
        )  # fmt: skip

    @torch.no_grad()
    def predict_weak(self, batch: Batch) -> Tensor:
        """The student's probabilities (b, N, S, S) of the weak view, by a separate forward pass without gradient."""
        weak = batch.weak[: len(batch.images)]
        with self._autocast(weak):
            return self._forward.probabilities(weak)

    def count_terms(self, batch: Batch, step: int, predictions: Mapping[str, Tensor], name: str) -> dict[str, Term]:
        """The terms of `forward` without a forward pass of the student: only their counts and weights are correct.

        `predictions`: all students' probabilities (b, N, S, S) of the weak view, by name; empty where no count depends
        on them. `name` is this student's. Token losses are left out: their count is the same for every crop.
        """
        required, batch_size = self.required_at(step), len(batch.images)
        zero = torch.zeros(1, 1, 1, 1, device=batch.images.device)
        blank = zero.expand(batch_size, self._method.classes, *batch.images.shape[-2:])
        has_weak_logits = required.unlabeled and (required.weak or self._guide is None or required.feature)
        weak = predictions.get(name, blank)
        guide = self._guide(batch.weak[:batch_size]) if self._guide is not None and predictions else weak
        outputs = StudentOutputs(
            labeled=blank,
            weak=weak.clamp_min(1e-12).log() if has_weak_logits else blank[:0],
            strong=(blank,) * required.strong,
            feature=blank if required.feature else None,
            guide=torch.cat([guide, zero.expand(len(batch.weak) - batch_size, *blank.shape[1:])])
            if len(batch.weak)
            else weak,
            labeled_guide=blank if required.labeled_guide else None,
        )
        peers = {peer: probabilities for peer, probabilities in predictions.items() if peer != name}
        return self._method.terms(outputs, batch, peers, step)

    def _autocast(self, images: Tensor) -> torch.autocast:
        return torch.autocast(images.device.type, dtype=self._dtype, enabled=self._dtype != torch.float32)


def run_students(
    steps: Mapping[str, StudentStep], batch: Batch, step: int, *, called: Mapping[str, nn.Module] | None = None
) -> Iterator[tuple[str, dict[str, Term]]]:
    """Name and loss terms of one student after the other.

    The caller runs a student's backward pass before it asks for the next student, so that only one graph is in memory.
    Where students learn from one another, all but the first predict the weak view beforehand, by a forward pass without
    gradient: the first student's loss needs it. `called`: the modules to call instead of `steps`, their DDP wrappers.
    """
    _, *later = steps.items()
    predictions = {name: student.predict_weak(batch) for name, student in later if student.required_at(step).peers}
    for name, module in (called or steps).items():
        # in the order of `loss_denominators`, by which `StepSums` matches its calls
        peers = {peer: predictions[peer] for peer in steps if peer in predictions and peer != name}
        terms, predictions[name] = module(batch, step, peers)
        yield name, terms


def total_loss(terms: dict[str, Term], runtime: Runtime, *, shared: bool) -> tuple[Tensor, Tensor]:
    """The loss to differentiate on this rank, and the unweighted value (terms,) of each term over all ranks.

    With `shared` counts a term is the sum of all ranks' totals over the sum of their counts. DDP averages gradients
    over the ranks, so the loss of each rank is multiplied by their number. Otherwise each rank divides by its own
    counts, and the values are means over the ranks.
    """
    totals = torch.stack([term.total for term in terms.values()])
    counts = torch.stack([term.count for term in terms.values()])
    weight = torch.tensor([term.weight for term in terms.values()]).to(totals.device, non_blocking=True)
    if not shared:
        values = totals / counts.clamp_min(1e-12)
        return (weight * values).sum(), runtime.summed(values.detach()) / runtime.ranks
    all_totals, all_counts = runtime.summed(torch.stack([totals.detach(), counts]))
    counts = all_counts.clamp_min(1e-12)
    values = totals * runtime.ranks / counts
    return (weight * values).sum(), all_totals / counts


class StepSums:
    """Sums tensors over all ranks and micro-batches of a step, for a method that needs such sums to compute its terms.

    A step of one micro-batch sums over the ranks at each call. For several micro-batches `loss_denominators` runs all
    of them once to collect their addends; in the actual step each call then returns the complete sum. Calls are matched
    by their order within a micro-batch.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._sums: list[Tensor] = []
        self._calls = 0
        self.mode: Literal["immediate", "collecting", "complete"] = "immediate"

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self._runtime.device

    def begin_micro_batch(self) -> None:
        """Start counting calls anew: the next call is the first of a micro-batch."""
        self._calls = 0

    def __call__(self, values: Tensor) -> Tensor:
        """The sum of `values` over ranks and micro-batches; while collecting, `values` themselves."""
        if self.mode == "immediate":
            return self._runtime.summed(values)
        self._calls += 1
        if self.mode == "complete":
            return self._sums[self._calls - 1]
        if self._calls > len(self._sums):
            self._sums.append(values)
        else:
            self._sums[self._calls - 1] = self._sums[self._calls - 1] + values
        return values

    def start_collecting(self) -> None:
        """Forget the sums of the previous step; calls from now on add to those of a new step."""
        self._sums, self.mode = [], "collecting"

    def complete(self) -> bool:
        """Sum what was collected over the ranks, for later calls to return; False where nothing was collected."""
        self._sums = [self._runtime.summed(values) for values in self._sums]
        self.mode = "complete"
        return bool(self._sums)


@torch.no_grad()
def loss_denominators(
    steps: Mapping[str, StudentStep],
    micro_batches: Callable[[], Iterator[Batch]],
    step: int,
    sums: StepSums,
    runtime: Runtime,
) -> dict[str, dict[str, Tensor]]:
    """The count of each loss term, by student and term, over all ranks and micro-batches; run before any backward pass.

    `micro_batches` yields those of this rank anew at each call. This costs a forward pass of the weak view where a
    count depends on predictions, and two where thresholds depend on them as well.
    """
    sums.start_collecting()
    counts = _local_counts(steps, micro_batches, step, sums)
    if sums.complete():
        counts = _local_counts(steps, micro_batches, step, sums)
    summed = runtime.summed(torch.stack([count for terms in counts.values() for count in terms.values()]))
    remaining = iter(summed.unbind())
    return {name: {part: next(remaining) for part in terms} for name, terms in counts.items()}


def _local_counts(
    steps: Mapping[str, StudentStep], micro_batches: Callable[[], Iterator[Batch]], step: int, sums: StepSums
) -> dict[str, dict[str, Tensor]]:
    """The count of each loss term, by student and term, over the micro-batches of this rank."""
    counts: dict[str, dict[str, Tensor]] = {name: {} for name in steps}
    predicts = any(student.counts_need_weak_view(step) for student in steps.values())
    for batch in micro_batches():
        sums.begin_micro_batch()
        predictions = {name: student.predict_weak(batch) for name, student in steps.items()} if predicts else {}
        for name, student in steps.items():
            for part, term in student.count_terms(batch, step, predictions, name).items():
                counts[name][part] = counts[name].get(part, 0) + term.count
    return counts


def micro_batch_loss(
    terms: dict[str, Term], denominators: Mapping[str, Tensor] | int, runtime: Runtime, *, portion: float
) -> tuple[Tensor, Tensor]:
    """As `total_loss`, for one of several micro-batches; the values add up over all micro-batches and ranks of a step.

    `denominators`: the counts of the whole step by term; or the number of shares of the step, where each micro-batch is
    such a share and is divided by its own counts. A term without a denominator has the same count for every crop;
    `portion` is the fraction of the step's crops that is in this micro-batch.
    """
    totals = torch.stack([term.total for term in terms.values()])
    if isinstance(denominators, int):
        counts = torch.stack([term.count.clamp_min(1e-12) * denominators for term in terms.values()])
    else:
        step_counts = [denominators.get(part, term.count / portion) for part, term in terms.items()]
        counts = torch.stack(step_counts).clamp_min(1e-12)
    weight = torch.tensor([term.weight for term in terms.values()]).to(totals.device, non_blocking=True)
    values = totals / counts
    return (weight * values).sum() * runtime.ranks, values.detach()


class StudentForward:
    """The forward pass of a student: its encoder and decoder, optionally compiled or with activation checkpointing."""

    def __init__(self, student: Student, *, compiled: bool = False, checkpointed: bool = False) -> None:
        self._encode: Callable[[Tensor], Any] = torch.compile(student.encode) if compiled else student.encode
        self._decode: Callable[[Any, Sequence[int]], Tensor] = (
            torch.compile(student.decode) if compiled else student.decode
        )
        self.translated = student.translated
        self._checkpointed = checkpointed

    def encode(self, images: Tensor) -> Any:
        """Taps (the feature maps that the decoder takes) of images (B, C, S, S)."""
        if self._checkpointed and torch.is_grad_enabled():
            return checkpoint(self._encode, images, use_reentrant=False)
        return self._encode(images)

    def decode(self, taps: Any, size: Sequence[int]) -> Tensor:
        """Logits (B, N, *size) from the taps of B images."""
        if self._checkpointed and torch.is_grad_enabled():
            logits: Tensor = checkpoint(self._decode, taps, size, use_reentrant=False)
            return logits
        return self._decode(taps, size)

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities (B, N, S, S) of images (B, C, S, S), without gradient."""
        return self.decode(self.encode(images), images.shape[-2:]).float().softmax(dim=1)


def forward_views(
    student: StudentForward,
    batch: Batch,
    required: RequiredViews,
    *,
    feature_masks: Sequence[Tensor] | None = None,
    dropout_masks: Sequence[Sequence[Tensor]] | None = None,
    guide: Guide | None = None,
) -> StudentOutputs:
    """A student's outputs for all views of a batch, by one pass through its encoder and one through its decoder.

    `feature_masks`: a channel mask (b, channels) for each feature map, which make the feature view. `dropout_masks`:
    such masks for the labelled crops, then for each strong view; the weak view never drops channels. Without a `guide`
    the logits of the weak view serve both pseudo-labels and losses, so that they are computed once; with one the
    student encodes that view only if the method needs it. CutMix partners are weak crops of the same batch; only the
    extra ones cost a forward pass in addition.
    """
    batch_size, size = len(batch.images), batch.images.shape[-2:]
    uses_weak = required.strong > 0 or feature_masks is not None
    encodes_weak = uses_weak and (required.weak or guide is None or feature_masks is not None)
    weak = batch.weak[:batch_size] if encodes_weak else batch.weak[:0]
    strong_images = [cutmix_view(batch, view) for view in range(required.strong)]
    taps = student.encode(torch.cat([batch.images, weak, *strong_images]))
    tokens = student.translated(_without_rows(taps, batch_size, batch_size + len(weak))) if required.tokens else {}
    if dropout_masks is not None:
        labeled_masks, *strong_masks = dropout_masks
        weak_masks = [torch.ones(len(weak), mask.shape[1], device=mask.device) for mask in labeled_masks]
        map_masks = (torch.cat(parts) for parts in zip(labeled_masks, weak_masks, *strong_masks, strict=True))
        taps = type(taps)(*(_masked(tap, mask) for tap, mask in zip(taps, map_masks, strict=True)))
    if feature_masks is not None:
        weak_taps = (tap[batch_size : 2 * batch_size] for tap in taps)
        feature_taps = (_masked(tap, mask) for tap, mask in zip(weak_taps, feature_masks, strict=True))
        taps = type(taps)(*(torch.cat(pair) for pair in zip(taps, feature_taps, strict=True)))
    logits = student.decode(taps, size)
    view_count = required.strong + (feature_masks is not None)
    labeled, weak_logits, *view_logits = torch.split(logits, [batch_size, len(weak), *[batch_size] * view_count])
    return StudentOutputs(
        labeled=labeled,
        weak=weak_logits,
        strong=tuple(view_logits[: required.strong]),
        feature=view_logits[required.strong] if feature_masks is not None else None,
        guide=_weak_probabilities(student, batch, weak_logits, guide) if uses_weak else weak_logits.detach(),
        labeled_guide=guide(batch.images) if required.labeled_guide and guide is not None else None,
        teacher_images=torch.cat([batch.images, *strong_images]) if required.tokens else None,
        tokens=tokens,
    )


def _masked(tap: Tensor, mask: Tensor) -> Tensor:
    """A feature map (b, channels, h, w) times a channel mask (b, channels)."""
    return tap * mask[..., None, None].to(tap.dtype)


def _weak_probabilities(student: StudentForward, batch: Batch, weak_logits: Tensor, guide: Guide | None) -> Tensor:
    """Probabilities (b + extra, N, S, S) of all weak crops, without gradient: the guide's, else the student's."""
    if guide is not None:
        return guide(batch.weak)
    weak, extra = weak_logits.detach().float().softmax(dim=1), batch.weak[len(weak_logits) :]
    return torch.cat([weak, student.probabilities(extra)]) if len(extra) else weak


def _without_rows(taps: Any, start: int, stop: int) -> Any:
    """Taps without those of the images `start` … `stop - 1` of the batch."""
    return taps if start == stop else type(taps)(*(torch.cat([tap[:start], tap[stop:]]) for tap in taps))


def cutmix_view(batch: Batch, view: int) -> Tensor:
    """Images (b, C, S, S): strong view `view` of the unlabelled crops, with their partners' pixels in the boxes."""
    strong = batch.strong[view]
    return torch.where(batch.boxes[view][:, None], strong[batch.partner], strong[: len(batch.images)])


def channel_masks(
    widths: Sequence[int],
    slots: Sequence[int],
    *,
    seed: int,
    step: int,
    student: int,
    device: torch.device,
    stream: int = FEATURE_STREAM,
    drop_rate: float = FEATURE_DROP_RATE,
) -> list[Tensor]:
    """Masks (b, channels), float32, one for each map: 0 where a crop's channel is dropped, else 1 / (1 - drop_rate).

    `widths` are the channels of each map, `slots` the global slots of the b crops.
    """
    masks_by_slot = []
    for slot in slots:
        rng = np.random.default_rng([seed, stream, step, slot, student])
        masks_by_slot.append([(rng.random(width) >= drop_rate) / (1 - drop_rate) for width in widths])
    return [
        torch.from_numpy(np.stack(masks).astype(np.float32)).to(device, non_blocking=True)
        for masks in zip(*masks_by_slot, strict=True)
    ]
