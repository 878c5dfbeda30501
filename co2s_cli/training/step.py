"""One training step of the students: the forward pass of one student at a time → its loss terms.

A method (`training/methods`) declares the views it needs as `RequiredViews` and computes loss terms from the students'
outputs (`training/views`); `training/step_loss` makes the loss of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from co2s_cli.data.batch import Batch
from co2s_cli.models.student import Student
from co2s_cli.training.losses import Term
from co2s_cli.training.views import (
    DROPOUT_STREAM,
    FEATURE_DROP_RATE,
    FEATURE_STREAM,
    Guide,
    RequiredViews,
    StudentForward,
    StudentOutputs,
    channel_masks,
    forward_views,
)


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
