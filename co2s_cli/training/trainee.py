"""The model together with its method: a batch in, the parts of the loss out. What DDP wraps."""

from __future__ import annotations

import torch
from torch import nn

from co2s_cli.data.loader import Batch
from co2s_cli.models.pair import Pair
from co2s_cli.models.student import Student
from co2s_cli.training.losses import Term
from co2s_cli.training.methods import Supervised
from co2s_cli.training.views import Passes, channel_masks, look


class Trainee(nn.Module):
    """Both students go one code path; their graphs are disjoint, because each sees the other one detached."""

    def __init__(
        self,
        pair: Pair,
        method: Supervised,
        *,
        seed: int,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
        checkpointed: bool = False,
    ) -> None:
        super().__init__()
        self.pair = pair
        self._method = method
        self._seed = seed
        self._dtype = dtype
        self._passes = {
            name: Passes(student, compiled=compiled, checkpointed=checkpointed)  # type: ignore[arg-type]
            for name, student in pair.students.items()
        }

    def forward(self, batch: Batch, step: int) -> dict[str, Term]:
        """Parts of the loss of `batch` in step `step` of the run."""
        method = self._method
        views = {}
        with torch.autocast(batch.images.device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
            for index, (name, passes) in enumerate(self._passes.items()):
                masks = None
                if method.feature:
                    masks = channel_masks(
                        passes.widths, batch.slots, seed=self._seed, step=batch.step, student=index,
                        device=batch.images.device,
                    )  # fmt: skip
                views[name] = look(passes, batch, strong=len(method.strong), feature=masks)
        return method.terms(views, batch, step)


def parameter_groups(
    pair: Pair, lr: float, *, backbone: float, decoder: float, queries: float
) -> list[dict[str, object]]:
    """Optimiser groups: for each student its backbone, its learnable queries and its decoder, by their factor of `lr`.

    The base rate is kept in `base`; the schedule multiplies it.
    """
    groups: list[dict[str, object]] = []
    for name, student in pair.students.items():
        assert isinstance(student, Student)
        for part, module, factor in (
            ("backbone", student.backbone, backbone),
            ("queries", student.guidance, queries),
            ("decoder", student.decoder, decoder),
        ):
            parameters = [p for p in module.parameters() if p.requires_grad]
            if parameters:
                groups.append({"params": parameters, "lr": lr * factor, "base": lr * factor, "name": f"{name}/{part}"})
    return groups
