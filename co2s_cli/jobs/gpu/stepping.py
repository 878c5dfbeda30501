"""Single training steps of networks with random weights on a batch of noise, for checks and measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from co2s_cli.data.batch import Batch
from co2s_cli.jobs.gpu.bench import CLASS_COUNT, Bench
from co2s_cli.models import weights
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.training.methods import METHODS, MethodRules
from co2s_cli.training.optimizer import parameter_groups
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.step import StudentStep, run_students
from co2s_cli.training.step_loss import total_loss


@dataclass(frozen=True, slots=True)
class Stepping:
    """The networks, the optimizer and the batch of repeated training steps."""

    pair: Ensemble
    students: dict[str, StudentStep]
    called: dict[str, nn.Module]
    """The students' steps, each wrapped by the function given to `of`, such as DDP."""
    optimizer: torch.optim.Optimizer
    batch: Batch
    device: torch.device

    @classmethod
    def of(
        cls,
        bench: Bench,
        *,
        batch: int,
        wrapped: Callable[[nn.Module], nn.Module] = lambda module: module,
    ) -> Stepping:
        """Steps of Co2S on `batch` labelled and `batch` unlabelled crops; all calls have the same weights."""
        pair = weights.load(bench.model("pair"), bench.device).train()
        threshold = torch.full((CLASS_COUNT,), 0.95, device=bench.device)
        method = METHODS["co2s"](MethodRules(threshold=threshold, steps=100))
        students = {
            name: StudentStep(student, method, number=number, seed=0, dtype=torch.float32)  # type: ignore[arg-type]
            for number, (name, student) in enumerate(pair.students.items())
        }
        groups = parameter_groups(pair, 1e-4, backbone=0.01, decoder=10, queries=1)
        called = {name: wrapped(student) for name, student in students.items()}
        return cls(pair, students, called, torch.optim.AdamW(groups), noise(bench, batch), bench.device)

    def step(self) -> float:
        """Make one step and wait for the device; returns the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for _, terms in run_students(self.students, self.batch, 50, called=self.called):
            loss, _ = total_loss(terms, Runtime(self.device), shared=True)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        for student in self.pair.students.values():
            nn.utils.clip_grad_norm_([p for p in student.parameters() if p.requires_grad], 1.0)
        self.optimizer.step()
        return float(total)


def noise(bench: Bench, count: int) -> Batch:
    """A batch of noise with a CutMix box in each strong view; the cost of a step does not depend on the content."""
    side, generator = bench.crop, torch.Generator().manual_seed(1)
    images = torch.rand(count, 3, side, side, generator=generator).to(bench.device)
    labels = torch.randint(0, CLASS_COUNT, (count, side, side), generator=generator).to(bench.device)
    everywhere = torch.ones(count, side, side, dtype=torch.bool, device=bench.device)
    box = torch.zeros_like(everywhere)
    box[:, side // 6 : side // 2, side // 4 : 3 * side // 4] = True
    return Batch(
        step=0,
        slots=tuple(range(count)),
        images=images,
        labels=labels,
        seen=everywhere,
        weak=images.flip(-1),
        strong=(images.flip(-2), images * 0.8),
        valid=everywhere,
        boxes=(box, box),
        partner=torch.arange(count, device=bench.device) ^ 1,
    )
