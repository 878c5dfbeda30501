"""The gradients of a step: micro-batches → losses → backward passes, one student after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from co2s_cli.data.batch import DrawnBatch
from co2s_cli.data.loader import Loader
from co2s_cli.errors import ResourceError
from co2s_cli.training.runtime import Runtime, without_sync
from co2s_cli.training.step import StudentStep, run_students
from co2s_cli.training.step_loss import (
    StepSums,
    StudentLoss,
    loss_denominators,
    micro_batch_loss,
    step_values,
    total_loss,
)


class StepGradients:
    """Computes the gradients of steps, on one rank."""

    def __init__(
        self,
        students: Mapping[str, StudentStep],
        loader: Loader,
        runtime: Runtime,
        *,
        sums: StepSums,
        scaler: torch.amp.GradScaler,
        shared_counts: bool,
    ) -> None:
        """`shared_counts`: losses are divided by the counts of all ranks, else by those of each rank alone."""
        self._students = students
        self._models = {name: runtime.wrapped(student) for name, student in students.items()}
        self._loader = loader
        self._runtime = runtime
        self._sums = sums
        self._scaler = scaler
        self._shared_counts = shared_counts

    def add(self, batches: Sequence[DrawnBatch], step: int) -> dict[str, float]:
        """Add the gradients of step `step` of the schedule to the weights; its values (see `step_values`)."""
        values = self._computed(batches, step)
        if values is None:
            raise self._out_of_memory(batches[0], step)
        return values

    def _computed(self, batches: Sequence[DrawnBatch], step: int) -> dict[str, float] | None:
        """Compute the gradients of a step from its micro-batches; its values, or None if the device lacks memory."""
        losses: list[StudentLoss] = []
        single = self._loader.one_pass
        try:
            denominators = None if single else self._denominators(batches, step)
            for index, batch in enumerate(batches):
                losses += self._backward(batch, step, denominators, synced=index == len(batches) - 1)
        except torch.OutOfMemoryError:
            return None  # the caller raises: while this exception lives, its frames keep the step's tensors alive
        return step_values(losses, (lambda values: values) if single else self._runtime.summed)

    def _denominators(self, batches: Sequence[DrawnBatch], step: int) -> dict[str, dict[str, Tensor]]:
        """The count of each loss term over the whole step, by student and term; empty where each rank divides alone."""
        device = self._runtime.device
        counts = loss_denominators(
            self._students,
            lambda: (batch.to(device, strong=False) for batch in batches),
            step,
            self._sums,
            self._runtime,
        )
        return counts if self._shared_counts else {}

    def _backward(
        self,
        batch: DrawnBatch,
        step: int,
        denominators: Mapping[str, Mapping[str, Tensor]] | None,
        *,
        synced: bool,
    ) -> list[StudentLoss]:
        """Add the gradients of one micro-batch, one student after the other, without waiting for the device.

        `denominators`: result of `_denominators`; None where the step has one micro-batch. `synced`: DDP averages the
        gradients over the ranks now, as after the last micro-batch of a step.
        """
        views = batch.to(self._runtime.device)
        losses = []
        self._sums.begin_micro_batch()
        with without_sync(*self._models.values(), wanted=not synced):
            for name, terms in run_students(self._students, views, step, called=self._models):
                if denominators is None:
                    loss, values = total_loss(terms, self._runtime, shared=self._shared_counts)
                else:
                    counts = denominators[name] if self._shared_counts else self._loader.shares
                    portion = len(batch.slots) / self._loader.crops
                    loss, values = micro_batch_loss(terms, counts, self._runtime, portion=portion)
                self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                losses.append(StudentLoss(name, {term: terms[term].weight for term in terms}, values))
        return losses

    def _out_of_memory(self, batch: DrawnBatch, step: int) -> ResourceError:
        """The error for a step that does not fit into memory, with the settings to try.

        On a single rank the batch is halved until a step fits. With several ranks half of it is named without a trial,
        because the other ranks would wait for this one.
        """
        size = len(batch.images)
        fitting, single_rank = size // 2, self._runtime.ranks == 1
        while single_rank and fitting:
            for model in self._models.values():
                model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            if self._computed([batch.first(fitting)], step) is not None:
                break
            fitting //= 2
        hint = "one crop alone does not fit: try a smaller --crop, or --checkpointing"
        if fitting:
            verdict = "fits" if single_rank else "needs half the memory"
            total = fitting * self._runtime.ranks
            accumulate = -(-self._loader.crops // total)
            hint = f"--batch {total} {verdict}; with --set accumulate={accumulate} a step has as many crops"
        return ResourceError(
            f"{self._runtime.device}: a step of {size} + {size} crops of {batch.images.shape[-1]} pixels "
            "does not fit into its memory",
            hint=hint,
        )
