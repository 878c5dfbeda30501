"""Loss terms → the loss of a step: its totals and counts summed over ranks and micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from co2s_cli.data.batch import Batch
from co2s_cli.training.losses import Term
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.step import StudentStep


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


@dataclass(frozen=True, slots=True)
class StudentLoss:
    """The loss terms of one student for one micro-batch."""

    student: str
    weights: dict[str, float]
    """Weight of each term in the loss, by its name."""
    values: Tensor
    """(terms,) unweighted, on the device. In a step of one micro-batch over all ranks; else the addend of this one."""


def step_values(losses: Sequence[StudentLoss], summed: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """Values of a step over all its micro-batches: each term as "student/term", and "loss", their weighted sum.

    `summed` adds up over the ranks, where that has not been done yet. The only place of a step that waits for the
    device.
    """
    sums_by_student: dict[str, Tensor] = {}
    for loss in losses:
        previous = sums_by_student.get(loss.student)
        sums_by_student[loss.student] = loss.values if previous is None else previous + loss.values
    numbers = iter(summed(torch.cat(list(sums_by_student.values()))).tolist())
    values = {"loss": 0.0}
    for loss in losses[: len(sums_by_student)]:
        terms = {name: next(numbers) for name in loss.weights}
        values["loss"] += sum(weight * terms[name] for name, weight in loss.weights.items())
        values |= {f"{loss.student}/{name}": value for name, value in terms.items()}
    return values
