"""A student together with its method: a batch in, the parts of its loss out. What DDP wraps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from co2s_cli.data.batch import Batch
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.student import Student
from co2s_cli.training.losses import Term
from co2s_cli.training.methods import Supervised
from co2s_cli.training.views import Guide, Passes, channel_masks, look


class Trainee(nn.Module):
    """One student. It sees the others as fixed maps, so that only one student's graph lives at a time.

    Its `guide` and the teachers that its method knows are no part of this module: DDP, optimiser and model file never
    see them.
    """

    def __init__(
        self,
        student: Student,
        method: Supervised,
        *,
        number: int,
        seed: int,
        guide: Guide | None = None,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
        checkpointed: bool = False,
    ) -> None:
        super().__init__()
        self.student = student
        self.mutual = method.mutual
        """Whether it wants to know what the others say."""
        self._method = method
        self._guide = guide
        self._number = number
        self._seed = seed
        self._dtype = dtype
        self._passes = Passes(student, compiled=compiled, checkpointed=checkpointed)

    def forward(self, batch: Batch, step: int, peers: Mapping[str, Tensor]) -> tuple[dict[str, Term], Tensor]:
        """Parts of its loss of `batch` in step `step` of the run; what it says about the weak view.

        `peers` and the second result are probabilities (b, N, S, S) of the unlabelled crops, without gradient.
        """
        method, passes, masks = self._method, self._passes, None
        if method.feature:
            masks = channel_masks(
                passes.widths, batch.slots, seed=self._seed, step=batch.step, student=self._number,
                device=batch.images.device,
            )  # fmt: skip
        with self._autocast(batch.images):
            views = look(
                passes, batch, strong=len(method.strong), feature=masks, own_weak=method.own_weak, guide=self._guide,
                taught=method.taught, translated=method.translated,
            )  # fmt: skip
            terms = method.terms(views, batch, peers, step)
        return terms, views.weak.detach().float().softmax(dim=1)

    @torch.no_grad()
    def glimpse(self, batch: Batch) -> Tensor:
        """What it says about the weak view, in a pass of its own."""
        own = batch.weak[: len(batch.images)]
        with self._autocast(own):
            return self._passes.chances(own)

    def _autocast(self, images: Tensor) -> torch.autocast:
        return torch.autocast(images.device.type, dtype=self._dtype, enabled=self._dtype != torch.float32)


def in_turns(
    trainees: Mapping[str, Trainee], batch: Batch, step: int, *, called: Mapping[str, nn.Module] | None = None
) -> Iterator[tuple[str, dict[str, Term]]]:
    """Name and parts of the loss of each student; its gradients are to be taken before the next one's turn.

    So the graphs of two students never share the memory. Where students learn from one another, those behind the
    first one say in a short pass of their own what the first one is to know. `called` are the trainees as DDP wraps
    them.
    """
    _, *later = trainees.items()
    said = {name: trainee.glimpse(batch) for name, trainee in later if trainee.mutual}
    for name, model in (called or trainees).items():
        peers = {peer: chances for peer, chances in said.items() if peer != name}
        terms, said[name] = model(batch, step, peers)
        yield name, terms


def parameter_groups(
    pair: Ensemble, lr: float, *, backbone: float, decoder: float, queries: float
) -> list[dict[str, object]]:
    """Optimiser groups: for each student its backbone, its learnable queries and its decoder, by their factor of `lr`.

    To the decoder of a dense student belongs what it fuses with. The base rate is kept in `base`; the schedule
    multiplies it.
    """
    groups: list[dict[str, object]] = []
    factors = {"backbone": backbone, "queries": queries, "decoder": decoder}
    for name, student in pair.students.items():
        for part, modules in student.parts().items():  # type: ignore[operator]
            rate = lr * factors[part]
            parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
            if parameters:
                groups.append({"params": parameters, "lr": rate, "base": rate, "name": f"{name}/{part}"})
    return groups
